"""Loss scaling: it moves the lag at which a gradient underflows, and changes nothing else."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.local_gradients import local_of_layer
from diagnostics.quantities.numeric_health import health_of_record
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.watching import sweep_flops

SCALES = tuple(2.0**power for power in range(0, 25, 8))


@dataclass(frozen=True, kw_only=True)
class LossScaling(Quantity):
    """Underflow and overflow by the loss's scale.

    value: (K,), the lag up to which at least half of delta is a normal number, counted from the
    last row.  scales: (K,).  vanished, nonfinite: (K,), shares of the entries of delta before the
    last loss.  best: the largest scale at which everything stays finite; NaN if there is none.
    """

    scales: Floats
    vanished: Floats
    nonfinite: Floats
    best: float


def underflow_horizon(
    rho: float, dtype: DTypeLike = np.float32, start: float = 1.0, scale: float = 1.0
) -> float:
    """Return the last lag k at which ``scale * start * rho^k`` is not yet rounded to zero.

    Parameters
    ----------
    rho : decay rate per step
    dtype : float16, float32 or float64; subnormal numbers are used to their end
    start : size of the gradient at lag 0
    scale : factor on the loss; 2^k moves the horizon by k / log2(1/rho) steps
    """
    if not (start > 0 and scale > 0 and rho >= 0):
        raise ValueError(
            "underflow_horizon: start and scale must be positive and rho not negative, got "
            f"start={start}, scale={scale}, rho={rho}"
        )
    if rho >= 1:
        return float("inf")
    # Half of the smallest subnormal number is a tie, and goes to the even neighbour, zero.
    room = math.log2(start) + math.log2(scale) - math.log2(_smallest(dtype)) + 1
    if rho == 0:
        return 0.0 if room > 0 else -1.0
    lags = room / -math.log2(rho)
    nearest = round(lags)
    return float(nearest - 1 if abs(lags - nearest) < 1e-9 else math.floor(lags))


def loss_scaling(
    layer: Any,
    x: Any,
    d_output: Any,
    scales: Any = SCALES,
    direction: int = 0,
    level: int = -1,
    lengths: Any = None,
) -> LossScaling:
    """Measure under- and overflow of one level of a layer at several scales of the loss.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    scales : factors on the loss
    direction : 0 forward, 1 reverse
    level : of a stacked layer, by default the top one
    lengths : (B,), as the layer takes them
    """
    record, local = local_of_layer("loss_scaling", layer, x, d_output, direction, level, lengths)
    return scaling_of_record(record, local, scales, sweep_flops(layer, record, level, direction))


def scaling_of_record(record: Any, local: Any, scales: Any = SCALES, flops: int = 0) -> LossScaling:
    """Sweep a record backward at several scales of its local gradients."""
    factors = np.asarray(list(scales), np.float64)
    if not len(factors) or not (factors > 0).all():
        raise ValueError(f"loss_scaling: scales must be positive numbers, got {factors.tolist()}")
    horizons, vanished, nonfinite = [], [], []
    rows = len(next(iter(local.values()))) - 1
    for factor in factors:
        with np.errstate(over="ignore"):
            scaled = {k: (a * factor).astype(a.dtype) for k, a in local.items()}
        health = health_of_record(record, record.pullback(d_state=scaled), scaled)
        last = rows if health.first_vanished is None else rows - health.first_vanished - 1
        horizons.append(float(last))
        vanished.append(_mean(health.zero + health.subnormal))
        nonfinite.append(_mean(health.nonfinite))
    finite = factors[np.array(nonfinite) == 0]
    return LossScaling(
        value=np.array(horizons),
        how=(
            "one backward pass per scale; the horizon is counted from the last row to the first "
            "one whose delta has more than half of its entries at zero or below the normal range"
        ),
        cost=Cost(sweeps=1 + len(factors), flops=flops * (1 + len(factors))),
        scales=factors,
        vanished=np.array(vanished),
        nonfinite=np.array(nonfinite),
        best=float(finite.max()) if len(finite) else float("nan"),
    )


def _mean(shares: Floats) -> float:
    there = shares[~np.isnan(shares)]
    return float(there.mean()) if len(there) else 0.0


def _smallest(dtype: DTypeLike) -> float:
    return float(np.finfo(dtype).smallest_subnormal)
