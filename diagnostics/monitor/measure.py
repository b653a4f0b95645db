"""What one measured training step says of one level and direction of a recurrent layer.

Level "cheap": the gradient's norm at every row, its decay rate, gates, timescales, numbers that
left their range. "standard" adds lag gain with intervals, credit, and the recurrence's eigenvalues;
"full" adds singular values and Lyapunov exponents. What needs the loss once more (truncation, the
influence map, a run in float64) is `diagnose`'s.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.measuring import DECOMPOSED, LEVELS, SEQUENCES
from diagnostics.monitor.sight import Kept, Place
from diagnostics.quantities.base import Cost, Quantity, encode, saved_fields, significant
from diagnostics.quantities.credit import credit_of_record
from diagnostics.quantities.decay_rate import DecayRate, decay_rate, first_lag, horizon_of, rate_of
from diagnostics.quantities.equations import Structure, structure_of
from diagnostics.quantities.gate_statistics import GateStatistics, statistics_of_record
from diagnostics.quantities.jacobian_source import source_of_record
from diagnostics.quantities.kept_share import KeptShare, kept_share
from diagnostics.quantities.lag_gain import lag_gain_of_record
from diagnostics.quantities.lags import gains_of
from diagnostics.quantities.linearisation import blocks_of, linearisation_of_source
from diagnostics.quantities.lyapunov import spectrum_of_source
from diagnostics.quantities.numeric_health import health_of_record
from diagnostics.quantities.singular_values import bound_of_source, values_of_source
from diagnostics.quantities.statistics import joint_norm, row_medians, sum_of_squares
from diagnostics.quantities.timescales import timescales_of_gates, timescales_of_share
from diagnostics.quantities.watching import parameters_of, sweep_flops

SOURCES = 8  # rows that the lag gain starts from, level "standard"
EXPONENTS = 8  # Lyapunov exponents, level "full"
DIGITS = 5  # significant digits of a file's numbers


@dataclass(frozen=True)
class Effort:
    """How much is measured.  level: "cheap", "standard" or "full".  seed: of random vectors."""

    level: str
    seed: int = 0

    def reaches(self, level: str) -> bool:
        """Whether what belongs to a level is measured."""
        return LEVELS.index(self.level) >= LEVELS.index(level)

    def look(self, layer: Any, call: Any, start: int) -> dict[Place, Kept]:
        """Keep a call's records, and measure what cannot be measured after the update."""
        kept = {}
        places = [(i, j) for i in range(layer.num_layers) for j in range(layer.directions)]
        with np.errstate(all="ignore"):
            for place in places:
                record = call[place]
                if not _steps(record):
                    return {}  # nothing went through the layer
                kept[place] = Kept(record, record.inputs)
                if self.reaches("standard"):
                    kept[place].operands = dict(record.operands)
                    kept[place].found = _forward(layer, call, place, start, self)
                else:
                    kept[place].found = {"decay_rate": rate_from_the_end(record, self.seed)}
        return kept


def measure(layer: Any, kept: Kept, place: Place, effort: Effort) -> dict[str, Any]:
    """Measure one level and direction after the backward pass, as a row of the file holds it.

    Returns "flow": the median over sequences of the norm of delta at every row, (T+1,), of all
    states together and of each; "gates": means over time and units; "quantities": by name.
    """
    structure = structure_of(layer.cell)
    delta = dict(kept.carried_grads)
    norms = {k: joint_norm([d]) for k, d in delta.items()}
    rows = len(next(iter(norms.values())))
    inside = None
    if kept.lengths is not None:
        inside = np.arange(rows)[:, None] <= np.asarray(kept.lengths)
    flow = {k: shortened(row_medians(n, inside)) for k, n in norms.items()}
    joint = next(iter(flow.values()))  # of a cell with one state
    if len(norms) > 1:
        together = joint_norm([np.stack(list(norms.values()), axis=-1)])
        joint = shortened(row_medians(together, inside))
    found, gates = _gates(kept, structure)
    doubtful = not _finite_gradients(layer, place)
    found["numeric_health"] = health_of_record(kept, kept, delta, gate_grads=doubtful)
    found |= kept.found
    if effort.reaches("standard"):
        found["credit"] = _credit(layer, kept, sweep_flops(layer, kept.record, *place))
    return {
        "flow": {"joint": joint, "states": flow},
        "gates": gates,
        "quantities": {name: shortened(_without_units(q)) for name, q in found.items()},
    }


def rate_from_the_end(record: Any, seed: int = 0) -> DecayRate:
    """Measure the decay rate with one sweep: a unit vector at each sequence's last row.

    Without an interval, and for gains from the end alone: what a training step can afford.
    """
    state = next(iter(record.states))
    rows, batch, hidden = record.states[state].shape
    steps = rows - 1
    ends = np.full(batch, steps) if record.lengths is None else np.asarray(record.lengths)
    v = _unit_vectors(batch, hidden, seed)
    swept = record.pullback(d_state=(v, *(None for _ in range(len(record.states) - 1))))
    arrays = list(swept.carried_grads.values())
    samples = gains_of(joint_norm(arrays), ends, steps - 1)  # (B, T)
    reached = None if record.lengths is None else ends > np.arange(steps)[:, None]
    gain = row_medians(samples.T, reached)
    rho = rate_of(gain, float(np.finfo(arrays[0].dtype).tiny))
    first = first_lag(steps - 1)
    return DecayRate(
        value=rho,
        horizon=horizon_of(rho),
        lags=(first, steps - 1),
        how=(
            f"a random unit vector on state {state} at each sequence's last row, carried back "
            f"through the recurrence alone; exp of the slope of the log of its norm's median over "
            f"lags {first} to {steps - 1}; one sweep, without an interval"
        ),
        cost=Cost(sweeps=1, bytes=sum(a.nbytes for a in arrays)),
    )


@lru_cache(maxsize=16)
def _unit_vectors(batch: int, hidden: int, seed: int) -> NDArray[np.float64]:
    """Draw random unit vectors, (B, H): the same at every measured step."""
    v = np.random.default_rng(seed).standard_normal((batch, hidden))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    v.flags.writeable = False
    return v


def shortened(value: Any) -> Any:
    """Encode for JSON with few significant digits: a file is read by people and kept for long."""
    return encode(_short(value))


def _short(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return significant(value, DIGITS)
    if isinstance(value, float):
        return float(f"%.{DIGITS}g" % value)
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _short(getattr(value, f.name)) for f in saved_fields(value)}
    return value


def _forward(
    layer: Any, call: Any, place: Place, start: int, effort: Effort
) -> dict[str, Quantity]:
    """Quantities of the forward pass, for which the parameters must be what they were in it."""
    record, flops = call[place], sweep_flops(layer, call[place], *place)
    share = kept_share(layer, call, *place, start)
    source = source_of_record("Monitor", record, flops)
    gain = lag_gain_of_record(record, SOURCES, seed=effort.seed, flops=flops)
    found: dict[str, Quantity] = {
        "lag_gain": gain,
        "decay_rate": decay_rate(gain),
        "gate_statistics": statistics_of_record(record, share),
        "memory_timescales": timescales_of_share(share),
        "linearisation": linearisation_of_source(source, blocks_of(layer, *place)),
    }
    if effort.reaches("full"):
        weight = parameters_of(layer, *place)["weight_hh"].numpy()
        picked = source.spread(SEQUENCES)
        few = source.of_sequences(picked)
        found["singular_values"] = values_of_source(source, DECOMPOSED, picked)
        found["product_bound"] = bound_of_source(few, weight, DECOMPOSED)
        exponents = min(EXPONENTS, source.size)
        found["lyapunov"] = spectrum_of_source(source, exponents, seed=effort.seed)
    return found


def _gates(kept: Kept, structure: Structure) -> tuple[dict[str, Quantity], dict[str, Any]]:
    """Saturation and timescales without intervals; and each gate's means over time and units."""
    steps, batch = kept.inputs.shape[:2]
    piece = np.zeros((steps, batch), np.int64)
    if kept.lengths is not None:
        piece[np.arange(steps)[:, None] >= np.asarray(kept.lengths)] = -1
    share = KeptShare(structure, piece, {}, np.array([np.count_nonzero(piece == 0)]))
    gates = statistics_of_record(kept, share)
    found: dict[str, Quantity] = {
        "gate_statistics": gates,
        "memory_timescales": timescales_of_gates(gates, structure),
    }
    means = {"low": gates.left, "high": gates.right, "mean": gates.mean, "slope": gates.slope}
    by_gate = {
        k: {name: shortened(float(np.mean(units[k]))) for name, units in means.items()}
        for k in gates.activations
    }
    return found, by_gate


def _finite_gradients(layer: Any, place: Place) -> bool:
    """Whether the gradients of the parameters are finite: then so is all that they are sums of."""
    grads = [p.grad for p in parameters_of(layer, *place).values()]
    return all(g is not None and np.isfinite(sum_of_squares(g)) for g in grads)


def _credit(layer: Any, kept: Kept, flops: int) -> Quantity:
    found = credit_of_record(layer.cell, kept, layer.bias, 2 * flops)
    if layer.cell.vectors and not kept.vector_grads:
        how = f"{found.how}; vector parameters left out: the optimizer had stepped before"
        return dataclasses.replace(found, how=how)
    return found


def _without_units(quantity: Quantity) -> Quantity:
    """Leave out what a file would hold four times per unit and gate."""
    if isinstance(quantity, GateStatistics):
        return dataclasses.replace(quantity, left={}, right={}, mean={}, slope={})
    return quantity


def _steps(record: Any) -> int:
    """Count the steps of the longest sequence, 0 where there is none."""
    if not record.inputs.shape[1]:
        return 0
    rows = len(next(iter(record.states.values()))) - 1
    return rows if record.lengths is None else int(np.max(record.lengths, initial=0))
