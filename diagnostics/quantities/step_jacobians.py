"""The Jacobian of every step: how the states after it answer to the states before it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.arguments import check_layer
from diagnostics.quantities.base import UNSAVED, Cost, Quantity
from diagnostics.quantities.watching import evaluating, record_of, sweep_flops


@dataclass(frozen=True, kw_only=True)
class StepJacobians(Quantity):
    """Jacobians of K steps.

    value: (K, B, S, S); [k, b, i, j] is the derivative of entry i of the states after step
    steps[k] by entry j of the states before it, all states side by side.  valid: (K, B), False
    where the sequence has ended; the Jacobian is the identity there.  steps: (K,).
    """

    valid: NDArray[np.bool_] = field(metadata=UNSAVED)
    steps: NDArray[np.int64]


def step_jacobians(
    layer: Any,
    x: Any,
    steps: int | slice | Iterable[int] | None = None,
    level: int = -1,
    direction: int = 0,
    lengths: Any = None,
) -> StepJacobians:
    """Compute the Jacobian of the full state, step by step, exactly.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    steps : which: the first so many, a slice, or their indices; None: all T
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them

    Returns
    -------
    StepJacobians
        ``value`` (T, B, S, S), ``valid`` (T, B); rows are in processing order

    Raises
    ------
    ValueError
        The result would take more than 1 GiB; the message says how many steps fit.
    """
    check_layer("step_jacobians", layer, level, direction)
    with evaluating(layer), minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x, lengths=lengths)
    record = record_of(layer, seen, level, direction)
    flops = sweep_flops(layer, record, level, direction)
    return step_jacobians_of_record(record, steps, flops)


def step_jacobians_of_record(
    record: Any, steps: int | slice | Iterable[int] | None = None, flops: int = 0
) -> StepJacobians:
    """Compute the Jacobians on a record of `minirnn.watch` (one level, one direction)."""
    asked = steps
    if isinstance(steps, Iterable):  # an iterator would be used up by its first reader
        asked = list(steps)
    value = record.step_jacobians(asked)
    every = np.arange(len(next(iter(record.states.values()))) - 1)
    every = every[asked] if isinstance(asked, slice | list) else every[: len(value)]
    valid = np.ones(value.shape[:2], bool)
    if record.lengths is not None:
        valid = every[:, None] < np.asarray(record.lengths)
    return StepJacobians(
        value=value,
        how=(
            "partial derivatives of the cell's equations at the states of one forward pass, "
            "chained through the recurrent weights; exact up to rounding, no backward pass"
        ),
        cost=Cost(sweeps=1, flops=flops, bytes=value.nbytes),
        valid=valid,
        steps=every,
    )
