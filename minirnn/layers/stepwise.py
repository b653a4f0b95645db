"""What the reference shows to `watch`: every quantity of every step, computed step by step.

Each step is a graph of its own, so that any value inside it can be differentiated by, and the
gradient can be changed on its way from step to step.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from minirnn.engine import Tensor, enable_grad, grad, no_grad
from minirnn.equations.levels import gate_nodes, is_given
from minirnn.equations.symbols import Symbol, postorder
from minirnn.layers.direction import Direction
from minirnn.layers.evaluate import apply
from minirnn.layers.reference import blocks, in_processing_order, project, vectors

Arrays = dict[str, np.ndarray]


class Step:
    """One step of a run, with zeros added wherever a derivative will be asked for.

    ``wx``, ``du``, ``inner`` and ``prev`` are the leaves to differentiate by; ``values`` holds
    every node of the cell's graph.
    """

    def __init__(
        self, run: Direction, wx: np.ndarray, state: Arrays, below: Arrays, t: int,
        u: Any, p: Any,
    ) -> None:  # fmt: skip
        cell, size = run.cell, run.hidden_size
        self.wx = {
            k: Tensor(wx[:, i * size : (i + 1) * size], requires_grad=True)
            for i, k in enumerate(cell.gates)
        }
        self.prev = {k: Tensor(v, requires_grad=True) for k, v in state.items()}
        like = next(iter(state.values()))
        self.du = {k: Tensor(np.zeros_like(like), requires_grad=True) for k in cell.products}
        self.inner = {k: Tensor(np.zeros_like(like), requires_grad=True) for k in cell.state}
        self.values: dict[Symbol, Any] = {}
        with enable_grad():
            self._evaluate(run, below, t, u, p)

    def _evaluate(self, run: Direction, below: Arrays, t: int, u: Any, p: Any) -> None:
        cell = run.cell
        given = {"wx": self.wx, "prev": self.prev, "p": vars(p), "time": {"t": run.start + t},
                 "below": {k: Tensor(v) for k, v in below.items()}}  # fmt: skip
        states: dict[Symbol, list[str]] = {}  # several states may be one value
        for k, n in zip(cell.state, cell.outputs, strict=True):
            states.setdefault(n, []).append(k)
        for node in postorder((*cell.outputs, *gate_nodes(cell).values())):
            if node.op == "leaf":
                value = given[node.args[0]][node.args[1]]
            elif node.op == "const":
                value = node.args[0]
            elif node.op == "product":
                value = getattr(u, node.args[0]) @ self.values[node.args[1]]
                value = value + self.du[node.args[0]]
            else:
                value = apply(node, self.values)
            # What is given may stand elsewhere in the equations too: see below.
            for k in states.get(node, ()) if not is_given(node) else ():
                value = value + self.inner[k]
            self.values[node] = value
        self.out = {
            k: self.values[n] + self.inner[k] if is_given(n) else self.values[n]
            for k, n in zip(cell.state, cell.outputs, strict=True)
        }

    def back(self, delta: Arrays) -> dict[str, Arrays]:
        """Carry the gradient of the states one step back; also by wx, by products, by values."""
        groups = {"wx": self.wx, "du": self.du, "inner": self.inner, "prev": self.prev}
        leaves = [t for group in groups.values() for t in group.values()]
        got = iter(grad(
            list(self.out.values()), leaves, [delta[k] for k in self.out],
            allow_unused=True, retain_graph=True,
        ))  # fmt: skip
        zero = np.zeros_like(next(iter(delta.values())))
        return {
            name: {k: zero if (g := next(got)) is None else g.numpy() for k in group}
            for name, group in groups.items()
        }


class Unrolled:
    """A run of the reference, every step kept.

    states: state -> (T+1, B, H); gates: name -> (T, B, H), 0 after the length.
    """

    def __init__(self, run: Direction) -> None:
        self.run = run = run.detached()
        cell = run.cell
        steps, batch = run.x.shape[:2]
        full = np.full(batch, steps)
        self.lengths = full if run.lengths is None else run.lengths
        with no_grad():
            wx = project(run).numpy() if steps and batch else np.zeros((steps, batch, 0))
            below = [in_processing_order(run, s).numpy() for s in run.below]
        u, p = SimpleNamespace(**blocks(run)), vectors(run)
        state = {k: s.numpy() for k, s in zip(cell.state, run.state, strict=True)}
        rows = {k: [v] for k, v in state.items()}
        nodes = gate_nodes(cell)
        shape = (batch, run.hidden_size)
        gates: dict[str, list[np.ndarray]] = {k: [] for k in nodes}
        self.steps: list[Step] = []
        for t in range(steps if batch else 0):
            under = {k: s[t] for k, s in zip(cell.state, below, strict=False)}
            step = Step(run, wx[t], state, under, t, u, p)
            self.steps.append(step)
            alive = (t < self.lengths)[:, None]
            for k in state:
                value = np.broadcast_to(step.out[k].numpy(), shape)
                state = {**state, k: np.where(alive, value, state[k])}
                rows[k].append(state[k])
            for k, node in nodes.items():
                value = step.values[node]
                value = value.numpy() if isinstance(value, Tensor) else value
                gates[k].append(np.where(alive, np.broadcast_to(value, shape), 0).astype(run.dtype))
        if not batch:
            rows = {k: [v] * (steps + 1) for k, v in state.items()}
        self.states = {k: np.stack(v) for k, v in rows.items()}
        empty = np.zeros((steps, *shape), run.dtype)
        self.gates = {k: np.stack(v) if v else empty for k, v in gates.items()}

    def backward(self, d_final: Arrays, d_rows: Arrays, clip: float | None) -> dict[str, Arrays]:
        """Run backward from cotangents; returns state_grads, carried_grads and the gates' two.

        d_final: state -> (B, H), at each sequence's last row; d_rows: state -> (T+1, B, H).
        """
        cell, run = self.run.cell, self.run
        shape = (len(self.lengths), run.hidden_size)
        steps = self.run.x.shape[0]
        zero = np.zeros(shape, run.dtype)
        delta = {k: d_final.get(k, zero).astype(run.dtype) for k in cell.state}

        def blank(names: Any, count: int) -> Arrays:
            return {k: np.zeros((count, *shape), run.dtype) for k in names}

        out = {
            "state_grads": blank(cell.state, steps + 1),
            "carried_grads": blank(cell.state, steps + 1),
            "gate_grads": blank(cell.gates, steps),
            "recurrent_gate_grads": blank(cell.products, steps),
        }
        for t in range(len(self.steps), 0, -1):
            alive = (self.lengths >= t)[:, None]
            here = {
                k: np.where(alive, delta[k] + (d_rows[k][t] if k in d_rows else 0), 0)
                for k in delta
            }
            if clip is not None:
                norm = np.sqrt(sum((v * v).sum(axis=1, keepdims=True) for v in here.values()))
                scale = np.where(norm > clip, clip / np.where(norm > 0, norm, 1), 1)
                here = {k: v * scale for k, v in here.items()}
            here = {k: v.astype(run.dtype) for k, v in here.items()}
            back = self.steps[t - 1].back(here)
            for k in cell.state:
                out["carried_grads"][k][t] = here[k]
                out["state_grads"][k][t] = np.where(alive, back["inner"][k], 0)
                delta[k] = np.where(alive, back["prev"][k], delta[k])
            for k in cell.gates:
                out["gate_grads"][k][t - 1] = np.where(alive, back["wx"][k], 0)
            for k in cell.products:
                out["recurrent_gate_grads"][k][t - 1] = np.where(alive, back["du"][k], 0)
        for k in cell.state:
            first = delta[k] + (d_rows[k][0] if k in d_rows else 0)
            out["carried_grads"][k][0] = out["state_grads"][k][0] = first
        return out
