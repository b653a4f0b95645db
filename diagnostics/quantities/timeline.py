"""What a monitor recorded of a training run: of the run as a whole, and of each recurrence."""

from dataclasses import dataclass

from numpy.typing import NDArray

from diagnostics.quantities.base import Quantity
from diagnostics.quantities.statistics import Floats


@dataclass(frozen=True, kw_only=True)
class Course(Quantity):
    """Course of a run of N training steps, M of them measured.

    value: the last finite loss.  loss: (N,), by step, NaN where none was given.  steps: (N,),
    numbers of those steps.  measured: (M,), numbers of the measured ones.  update_names: of the P
    parameters; update_ratio: (M, P), ||change|| / ||value||, NaN where there is none.  breaks:
    steps at which something broke first.
    """

    loss: Floats
    steps: NDArray
    measured: NDArray
    update_names: list[str]
    update_ratio: Floats
    breaks: NDArray


@dataclass(frozen=True, kw_only=True)
class Timeline(Quantity):
    """One level and direction of a recurrent layer over M measured training steps.

    value: the last decay rate; ci: (2,) or None.  steps: (M,), numbers of the training steps.
    flow: (M, T+1), median over sequences of ||delta_t||, all states together, NaN where a step's
    sequences were shorter; states[k]: the same of one state.  rho: (M,), decay rate; rho_ci:
    (M, 2).  exponent: (M,), first Lyapunov exponent.  low[k], high[k], slope[k]: (M,), of gate k,
    the fractions of time that its units spend at the ends, and their mean derivative.  vanished:
    (M,), part of the rows in which more than half of delta is zero or subnormal.
    """

    steps: NDArray
    flow: Floats
    states: dict[str, Floats]
    rho: Floats
    rho_ci: Floats
    exponent: Floats
    low: dict[str, Floats]
    high: dict[str, Floats]
    slope: dict[str, Floats]
    vanished: Floats
