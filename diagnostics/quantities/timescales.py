"""How long a cell remembers: by its gates, and by what is left of its gradients."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.arguments import check_layer
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.equations import Structure
from diagnostics.quantities.gate_statistics import GateStatistics
from diagnostics.quantities.kept_share import KeptShare, kept_share
from diagnostics.quantities.lag_gain import LagGain
from diagnostics.quantities.statistics import Floats, interval, resamples
from diagnostics.quantities.watching import evaluating, record_of, sweep_flops

PERCENTILE = 95
REPLICATES = 200


@dataclass(frozen=True, kw_only=True)
class MemoryTimescales(Quantity):
    """Timescales of the units, tau = -1 / ln(mean share that a unit keeps of itself per step).

    value: the 95th percentile over the units of the states that keep anything by themselves, in
    steps; inf where nothing is ever lost, 0 where no state keeps itself (a plain RNN).  ci: (2,).
    tau[k]: (H,), of the units of state k.  keepers: the gates that decide it, and which way.
    n: steps of sequences that were counted.
    """

    tau: dict[str, Floats]
    keepers: dict[str, str]
    n: int


def timescale(kept: Any) -> Any:
    """Return -1 / ln(kept) in steps: 0 for 0, inf from 1 on."""
    share = np.asarray(kept, np.float64)
    with np.errstate(divide="ignore"):
        return np.where(share >= 1, np.inf, -1 / np.log(np.minimum(share, 1.0)))


def memory_timescales(
    layer: Any, x: Any, level: int = -1, direction: int = 0, lengths: Any = None
) -> MemoryTimescales:
    """Measure how long the units of a recurrent layer keep their states.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them; padded steps are not counted
    """
    check_layer("memory_timescales", layer, level, direction)
    with evaluating(layer), minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x, lengths=lengths)
    record = record_of(layer, seen, level, direction)
    flops = sweep_flops(layer, record, level, direction)
    return timescales_of_share(kept_share(layer, seen, level, direction), flops)


def timescales_of_share(share: KeptShare, flops: int = 0) -> MemoryTimescales:
    """Make the timescales from what the cell's equations say (`kept_share`)."""
    keeping = {k: total for k, total in share.total.items() if total.any()}
    tau = {k: timescale(mean) for k, mean in share.mean.items() if k in keeping}
    ci = None
    there = np.flatnonzero(share.steps)
    if keeping and len(there) >= 2:
        picks = there[resamples(len(there), REPLICATES)]
        steps = share.steps[picks].sum(axis=1)[:, None]
        units = [timescale(total[picks].sum(axis=1) / steps) for total in keeping.values()]
        ci = interval(_percentile(np.concatenate(units, axis=1)))
    return MemoryTimescales(
        value=float(_percentile(np.concatenate(list(tau.values())))) if tau else 0.0,
        ci=ci,
        how=(
            f"{PERCENTILE}th percentile over units of -1 / ln of the mean share of its state that "
            "a unit keeps in a step, with gates and recurrent products held fixed; interval: "
            "bootstrap over sequences, where there are few over pieces of them"
        ),
        cost=Cost(sweeps=1, flops=flops, bytes=sum(t.nbytes for t in share.total.values())),
        tau=tau,
        keepers=dict(share.structure.keepers),
        n=int(share.steps.sum()),
    )


def timescales_of_gates(gates: GateStatistics, structure: Structure) -> MemoryTimescales:
    """Make the timescales from the mean values of the gates that keep a state.

    For cells in which one gate alone decides what a unit keeps, where it is the same number.
    gates, structure: of the same cell.
    """
    ends = {k: structure.keepers[k] for k in structure.kept_by.values()}
    kept = {s: gates.mean[k] if ends[k] == "open" else 1 - gates.mean[k]
            for s, k in structure.kept_by.items()}  # fmt: skip
    tau = {k: timescale(mean) for k, mean in kept.items()}
    return MemoryTimescales(
        value=float(_percentile(np.concatenate(list(tau.values())))) if tau else 0.0,
        how=(
            f"{PERCENTILE}th percentile over units of -1 / ln of the mean value of the gate that "
            "decides what a unit keeps"
        ),
        cost=Cost(bytes=sum(m.nbytes for m in kept.values())),
        tau=tau,
        keepers=ends,
        n=gates.n,
    )


def effective_memory(gain: LagGain) -> float:
    """Return the sum over lags of G(k), in steps: 1 / (1 - rho) for a gain of rho^k.

    The integral timescale of the gradient; it counts the lags that were measured only.
    """
    return float(np.nansum(gain.value))


def gradient_timescale(rho: float) -> float:
    """Return the number of steps in which a gradient of decay rate rho falls to 1/e."""
    return float(timescale(rho))


def _percentile(tau: Floats) -> Floats:
    # An element, not a mean of two: infinities stay what they are.
    return np.asarray(np.quantile(tau, PERCENTILE / 100, axis=-1, method="higher"))
