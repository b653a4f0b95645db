"""Jacobians of single steps, assembled from partial derivatives and the recurrent weights.

Forward mode over the cell's graph, for all states of the step before at once. A derivative stays a
diagonal as long as it is one. A product with a block W of the recurrent matrix makes it
diag(left) W diag(right); it stays that until it is written down, or meets a second product. No
backward pass is run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from minirnn.equations.partials import moved_by_states
from minirnn.equations.symbols import Symbol
from minirnn.layers.evaluate import Inputs, Values

Array = np.ndarray
Chosen = int | slice | Iterable[int] | None
LIMIT = 2**30  # bytes of a result
_WORKING = 2**20  # bytes of one derivative while it is assembled: what stays in the cache


@dataclass(frozen=True)
class Term:
    """``diag(left) W diag(right)`` for N rows.

    left: (N or 1, H or 1).  right: (N or 1, H).  weight: W (H, H); None for the matrix of ones,
    of a mean.
    """

    left: Array
    weight: Array | None
    right: Array

    def dense(self) -> Array:
        """Return it written down, (N or 1, H or 1, H)."""
        right = self.right[:, None, :]
        return self.left[:, :, None] * (right if self.weight is None else self.weight * right)

    def total(self, count: int, units: int) -> Array:
        """Sum over N rows, (H, H), in double precision: one product."""
        left, right = (
            np.broadcast_to(a, (count, units)).astype(np.float64) for a in (self.left, self.right)
        )
        total = left.T @ right
        return total if self.weight is None else self.weight * total


@dataclass(frozen=True)
class Derivative:
    """Derivative of a vector of the step by one state: ``diag(diagonal) + terms + matrix``.

    diagonal: (N or 1, H) or None; terms: by the node that made them; matrix: (N or 1, H or 1, H)
    or None, one row for all units where the value itself is one number for all.
    """

    diagonal: Array | None = None
    terms: Mapping[Symbol, Term] = field(default_factory=dict)
    matrix: Array | None = None

    def times(self, p: Array) -> "Derivative":
        """Multiply from the left by diag(p).  p: (N or 1, H or 1)."""
        return Derivative(
            None if self.diagonal is None else p * self.diagonal,
            {k: replace(term, left=p * term.left) for k, term in self.terms.items()},
            None if self.matrix is None else p[:, :, None] * self.matrix,
        )

    def plus(self, other: "Derivative") -> "Derivative":
        """Add."""
        terms = dict(self.terms)
        for k, term in other.terms.items():  # what one node made differs by its left factor alone
            terms[k] = replace(term, left=terms[k].left + term.left) if k in terms else term
        return Derivative(
            _sum(self.diagonal, other.diagonal), terms, _sum(self.matrix, other.matrix)
        )

    def through(self, node: Symbol, weight: Array) -> "Derivative":
        """Multiply from the left by a block of the recurrent matrix.  weight: (H, H)."""
        terms, matrix = {}, self.dense()
        if self.diagonal is not None:
            terms[node] = Term(np.ones((1, 1), weight.dtype), weight, self.diagonal)
        if matrix is not None:
            matrix = weight @ np.broadcast_to(matrix, (len(matrix), *weight.shape))
        return Derivative(None, terms, matrix)

    def mean(self, node: Symbol) -> "Derivative":
        """Take the mean over the units of the vector."""
        row = None if self.diagonal is None else self.diagonal / self.diagonal.shape[1]
        for term in self.terms.values():
            units = term.right.shape[1]
            left = np.broadcast_to(term.left, (len(term.left), units)) / units
            summed = left.sum(axis=1, keepdims=True) if term.weight is None else left @ term.weight
            row = _sum(row, summed * term.right)
        if self.matrix is not None:
            row = _sum(row, self.matrix.mean(axis=1))
        return Derivative(terms={} if row is None else {
            node: Term(np.ones((1, 1), row.dtype), None, row)
        })  # fmt: skip

    def dense(self) -> Array | None:
        """Return all but the diagonal as a matrix, (N or 1, H or 1, H), or None."""
        matrix = self.matrix
        for term in self.terms.values():
            matrix = _sum(matrix, term.dense())
        return matrix

    def total(self, count: int, units: int) -> Array:
        """Sum over N rows, (H, H), in double precision."""
        found = np.zeros((units, units))
        for term in self.terms.values():
            found += term.total(count, units)
        if self.matrix is not None:
            matrix = np.broadcast_to(self.matrix, (count, units, units))
            found += matrix.sum(axis=0, dtype=np.float64)
        if self.diagonal is not None:
            diagonal = np.broadcast_to(self.diagonal, (count, units))
            found[np.diag_indices(units)] += diagonal.sum(axis=0, dtype=np.float64)
        return found


def _sum(a: Array | None, b: Array | None) -> Array | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def step_jacobians(inputs: Inputs, lengths: Array | None, chosen: Array, sequences: Array) -> Array:
    """Return the Jacobians of the chosen steps (K,) of some sequences (N,), as (K, N, S, S).

    [k, n, i, j] is the derivative of entry i of the states after step chosen[k] by entry j of the
    states before it, all states of the cell side by side. Padded steps are the identity.
    """
    cell, units = inputs.run.cell, inputs.run.hidden_size
    size = len(cell.state) * units
    out = np.zeros((len(chosen) * len(sequences), size, size), inputs.run.dtype)
    t, b = np.repeat(chosen, len(sequences)), np.tile(sequences, len(chosen))
    alive = np.ones(len(t), bool) if lengths is None else t < lengths[b]
    rows = np.flatnonzero(alive)
    width = max(1, _WORKING // (units * units * out.itemsize))
    with np.errstate(all="ignore"):
        for first in range(0, len(rows), width):
            part = rows[first : first + width]
            out[part] = _assemble(inputs, inputs.at(t[part], b[part]))
    out[~alive] = np.eye(size, dtype=out.dtype)
    return out.reshape(len(chosen), len(sequences), size, size)


def mean_jacobian(inputs: Inputs, lengths: Array | None, sequences: Array) -> Array:
    """Return the mean of the Jacobians of all steps of some sequences, (S, S), in float64.

    Padded steps do not count; NaN where there is no other.
    """
    cell, units = inputs.run.cell, inputs.run.hidden_size
    steps = inputs.wx.shape[0]
    t, b = np.repeat(np.arange(steps), len(sequences)), np.tile(sequences, steps)
    if lengths is not None:
        alive = t < lengths[b]
        t, b = t[alive], b[alive]
    # Rows at a time: few where each is a matrix, many where all of them are summed as a product.
    each = units * units if _second_products(cell.outputs) else 8 * units
    width = max(1, _WORKING // (each * inputs.run.dtype.itemsize))
    count = len(cell.state)
    total = np.zeros((count, units, count, units))
    with np.errstate(all="ignore"):
        for first in range(0, len(t), width):
            values = inputs.at(t[first : first + width], b[first : first + width])
            for i, by in enumerate(_derivatives(inputs, values)):
                for j, state in enumerate(cell.state):
                    if state in by:
                        total[i, :, j, :] += by[state].total(*values.shape)
        return total.reshape(count * units, -1) / np.float64(len(t))


def _second_products(outputs: tuple[Symbol, ...]) -> bool:
    """Whether a product's operand depends on the states by way of another product."""
    behind: set[Symbol] = set()
    for node, parts in moved_by_states(outputs):
        through = any(argument in behind for argument, _ in parts)
        if through and node.op == "product":
            return True
        if through or node.op in ("product", "mean"):
            behind.add(node)
    return False


def _assemble(inputs: Inputs, values: Values) -> Array:
    """Return the Jacobians of N rows, (N, S, S)."""
    cell, (count, units) = inputs.run.cell, values.shape
    shape = (count, len(cell.state), units, len(cell.state), units)
    out = np.zeros(shape, inputs.run.dtype)
    diagonal = np.arange(units)
    for i, by in enumerate(_derivatives(inputs, values)):
        for j, state in enumerate(cell.state):
            d = by.get(state, Derivative())
            matrix = d.dense()
            if matrix is not None:
                out[:, i, :, j, :] = matrix
            if d.diagonal is not None:
                out[:, i, diagonal, j, diagonal] += d.diagonal
    return out.reshape(count, len(cell.state) * units, -1)


def _derivatives(inputs: Inputs, values: Values) -> list[dict[str, Derivative]]:
    """Return the derivatives of N rows: for each new state by each old one that moves it."""
    cell, (_, units) = inputs.run.cell, values.shape
    dtype = inputs.run.dtype
    derivatives: dict[Symbol, dict[str, Derivative]] = {}
    for node, parts in moved_by_states(cell.outputs):
        by: dict[str, Derivative] = {}
        if node.op == "leaf":
            by[node.args[1]] = Derivative(np.ones((1, units), dtype))
        for argument, partial in parts:
            for state, d in derivatives[argument].items():
                if node.op == "product":
                    share = d.through(node, inputs.weights[node.args[0]])
                elif node.op == "mean":
                    share = d.mean(node)
                else:
                    share = d.times(np.atleast_2d(np.asarray(values[partial], dtype)))
                by[state] = by[state].plus(share) if state in by else share
        derivatives[node] = by
    return [derivatives.get(node, {}) for node in cell.outputs]


def chosen_of(name: str, asked: Chosen, total: int, where: str = "step_jacobians") -> Array:
    """Return which of T steps or B sequences are asked for; name: "steps" or "sequences"."""
    place, everything = f"{where}: {name} must", np.arange(total)
    if asked is None:
        return everything
    if isinstance(asked, slice):
        return everything[asked]
    if isinstance(asked, (int, np.integer)):
        if not 0 <= asked <= total:
            letter = "T" if name == "steps" else "B"
            raise ValueError(f"{place} lie in 0 to {letter}={total}, got {asked}")
        return everything[:asked]
    found = np.asarray(list(asked))
    if found.size == 0:
        return everything[:0]
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"{place} be a number of {name}, a slice, or indices of {name}, got {asked!r}"
        )
    if found.min() < -total or found.max() >= total:
        raise ValueError(
            f"{place} hold indices in 0 to {total - 1}, got {found.min()} to {found.max()}"
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
