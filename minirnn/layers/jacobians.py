"""Jacobians of single steps, assembled from partial derivatives and the recurrent weights.

Forward mode over the cell's graph, for all states of the step before at once. A derivative stays a
diagonal as long as it is one: only a product with a block of the recurrent matrix, or a mean over
the units, makes it a matrix. No backward pass is run.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from minirnn.equations.partials import moved_by_states
from minirnn.equations.symbols import Symbol
from minirnn.layers.evaluate import Inputs, Values

Array = np.ndarray
Steps = int | slice | Iterable[int] | None
LIMIT = 2**30  # bytes of a result
_WORKING = 2**20  # bytes of one derivative while it is assembled: what stays in the cache


@dataclass(frozen=True)
class Derivative:
    """Derivative of a vector of the step by one state: ``diag(diagonal) + matrix``.

    diagonal: (N or 1, H) or None; matrix: (N or 1, H or 1, H) or None, one row for all units
    where the value itself is one number for all.
    """

    diagonal: Array | None = None
    matrix: Array | None = None

    def times(self, p: Array) -> "Derivative":
        """Multiply from the left by diag(p).  p: (N or 1, H or 1)."""
        return Derivative(
            None if self.diagonal is None else p * self.diagonal,
            None if self.matrix is None else p[:, :, None] * self.matrix,
        )

    def plus(self, other: "Derivative") -> "Derivative":
        """Add."""
        return Derivative(
            _sum(self.diagonal, other.diagonal),
            _sum(self.matrix, other.matrix),
        )

    def through(self, weight: Array) -> "Derivative":
        """Multiply from the left by a block of the recurrent matrix.  weight: (H, H)."""
        matrix = None if self.diagonal is None else weight * self.diagonal[:, None, :]
        if self.matrix is not None:
            full = np.broadcast_to(self.matrix, (len(self.matrix), *weight.shape))
            matrix = _sum(matrix, weight @ full)
        return Derivative(matrix=matrix)

    def mean(self) -> "Derivative":
        """Take the mean over the units of the vector."""
        row = None if self.diagonal is None else self.diagonal[:, None, :] / self.diagonal.shape[1]
        if self.matrix is not None:
            row = _sum(row, self.matrix.mean(axis=1, keepdims=True))
        return Derivative(matrix=row)


def _sum(a: Array | None, b: Array | None) -> Array | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def step_jacobians(
    inputs: Inputs, lengths: Array | None, chosen: Array
) -> Array:  # fmt: skip
    """Return the Jacobians of the chosen steps (K,), as (K, B, S, S).

    [k, b, i, j] is the derivative of entry i of the states after step chosen[k] by entry j of the
    states before it, all states of the cell side by side. Padded steps are the identity.
    """
    cell, units = inputs.run.cell, inputs.run.hidden_size
    batch, size = inputs.wx.shape[1], len(cell.state) * units
    out = np.zeros((len(chosen) * batch, size, size), inputs.run.dtype)
    t, b = np.repeat(chosen, batch), np.tile(np.arange(batch), len(chosen))
    alive = np.ones(len(t), bool) if lengths is None else t < lengths[b]
    rows = np.flatnonzero(alive)
    width = max(1, _WORKING // (units * units * out.itemsize))
    for first in range(0, len(rows), width):
        part = rows[first : first + width]
        out[part] = _assemble(inputs, inputs.at(t[part], b[part]))
    out[~alive] = np.eye(size, dtype=out.dtype)
    return out.reshape(len(chosen), batch, size, size)


def _assemble(inputs: Inputs, values: Values) -> Array:
    """Return the Jacobians of N rows, (N, S, S)."""
    cell, (count, units) = inputs.run.cell, values.shape
    dtype = inputs.run.dtype
    derivatives: dict[Symbol, dict[str, Derivative]] = {}
    for node, parts in moved_by_states(cell.outputs):
        by: dict[str, Derivative] = {}
        if node.op == "leaf":
            by[node.args[1]] = Derivative(np.ones((1, units), dtype))
        for argument, partial in parts:
            for state, d in derivatives[argument].items():
                if node.op == "product":
                    share = d.through(inputs.weights[node.args[0]])
                elif node.op == "mean":
                    share = d.mean()
                else:
                    with np.errstate(all="ignore"):
                        share = d.times(np.atleast_2d(np.asarray(values[partial], dtype)))
                by[state] = by[state].plus(share) if state in by else share
        derivatives[node] = by
    shape = (count, len(cell.state), units, len(cell.state), units)
    out = np.zeros(shape, dtype)
    diagonal = np.arange(units)
    for i, node in enumerate(cell.outputs):
        for j, state in enumerate(cell.state):
            d = derivatives.get(node, {}).get(state, Derivative())
            if d.matrix is not None:
                out[:, i, :, j, :] = d.matrix
            if d.diagonal is not None:
                out[:, i, diagonal, j, diagonal] += d.diagonal
    return out.reshape(count, len(cell.state) * units, -1)


def chosen_steps(steps: Steps, total: int) -> Array:
    """Return which of T steps are asked for: the first so many, a slice, or their indices."""
    place, everything = "step_jacobians", np.arange(total)
    if steps is None:
        return everything
    if isinstance(steps, slice):
        return everything[steps]
    if isinstance(steps, (int, np.integer)):
        if not 0 <= steps <= total:
            raise ValueError(f"{place}: steps must lie in 0 to T={total}, got {steps}")
        return everything[:steps]
    found = np.asarray(list(steps))
    if found.size == 0:
        return everything[:0]
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"{place}: steps must be a number of steps, a slice, or indices of steps, got {steps!r}"
        )
    if found.min() < -total or found.max() >= total:
        raise ValueError(
            f"{place}: steps must hold indices in 0 to {total - 1}, got {found.min()} to "
            f"{found.max()}"
        )
    return everything[found]


def check_size(chosen: int, batch: int, size: int, itemsize: int) -> None:
    """Refuse a result above 1 GiB."""
    one = batch * size * size * itemsize
    if chosen * one <= LIMIT:
        return
    fit = LIMIT // one
    way = (
        f"pass steps={fit} for the first {fit}, or steps=range(0, T, {-(-chosen // fit)}) for "
        "some of all"
        if fit
        else f"one step alone does; pass at most {LIMIT // (size * size * itemsize)} sequence(s)"
    )
    raise ValueError(
        f"step_jacobians: {chosen} steps of {batch} sequence(s) with S={size} would take "
        f"{chosen * one / 2**30:.1f} GiB, more than 1 GiB; {way}"
    )
