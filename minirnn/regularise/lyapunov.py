"""Lyapunov exponents on the tape, and what drives them to 0: gradient flossing, Engelken 2023."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor, concat, record
from minirnn.engine.dual import tensor
from minirnn.equations.symbols import Symbol, postorder
from minirnn.equations.tangent import MOVED, tangent_cell
from minirnn.layers import arguments, reference
from minirnn.layers.direction import Direction
from minirnn.layers.evaluate import apply
from minirnn.layers.recurrent import Recurrent

Array = np.ndarray


def flossing(
    layer: Recurrent, x: Any, k: int, state: Any = None, skip: int = 0, seed: int = 0
) -> Tensor:
    """Return the mean square of the first k Lyapunov exponents along x: 0 if they all are 0.

    Gradient flossing (Engelken 2023): a network whose leading exponents are near 0 neither loses
    nor blows up gradients along those directions. Differentiable by parameters, x and state, also
    through the states at which the Jacobians are taken. It runs the reference step by step: small
    sizes, tens of steps. Parameters as in `exponents`.
    """
    return (exponents(layer, x, k, state, skip, seed) ** 2).mean()


def exponents(
    layer: Recurrent, x: Any, k: int, state: Any = None, skip: int = 0, seed: int = 0
) -> Tensor:
    """Return the first k Lyapunov exponents of every sequence, (B, k), on the tape.

    k random directions are moved along with the states, all states of the cell side by side, and
    orthonormalised after every step; an exponent is the mean logarithm of what a direction was
    stretched by, per step.

    Parameters
    ----------
    layer
        A `Recurrent` with one level and one direction.
    x
        (T, B, I) as the layer takes it.
    k
        How many, 1 to the number of state entries.
    state
        Initial state, as the layer takes it; zeros if None.
    skip
        So many first steps turn the directions, but are not counted.
    seed
        Of the random directions.
    """
    run = _run_of(layer, x, state)
    steps, batch = run.x.shape[:2]
    width = len(run.state) * run.hidden_size
    if not 1 <= k <= width:
        raise ValueError(
            f"exponents: k must lie in 1 to the number of state entries, {width}, got {k}"
        )
    if not 0 <= skip < steps:
        raise ValueError(
            f"exponents: skip must leave a step of T = {steps}, got {skip}; give a longer x"
        )
    rng = np.random.default_rng(seed)
    start = np.linalg.qr(rng.standard_normal((batch, width, k)))[0]
    q = Tensor(start.astype(run.dtype))
    moving = _Steps(run)
    total = None
    for t in range(steps):
        q, stretch = orthonormalise(moving.step(t, q))
        if t >= skip:
            total = stretch if total is None else total + stretch
    assert total is not None
    return total / float(steps - skip)


def _run_of(layer: Any, x: Any, state: Any) -> Direction:
    """Return the layer's only direction over x."""
    if not isinstance(layer, Recurrent) or layer.num_layers * layer.directions != 1:
        raise ValueError(
            "exponents: layer must be a Recurrent with one level and one direction, got "
            f"{layer!r}; take the levels of a stack one by one"
        )
    x = tensor(x, "exponents", "x")
    x, batched = arguments.checked_x(
        "exponents", x, layer.input_size, layer.dtype, layer.batch_first
    )
    steps, batch = x.shape[:2]
    if steps == 0 or batch == 0:
        raise ValueError(f"exponents: x must have a step and a sequence, got shape {x.shape}")
    given = arguments.checked_state(
        "exponents", state, layer.cell, 1, batch, layer.hidden_size, layer.dtype, batched
    )
    below = "below" in layer.cell.arguments
    zero = Tensor(np.zeros((steps, batch, layer.hidden_size), layer.dtype))
    return Direction(
        layer.cell, layer.hidden_size, layer._direction_parameters(0, 0), x,
        tuple(s[0] for s in given), tuple(zero for _ in layer.cell.state) if below else (),
        None, False, 0,
    )  # fmt: skip


class _Steps:
    """The steps of a run, on the tape, with k directions that move along with the states.

    The tangent cell's graph gives both: values are (B, H), their movements (k, B, H).
    """

    def __init__(self, run: Direction) -> None:
        self.run, self.u, self.wx = run, reference.blocks(run), reference.project(run)
        self.state = dict(zip(run.cell.state, run.state, strict=True))
        self.nodes = tangent_cell(run.cell, weights=False).outputs
        self.zero = Tensor(np.zeros((1, run.hidden_size), run.dtype))

    def step(self, t: int, q: Tensor) -> Tensor:
        """Run step t and move the directions.  q: (B, S, k).  Returns J_t q, (B, S, k)."""
        run, size = self.run, self.run.hidden_size
        columns = q.permute((2, 0, 1))  # (k, B, S)
        given: dict[str, dict[str, Any]] = {
            "wx": {
                n: self.wx[t, :, i * size : (i + 1) * size] for i, n in enumerate(run.cell.gates)
            },
            "prev": self.state
            | {
                n + MOVED: columns[:, :, i * size : (i + 1) * size]
                for i, n in enumerate(run.cell.state)
            },
            "p": vars(reference.vectors(run)),
            "below": {n: s[t] for n, s in zip(run.cell.state, run.below, strict=False)},
            "time": {"t": run.start + t},
        }
        values: dict[Symbol, Any] = {}
        for node in postorder(self.nodes):
            values[node] = self._value(node, values, given)
        shape = columns.shape[:2]
        new = [values[n] for n in self.nodes]
        count = len(run.cell.state)
        self.state = {
            n: self._full(v, (shape[1], size)) for n, v in zip(run.cell.state, new, strict=False)
        }
        moved = [self._full(v, (*shape, size)) for v in new[count:]]
        return concat(moved, dim=2).permute((1, 2, 0))

    def _value(self, node: Symbol, values: dict[Symbol, Any], given: dict[str, Any]) -> Any:
        if node.op == "const":
            return node.args[0]
        if node.op == "leaf":
            kind, name = node.args
            # What is not among the given is the movement of an input, which stands still.
            return given[kind].get(name, self.zero)
        if node.op == "product":
            block, operand = node.args
            if block.endswith(MOVED):
                return values[operand] @ self.u[block.removesuffix(MOVED)].transposed
            full = (self.wx.shape[1], self.run.hidden_size)
            return self.u[block] @ self._full(values[operand], full)
        return apply(node, values)

    def _full(self, value: Any, shape: tuple[int, ...]) -> Tensor:
        """Give a value that is one number, or the same for all rows, its full shape."""
        if isinstance(value, Tensor):
            return value if value.shape == shape else value.expand(shape)
        return Tensor(np.full(shape, value, self.run.dtype))


def orthonormalise(v: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q of V = Q R and log |diag R|.  V: (B, S, k) of rank k; Q: (B, S, k), log: (B, k)."""
    q, r = np.linalg.qr(v.numpy())
    diagonal = np.diagonal(r, axis1=1, axis2=2)
    if not np.all(np.abs(diagonal) > 0) or not np.isfinite(diagonal).all():
        raise ValueError(
            f"exponents: a direction was lost or grew beyond all numbers (k = {v.shape[2]} "
            "exponents are more than the Jacobians have); take a smaller k"
        )

    def vjp(dq: Any, dlog: Any) -> tuple[Array]:
        if isinstance(dq, Tensor) or isinstance(dlog, Tensor):
            raise RuntimeError(
                "exponents: can be differentiated once only; leave create_graph=True out"
            )
        # V = Q R: dV = (dQ + Q sym(M)) R^-T with M = R dR^T - dQ^T Q, where sym mirrors the lower
        # triangle; of R dR^T that triangle is dlog on the diagonal.
        dq = np.zeros_like(q) if dq is None else dq
        m = -dq.swapaxes(1, 2) @ q
        if dlog is not None:
            m = m + np.eye(m.shape[1], dtype=m.dtype) * dlog[:, None, :]
        lower = np.tril(m)
        mirrored = lower + np.tril(m, -1).swapaxes(1, 2)
        right = dq + q @ mirrored
        return (np.linalg.solve(r, right.swapaxes(1, 2)).swapaxes(1, 2),)

    stretch = np.log(np.abs(diagonal))
    directions, logs = record([np.ascontiguousarray(q), stretch], [v], vjp, name="orthonormalise")
    return directions, logs
