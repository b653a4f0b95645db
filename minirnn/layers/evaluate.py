"""Values of a cell's graph on arrays, for any steps and sequences of a run at once."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minirnn.engine import no_grad
from minirnn.equations import functions
from minirnn.equations.symbols import Symbol, postorder
from minirnn.layers.direction import Direction
from minirnn.layers.reference import blocks, in_processing_order, project, vectors

Array = np.ndarray
_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "div": operator.truediv,
    "mod": operator.mod,
    "lt": operator.lt,
    "le": operator.le,
    "pow": operator.pow,
}


def apply(node: Symbol, values: Mapping[Symbol, Any]) -> Any:
    """Compute a pointwise node, or a mean, from the values of its arguments."""
    args = [values[a] if isinstance(a, Symbol) else a for a in node.args]
    return (_OPERATORS.get(node.op) or getattr(functions, node.op))(*args)


class Inputs:
    """What is given to every step of a run, in processing order.

    wx: (T, B, G*H); states: state -> (T+1, B, H); below: state -> (T, B, H); weights and biases:
    block -> (H, H) and (H,); vectors: name -> (H,).
    """

    def __init__(self, run: Direction, states: Mapping[str, Array]) -> None:
        self.run, self.states = run, states
        with no_grad():
            self.wx = project(run).numpy()
            self.below = {
                k: in_processing_order(run, s).numpy()
                for k, s in zip(run.cell.state, run.below, strict=False)
            }
            made = blocks(run)
            self.weights = {k: b.transposed.numpy().T for k, b in made.items()}
            self.biases = {k: 0.0 if b.bias is None else b.bias.numpy() for k, b in made.items()}
            named = vars(vectors(run))
        self.vectors = {k: v if isinstance(v, Array) else v.numpy() for k, v in named.items()}

    def at(self, t: Array, b: Array) -> "Values":
        """Return the values at N pairs of a step t (N,) and a sequence b (N,)."""
        return Values(self, t, b)


class Values(Mapping[Symbol, Any]):
    """Values of nodes at N rows: each (N, H), or what broadcasts to it. Computed when asked for.

    ``more`` are the values of further leaves, by kind and name.
    """

    def __init__(
        self,
        inputs: Inputs,
        t: Array,
        b: Array,
        more: Mapping[str, Mapping[str, Array]] | None = None,
    ) -> None:
        self._inputs, self._t, self._b, self._more = inputs, t, b, more or {}
        self._known: dict[Symbol, Any] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """(N, H)."""
        return len(self._t), self._inputs.run.hidden_size

    def full(self, node: Symbol) -> Array:
        """Return the value in its full shape (N, H)."""
        return np.broadcast_to(np.asarray(self[node], self._inputs.run.dtype), self.shape)

    def __getitem__(self, node: Symbol) -> Any:
        if node not in self._known:
            # What a `where` does not choose may be infinite or not a number.
            with np.errstate(all="ignore"):
                for n in postorder([node]):
                    if n not in self._known:
                        self._known[n] = self._compute(n)
        return self._known[node]

    def __iter__(self) -> Any:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _compute(self, node: Symbol) -> Any:
        given = self._inputs
        if node.op == "const":
            return node.args[0]
        if node.op == "leaf":
            return self._leaf(*node.args)
        if node.op == "product":
            block, operand = node.args
            return self.full(operand) @ given.weights[block].T + given.biases[block]
        if node.op == "pull":
            names, *du = node.args
            return sum(self.full(d) @ given.weights[k] for k, d in zip(names, du, strict=True))
        return apply(node, self._known)

    def _leaf(self, kind: str, name: str) -> Any:
        given, t, b = self._inputs, self._t, self._b
        if kind in self._more:
            return self._more[kind][name]
        if kind == "wx":
            at = given.run.cell.gates.index(name) * given.run.hidden_size
            return given.wx[t, b, at : at + given.run.hidden_size]
        if kind == "prev":
            return given.states[name][t, b]
        if kind == "below":
            return given.below[name][t, b]
        if kind == "time":
            return (given.run.start + t)[:, None].astype(given.run.dtype)
        return given.vectors[name]
