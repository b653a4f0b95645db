"""Step Jacobians in pieces that fit the cache: of a layer, or of arrays that are given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.arguments import check_layer
from diagnostics.quantities.base import Cost
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.step_jacobians import StepJacobians
from diagnostics.quantities.watching import evaluating, record_of, sweep_flops

PIECE = 2**25  # bytes of Jacobians held at a time

Piece = tuple[Floats, NDArray[np.bool_]]


@dataclass(frozen=True)
class Source:
    """A sequence of Jacobians that can be walked through more than once.

    size S; eps: rounding of the dtype that they were computed in; inside: (T, B), whether a step
    belongs to its sequence.  ``pieces(chosen)`` yields those of some steps (all by default), a few
    at a time: (K, B, S, S) in float64 and (K, B), of inside.  ``mean()`` is the mean over all that
    do, (S, S) in float64.  ``of_sequences(picked)`` has some sequences alone, by their indices.
    """

    size: int
    eps: float
    inside: NDArray[np.bool_]
    cost: Cost
    pieces: Callable[..., Iterator[Piece]]
    mean: Callable[[], Floats]
    of_sequences: Callable[[NDArray[np.int64]], "Source"]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.inside)

    @property
    def batch(self) -> int:
        """B."""
        return self.inside.shape[1]

    @property
    def count(self) -> int:
        """How many steps belong to their sequences."""
        return int(self.inside.sum())

    def spread(self, count: int) -> NDArray[np.int64]:
        """Pick so many sequences, spread over those that have a step; all if there are fewer."""
        there = np.flatnonzero(self.inside.any(axis=0))
        there = there if len(there) else np.arange(self.batch)
        if count >= len(there):
            return there
        return there[np.round(np.linspace(0, len(there) - 1, count)).astype(np.int64)]


def source_of(
    place: str, given: Any, x: Any, level: int = -1, direction: int = 0, lengths: Any = None
) -> Source:
    """Make a source of a layer with its input x, of `StepJacobians`, or of (T, [B,] S, S)."""
    if isinstance(given, minirnn.Recurrent):
        if x is None:
            raise ValueError(f"{place}: a layer needs its input; pass x")
        check_layer(place, given, level, direction)
        with evaluating(given), minirnn.no_grad(), minirnn.watch(given) as seen:
            given(x, lengths=lengths)
        record = record_of(given, seen, level, direction)
        return source_of_record(place, record, sweep_flops(given, record, level, direction))
    if isinstance(given, StepJacobians):
        return source_of_arrays(place, given.value, given.valid)
    return source_of_arrays(place, np.asarray(given))


def source_of_record(place: str, record: Any, flops: int = 0, sequences: Any = None) -> Source:
    """Make a source of a record of `minirnn.watch` (one level, one direction).

    sequences: which, by their indices, default all.
    """
    states = record.states
    rows, batch, hidden = next(iter(states.values())).shape
    dtype = next(iter(states.values())).dtype
    steps, size = rows - 1, hidden * len(states)
    _check(place, steps, batch)
    some = np.arange(batch) if sequences is None else sequences
    alive = np.ones((steps, len(some)), bool)
    if record.lengths is not None:
        alive = np.arange(steps)[:, None] < np.asarray(record.lengths)[some]

    def pieces(chosen: Any = None) -> Iterator[Piece]:
        for part in _parts(steps if chosen is None else chosen, len(some), size):
            yield record.step_jacobians(part, some).astype(np.float64), alive[part]

    return Source(
        size=size,
        eps=float(np.finfo(dtype).eps),
        inside=alive,
        cost=Cost(sweeps=1, flops=flops, bytes=steps * len(some) * size * size * dtype.itemsize),
        pieces=pieces,
        mean=lambda: record.mean_jacobian(some),
        of_sequences=lambda picked: source_of_record(place, record, flops, some[picked]),
    )


def _parts(chosen: Any, batch: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Cut steps, or all of so many, into parts whose Jacobians fit the cache."""
    steps = np.arange(chosen) if isinstance(chosen, int) else np.asarray(chosen, np.int64)
    width = max(1, PIECE // max(1, batch * size * size * 8))
    for first in range(0, len(steps), width):
        yield steps[first : first + width]


def source_of_arrays(place: str, jacobians: Any, valid: Any = None) -> Source:
    """Make a source of arrays: (T, S, S) of one sequence or (T, B, S, S)."""
    array = np.asarray(jacobians)
    if array.ndim not in (3, 4) or array.shape[-1] != array.shape[-2] or not array.shape[-1]:
        raise ValueError(
            f"{place}: jacobians must have shape (T, S, S) or (T, B, S, S), got {array.shape}; "
            "for a layer pass the layer and its input x"
        )
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{place}: jacobians must be real numbers, got dtype {array.dtype}")
    array = array[:, None] if array.ndim == 3 else array
    steps, batch, size = array.shape[:3]
    _check(place, steps, batch)
    alive = np.ones((steps, batch), bool) if valid is None else np.asarray(valid)
    eps = np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps

    def pieces(chosen: Any = None) -> Iterator[Piece]:
        for part in _parts(steps if chosen is None else chosen, batch, size):
            yield array[part].astype(np.float64), alive[part]

    def mean() -> Floats:
        total: Floats = np.zeros((size, size))
        for jacobians, there in pieces():
            total += jacobians[there].sum(axis=0)
        count = int(alive.sum())
        return total / count if count else np.full((size, size), np.nan)

    return Source(
        size=size,
        eps=float(eps),
        inside=alive,
        cost=Cost(bytes=array.nbytes),
        pieces=pieces,
        mean=mean,
        of_sequences=lambda picked: source_of_arrays(place, array[:, picked], alive[:, picked]),
    )


def _check(place: str, steps: int, batch: int) -> None:
    if steps == 0:
        raise ValueError(f"{place}: there must be at least one step, got T = 0")
    if batch == 0:
        raise ValueError(f"{place}: there must be at least one sequence, got a batch of 0")
