"""Numbers that left the range of their type: where in time, in which gate, in which unit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.local_gradients import local_of_layer
from diagnostics.quantities.statistics import Floats, blocks_of, sum_of_squares
from diagnostics.quantities.watching import sweep_flops

Arrays = Mapping[str, NDArray[np.floating]]
NEAR = 1e6  # a row whose largest entry is within this of the smallest number is leaving the range
LOOKED = 8  # rows at a time in which the last loss is looked for


@dataclass(frozen=True, kw_only=True)
class NumericHealth(Quantity):
    """Zeros, subnormal and non-finite numbers in the gradient of every row.

    value: part of the rows before the last loss in which more than half of delta has vanished
    (exact zero or subnormal).  zero, subnormal, nonfinite: (T+1,), shares of the entries of
    delta, NaN where no sequence is judged.  first_vanished: the largest such row, counted from
    the start, or None.  events: for each kind ("nan", "inf", "underflow") the first place in
    processing order, forward and then backward: pass, kind, where, name, step, sequence, unit.
    n: entries that were judged.
    """

    zero: Floats
    subnormal: Floats
    nonfinite: Floats
    first_vanished: int | None
    rows: int
    events: list[dict[str, Any]]
    n: int


def numeric_health(
    layer: Any,
    x: Any,
    d_output: Any,
    direction: int = 0,
    level: int = -1,
    lengths: Any = None,
) -> NumericHealth:
    """Look for numbers that left their range in one level of a layer, forward and backward.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    direction : 0 forward, 1 reverse
    level : of a stacked layer, by default the top one
    lengths : (B,), as the layer takes them
    """
    record, local = local_of_layer("numeric_health", layer, x, d_output, direction, level, lengths)
    swept = record.pullback(d_state=local)
    return health_of_record(record, swept, local, sweep_flops(layer, record, level, direction))


def health_of_record(
    record: Any, swept: Any, local: Arrays, flops: int = 0, gate_grads: bool = True
) -> NumericHealth:
    """Look through a record and the gradients swept through it from `local` ones.

    gate_grads: False where those of the gates are known to be finite.
    """
    total = dict(swept.carried_grads)
    tiny = np.finfo(next(iter(total.values())).dtype).tiny
    extents = {k: _extent(d, tiny) for k, d in total.items()}
    # A state that no gradient ever reaches is no sign of anything: `stop` cut it off.
    judged = {k: d for k, d in total.items() if extents[k].largest != 0} or total
    rows = np.arange(len(next(iter(total.values()))))[:, None]
    before = rows < _last_losses(local)  # (T+1, B): what a loss reaches through the recurrence
    count = before.sum(axis=1) * sum(d.shape[-1] for d in judged.values())
    zero_share, small_share, bad_share = (np.where(count > 0, 0.0, np.nan) for _ in range(3))
    low = np.flatnonzero(np.any([extents[k].low for k in judged], axis=0))
    if len(low):
        size = np.abs(np.concatenate([d[low] for d in judged.values()], axis=-1))
        zero, small = size == 0, (size != 0) & (size < tiny)
        for share, found in ((zero_share, zero), (small_share, small)):
            share[low] = _share(found & before[low][..., None], count[low])
    if any(not extents[k].finite for k in judged):
        stacked = np.concatenate(list(judged.values()), axis=-1)
        bad_share = _share(~np.isfinite(stacked) & before[..., None], count)
    vanished = np.flatnonzero(zero_share + small_share > 0.5)
    possible = int((count > 0).sum())
    return NumericHealth(
        value=len(vanished) / possible if possible else 0.0,
        how=(
            "entries of delta at all rows before a sequence's last loss, states that no gradient "
            f"reaches left out; subnormal: below {tiny:.2g}; places are the first in processing "
            "order"
        ),
        cost=Cost(sweeps=2, flops=2 * flops, bytes=sum(d.nbytes for d in judged.values())),
        zero=zero_share,
        subnormal=small_share,
        nonfinite=bad_share,
        first_vanished=int(vanished[-1]) if len(vanished) else None,
        rows=possible,
        events=[*_forward(record), *_backward(swept, total, extents, before, gate_grads)],
        n=int(count.sum()),
    )


@dataclass(frozen=True)
class _Extent:
    """How far the entries of a gradient reach.

    low: (T+1,), False for rows in which none is below the smallest normal number, nor NaN.
    largest: absolute value, NaN if there is one.
    """

    low: NDArray[np.bool_]
    largest: float

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.largest))


def _extent(d: NDArray[np.floating], tiny: Any) -> _Extent:
    """Look over a gradient once.  d: (T+1, B, H)."""
    low, largest = np.zeros(len(d), bool), 0.0
    for part in blocks_of(d):
        size = np.abs(d[part])
        low[part] = not size.min(initial=np.inf) >= tiny
        largest = np.maximum(largest, size.max(initial=0.0))  # of NaN and a number: NaN
    return _Extent(low, float(largest))


def _last_losses(local: Arrays) -> NDArray[np.int64]:
    """Return the last row at which each sequence has a loss, 0 where there is none.  (B,)."""
    rows, batch = next(iter(local.values())).shape[:2]
    last = np.zeros(batch, np.int64)
    for end in range(rows, 0, -LOOKED):  # nearly always all are found at once
        first = max(0, end - LOOKED)
        source = np.any([(eps[first:end] != 0).any(axis=-1) for eps in local.values()], axis=0)
        found = end - 1 - np.argmax(source[::-1], axis=0)
        last = np.where((last == 0) & source.any(axis=0), found, last)
        if last.all():
            break
    return last


def _suspect(a: NDArray[np.floating]) -> bool:
    """Whether an array may hold a number that is not finite; False is certain, True is not.

    The sum of squares is not finite then.  One quick pass, where nearly always there is nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return not np.isfinite(sum_of_squares(a))


def _share(found: Any, count: Any) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, found.sum(axis=(1, 2)) / count, np.nan)


def _forward(record: Any) -> Iterator[dict[str, Any]]:
    """First NaN and first infinity on the way forward: inputs, then gates, then states."""
    looked = [("inputs", "x", record.inputs, 0)]
    looked += [("gates", k, a, 1) for k, a in record.gates.items()]
    looked += [("states", k, a[1:], 2) for k, a in record.states.items()]
    looked = [look for look in looked if _suspect(look[2])]
    for kind, test in (("nan", np.isnan), ("inf", np.isinf)):
        places = [_first(test(a), where, name, order) for where, name, a, order in looked]
        yield from _earliest("forward", kind, places)


def _backward(
    swept: Any, total: Arrays, extents: Mapping[str, _Extent], before: Any, gate_grads: bool
) -> Iterator[dict[str, Any]]:
    """First NaN, infinity and underflow on the way back: from the last row on."""
    looked = [("delta", k, a, 0) for k, a in total.items() if not extents[k].finite]
    if gate_grads:
        grads = [("gate_grads", k, a, 1) for k, a in swept.gate_grads.items()]
        looked += [look for look in grads if _suspect(look[2])]
    for kind, test in (("nan", np.isnan), ("inf", np.isinf)):
        places = [_first(test(a), where, name, order, True) for where, name, a, order in looked]
        yield from _earliest("backward", kind, places)
    yield from _earliest("backward", "underflow", _underflows(total, extents, before))


def _underflows(total: Arrays, extents: Mapping[str, _Extent], before: Any) -> list["Place"]:
    """Return for each state where its gradient leaves the range first, on the way back."""
    low = np.flatnonzero(np.any([extent.low for extent in extents.values()], axis=0))
    if not len(low):
        return []
    tiny = np.finfo(next(iter(total.values())).dtype).tiny
    sizes = {k: np.abs(a[low]) for k, a in total.items()}
    largest = np.max([size.max(axis=-1) for size in sizes.values()], axis=0)
    leaving = before[low] & (largest < NEAR * tiny)
    places = []
    for k, size in sizes.items():
        gone = (size < tiny) & leaving[..., None]
        subnormal = (size != 0) & (size < tiny)
        found = subnormal | (gone if extents[k].largest != 0 else False)
        places.append(_first(found, "delta", k, 0, back=True, rows=low))
    return places


Place = tuple[tuple[int, int], dict[str, Any]] | None


def _first(
    found: Any, where: str, name: str, order: int, back: bool = False, rows: Any = None
) -> Place:
    """Return where an array (rows, B, units) is true for the first time, with a key to sort by.

    rows: numbers of its rows, default 0, 1 ...  Rows of the way back are those of the states; a
    gate's step t leads to row t + 1.
    """
    if not found.any():
        return None
    there = np.flatnonzero(found.any(axis=(1, 2)))
    index = int(there[-1] if back else there[0])
    row = index if rows is None else int(rows[index])
    sequence, unit = (int(i[0]) for i in np.nonzero(found[index]))
    place = {"where": where, "name": name, "step": row, "sequence": sequence, "unit": unit}
    at = -(row + (where == "gate_grads")) if back else row
    return (at, order), place


def _earliest(way: str, kind: str, places: list[Place]) -> Iterator[dict[str, Any]]:
    there = [place for place in places if place is not None]
    if there:
        yield {"pass": way, "kind": kind, **min(there, key=lambda place: place[0])[1]}
