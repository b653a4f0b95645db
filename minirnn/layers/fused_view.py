"""What `watch` shows of a direction that the fused kernels ran: their buffers, in user layout."""

import numpy as np

from minirnn.kernels.backward import Gradients, backward
from minirnn.kernels.forward import Run
from minirnn.kernels.frame import WATCH
from minirnn.kernels.rows import Rows
from minirnn.kernels.workspace import lend
from minirnn.layers.stepwise import Unrolled
from minirnn.layers.views import Arrays, Lazy, View, ViewGradients


class FusedView(View):
    """A view of fused passes: it reads the kernels' buffers."""

    _fused: Run

    def attach(self, made: Run) -> None:
        """Take note of the forward pass."""
        self._fused = made

    def tell(self, got: Gradients, final: Arrays) -> None:
        """Take note of a backward pass."""
        self._gradients = self._read(got, dict(final))

    def _pull(self, final: Arrays, rows: Arrays, clip: float | None) -> View:
        internal = {k: self._to_internal(v) for k, v in rows.items()}
        got = backward(
            self._fused, {}, final, internal, weights=False, input=False, mode=WATCH, clip=clip
        )
        view = FusedView(self._run)
        view.attach(self._fused)
        outside = {k: np.array(v) for k, v in final.items()}
        for k, v in rows.items():  # sequences of length 0 have no step: what reaches them stays
            outside[k] = outside.get(k, 0) + v[0]
        view.tell(got, outside)
        return view

    # Layout. Internal rows: group after group of living rows, sorted by length.

    def _places(self) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Return the rows, and step and sequence of each row of gate-like buffers."""
        rows = self._fused.rows
        t = np.repeat(np.arange(rows.steps), rows.alive[: rows.steps])
        return rows, t, rows.order[np.arange(rows.count) - rows.gate[t]]

    def _to_internal(self, user: np.ndarray) -> np.ndarray:
        """(T+1, B, H) in processing order -> rows of states (rows, padded)."""
        rows, t, b = self._places()
        k = self._fused.kernel
        out = np.zeros((len(rows.order) + rows.count, k.padded), k.dtype)
        out[: len(rows.order), : k.hidden] = user[0, rows.order]
        out[len(rows.order) :, : k.hidden] = user[t + 1, b]
        return out

    def _steps(self, living: np.ndarray) -> np.ndarray:
        """Rows of gates (count, H) -> (T, B, H), 0 after the length."""
        rows, t, b = self._places()
        steps, batch = self._fused.x_shape[:2]
        if rows.equal and rows.batch == batch and rows.count == steps * batch:
            return np.ascontiguousarray(living).reshape(steps, batch, living.shape[1])
        out = np.zeros((steps, batch, living.shape[1]), living.dtype)
        out[t, b] = living
        return out

    def _rows(self, buffer: np.ndarray) -> np.ndarray:
        """Rows of states (rows, padded) -> (T+1, B, H), 0 after the length."""
        k, rows = self._fused.kernel, self._fused.rows
        steps, batch = self._fused.x_shape[:2]
        if rows.equal:
            out = lend((steps + 1, batch, k.hidden), k.dtype)
            out.reshape(-1, k.hidden)[...] = buffer[:, : k.hidden]
            return out
        out = np.zeros((steps + 1, batch, k.hidden), k.dtype)
        out[0, rows.order] = buffer[: len(rows.order), : k.hidden]
        out[1:] = self._steps(buffer[len(rows.order) :, : k.hidden])
        return out

    def _records(self, buffer: np.ndarray) -> np.ndarray:
        """Return the same for rows that this pass alone has: themselves, where all are alive."""
        rows, size = self._fused.rows, self._fused.kernel.hidden
        if not rows.equal:
            return self._rows(buffer)
        return buffer[:, :size].reshape(rows.steps + 1, rows.batch, size)

    def _state(self, name: str) -> np.ndarray:
        out = self._rows(self._fused.states[name])
        index = self.cell.state.index(name)
        out[0] = self._run.state[index].numpy()
        if self.lengths is not None:
            t = np.arange(out.shape[0])[:, None]
            last = np.minimum(t, self.lengths)
            out = out[last, np.arange(out.shape[1])]
        return out

    def _gate(self, name: str) -> np.ndarray:
        plan, made = self._fused.kernel.plan, self._fused
        if name not in plan.gate_slots:  # the equations set it to something that is given
            return Unrolled(self._run).gates[name]
        slot = plan.gate_slots[name]
        kind, _, which = slot.buffer.partition(".")
        size = made.kernel.hidden
        if kind == "next":
            return self._steps(made.states[which][len(made.rows.order) :, :size])
        if kind == "operand":
            return self._steps(made.frame.operands[int(which)][:, :size])
        if kind == "x":
            part = made.frame.segments("x", made.frame.x_rows)[slot.buffer][0]
            return self._steps(made.kernel.members(part, slot.member, slot.members))
        if kind == "saved":
            return self._steps(made.kernel.members(made.frame.saved, slot.member, slot.members))
        return Unrolled(self._run).gates[name]

    def _read(self, got: Gradients, final: Arrays) -> ViewGradients:
        cell, made = self.cell, self._fused
        k, plan = made.kernel, made.kernel.plan
        idle = np.ones(made.x_shape[1], bool)
        idle[made.rows.order] = False

        def state(name: str, buffer: str) -> np.ndarray:
            """Return the derivative by a state; that by the initial state is in ``carry`` only."""
            out, order = self._records(got.buffers[buffer]), made.rows.order
            if not buffer.startswith("carry"):
                out[0, order] = got.buffers[f"carry.{name}"][: len(order), : k.hidden]
            if idle.any():  # sequences of length 0: the last row is the first
                out[0, idle] = final[name][idle] if name in final else 0
            out.flags.writeable = False  # two names may show the same numbers
            return out

        def carried(name: str) -> np.ndarray:
            return state(name, f"carry.{name}")

        def inner(name: str) -> np.ndarray:
            return state(name, plan.inner[name])

        def gate(name: str) -> np.ndarray:
            at = 0
            for names in plan.segments:
                wide = len(names) * k.padded
                if name in names:
                    part = got.buffers["dx"][:, at : at + wide]
                    part = np.ascontiguousarray(part)
                    return self._steps(k.members(part, names.index(name), len(names)))
                at += wide
            raise KeyError(name)

        def block(name: str) -> np.ndarray:
            for g in plan.groups:
                if name in g.blocks:
                    for segment, blocks in plan.shared.get(g.index, ()):
                        if name in blocks:
                            return gate(plan.segments[segment][blocks.index(name)])
                    part = got.buffers[f"du.{g.index}"]
                    return self._steps(k.members(part, g.blocks.index(name), len(g.blocks)))
            return np.zeros((*made.x_shape[:2], k.hidden), k.dtype)  # a block declared unused

        gradients = ViewGradients(
            state_grads=Lazy("state_grads", cell.state, inner),
            carried_grads=Lazy("carried_grads", cell.state, carried),
            gate_grads=Lazy("gate_grads", cell.gates, gate),
            recurrent_gate_grads=Lazy("recurrent_gate_grads", cell.products, block),
        )
        gradients.source = got  # type: ignore[attr-defined]  # keeps the buffers leased
        return gradients
