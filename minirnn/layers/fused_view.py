"""What `watch` shows of a direction that the fused kernels ran: their buffers, in user layout."""

from typing import Any

import numpy as np

from minirnn.equations.cell import Cell
from minirnn.kernels.backward import Gradients, backward
from minirnn.kernels.forward import Run
from minirnn.kernels.frame import WATCH
from minirnn.layers.stepwise import Unrolled
from minirnn.layers.user_layout import UserLayout
from minirnn.layers.views import Arrays, Lazy, View, ViewGradients


class FusedView(View):
    """A view of fused passes: it reads the kernels' buffers."""

    _fused: Run
    _layout: UserLayout
    keep = False  # whether the backward pass leaves the gates where they are

    def attach(self, made: Run) -> None:
        """Take note of the forward pass."""
        self._fused, self._layout = made, UserLayout(made)

    def tell(self, got: Gradients, final: Arrays) -> None:
        """Take note of a backward pass."""
        self._gradients = _Reader(self.cell, self._fused, self._layout, got, final).mappings()
        got.forget()  # the tape has them

    def _pull(self, final: Arrays, rows: Arrays, clip: float | None) -> View:
        self._restore()
        internal = {k: self._layout.to_internal(v) for k, v in rows.items()}
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

    def _state(self, name: str) -> np.ndarray:
        out = self._layout.states(self._fused.states[name])
        index = self.cell.state.index(name)
        out[0] = self._run.state[index].numpy()
        if self.lengths is not None:
            t = np.arange(out.shape[0])[:, None]
            last = np.minimum(t, self.lengths)
            out = out[last, np.arange(out.shape[1])]
        return out

    def _gate(self, name: str) -> np.ndarray:
        plan, made, layout = self._fused.kernel.plan, self._fused, self._layout
        if name not in plan.gate_slots:  # the equations set it to something that is given
            return Unrolled(self._run).gates[name]
        slot = plan.gate_slots[name]
        kind, _, which = slot.buffer.partition(".")
        size = made.kernel.hidden
        if kind == "next":
            return layout.steps(made.states[which][len(made.rows.order) :, :size])
        if kind == "operand":
            return layout.steps(made.frame.operands[int(which)][:, :size])
        if kind == "x":
            self._restore()
            part = made.frame.segments("x", made.frame.x_rows)[slot.buffer][0]
            return layout.member(part, slot.member, slot.members)
        if kind == "saved":
            return layout.member(made.frame.saved, slot.member, slot.members)
        return Unrolled(self._run).gates[name]

    def _restore(self) -> None:
        """Have the forward pass run again if the backward pass wrote over the gates."""
        if self._fused.consumed and self._run.x.version != self._versions[0]:
            raise RuntimeError(
                "watch: after the backward pass gates, and what a pullback needs, are computed "
                "again from the input, which has been written to since; ask before the write, or "
                "open watch(layer, keep=True)"
            )
        self._fused.restore()


class _Reader:
    """Reads gradients from the buffers of a backward pass."""

    def __init__(
        self, cell: Cell, made: Run, layout: UserLayout, got: Gradients, final: Arrays
    ) -> None:
        self._cell, self._made, self._layout, self._final = cell, made, layout, final
        self._got = got  # which keeps the buffers leased

    def mappings(self) -> ViewGradients:
        """Return what a view shows."""
        return ViewGradients(
            state_grads=Lazy("state_grads", self._cell.state, self._inner),
            carried_grads=Lazy("carried_grads", self._cell.state, self._carried),
            gate_grads=Lazy("gate_grads", self._cell.gates, self._gate),
            recurrent_gate_grads=Lazy("recurrent_gate_grads", self._cell.products, self._block),
        )

    def _carried(self, name: str) -> np.ndarray:
        return self._of_state(name, f"total.{name}")

    def _inner(self, name: str) -> np.ndarray:
        return self._of_state(name, self._made.kernel.plan.inner[name])

    def _of_state(self, name: str, buffer: str) -> np.ndarray:
        """Return the derivative by a state; that by the initial state is in ``carry`` yet."""
        made, got, final = self._made, self._got, self._final
        out, order = self._layout.records(got.buffers[buffer]), made.rows.order
        at: Any = slice(None) if made.rows.equal else order
        out[0, at] = got.frame.carry[name][:, : made.kernel.hidden]
        if len(order) < out.shape[1]:  # sequences of length 0: the last row is the first
            idle = np.ones(out.shape[1], bool)
            idle[order] = False
            out[0, idle] = final[name][idle] if name in final else 0
        out.flags.writeable = False  # two names may show the same numbers
        return out

    def _gate(self, name: str) -> np.ndarray:
        k, at = self._made.kernel, 0
        for names in k.plan.segments:
            wide = len(names) * k.padded
            if name in names:
                part = self._got.buffers["dx"][:, at : at + wide]
                return self._layout.member(part, names.index(name), len(names))
            at += wide
        raise KeyError(name)

    def _block(self, name: str) -> np.ndarray:
        made = self._made
        k, plan = made.kernel, made.kernel.plan
        for g in plan.groups:
            if name in g.blocks:
                for segment, blocks in plan.shared.get(g.index, ()):
                    if name in blocks:
                        return self._gate(plan.segments[segment][blocks.index(name)])
                part = self._got.buffers[f"du.{g.index}"]
                return self._layout.member(part, g.blocks.index(name), len(g.blocks))
        return np.zeros((*made.x_shape[:2], k.hidden), k.dtype)  # a block declared unused
