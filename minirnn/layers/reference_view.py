"""What `watch` shows of a direction that the reference ran."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor, record
from minirnn.layers.stepwise import Unrolled
from minirnn.layers.views import Arrays, View, ViewGradients


class ReferenceView(View):
    """A view of the reference: it runs the steps again, one by one, when something is asked for."""

    _unrolled: Unrolled | None = None

    def unrolled(self) -> Unrolled:
        """Return the run step by step; made when it is first needed."""
        if self._unrolled is None:
            self._unrolled = Unrolled(self._run)
        return self._unrolled

    def _state(self, name: str) -> np.ndarray:
        return self.unrolled().states[name]

    def _gate(self, name: str) -> np.ndarray:
        return self.unrolled().gates[name]

    def _pull(self, final: Arrays, rows: Arrays, clip: float | None) -> View:
        view = ReferenceView(self._run)
        view._unrolled = self.unrolled()
        view._gradients = ViewGradients(**view._unrolled.backward(dict(final), dict(rows), clip))
        return view

    def observe(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pass the outputs of a run on, noting the cotangents that come back through them."""
        if not any(t.requires_grad for t in outputs):
            return outputs

        def vjp(*douts: Any) -> tuple[Any, ...]:
            states = len(self.cell.state)
            plain = [d.numpy() if isinstance(d, Tensor) else d for d in douts]
            self._note([plain[0], *plain[1 + states :]], plain[1 : 1 + states])
            return douts

        return record([t._data for t in outputs], outputs, vjp, name="watch")

    def _note(self, d_outputs: list[np.ndarray | None], d_final: list[np.ndarray | None]) -> None:
        final = {k: d for k, d in zip(self.cell.state, d_final, strict=True) if d is not None}
        rows: dict[str, np.ndarray] = {}
        for k, d in zip(self.cell.state, d_outputs, strict=False):
            if d is None:
                continue
            order = self._run.processing_order()
            if order is not None:
                d = d.reshape(-1, d.shape[2])[order.reshape(-1)].reshape(d.shape)
            rows[k] = self.after_every_step(d)
        self._gradients = ViewGradients(**self.unrolled().backward(final, rows, None))
