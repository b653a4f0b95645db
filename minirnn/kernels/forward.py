"""One forward pass over a batch, and what it keeps for passes back.

Everything here is arrays; tensors and the tape are the business of `minirnn.layers`.
"""

from dataclasses import replace
from typing import Any
from weakref import ref

import numpy as np

from minirnn.kernels import celltype
from minirnn.kernels.cellkernel import Arrays, CellKernel, Packed
from minirnn.kernels.fold import Fold
from minirnn.kernels.frame import Frame, shelf
from minirnn.kernels.rows import Rows
from minirnn.kernels.workspace import lend


class Run:
    """One forward pass over a batch.

    x: (T, B, I), or a `Fold` with ids (T, B); state: state name -> (B, H); rows: who is alive when;
    keep: whether a backward pass may follow; start: index of the first step; below: state name ->
    (T, B, H), the states of the level below after every step, for a cell that reads them.
    """

    def __init__(
        self, kernel: CellKernel, weights: Packed, x: np.ndarray | Fold, state: Arrays, rows: Rows,
        keep: bool, start: int = 0, below: Arrays | None = None,
    ) -> None:  # fmt: skip
        self.kernel, self.weights, self.rows, self.start = kernel, weights, rows, start
        self.inputs: np.ndarray | Fold
        if isinstance(x, Fold):
            self.x_shape = (*x.ids.shape, x.embedding.shape[1])
            self.inputs = self._living_ids(x)
        else:
            self.x_shape = x.shape
            self.inputs = self._living(x)
        self.frame: Frame = shelf.take(kernel, rows, self.x_shape[2], keep, tuple(below or ()))
        alive, size = len(rows.order), kernel.hidden
        for name, buffer in self.frame.states.items():
            given = state[name]
            buffer[:alive, :size] = given if rows.equal else given[rows.order]
        for name, array in (below or {}).items():
            self.frame.below[name][:, :size] = self._living(array)
        self.consumed = False  # whether a backward pass wrote over what was saved
        self.over: ref[Any] | None = None  # the `Gradients` that lie there, if someone keeps them
        if rows.count:
            self._forward()

    def restore(self) -> None:
        """Compute again what a backward pass has written over."""
        if self.consumed:
            self.consumed = False
            result = self.over() if self.over is not None else None
            if result is not None:
                result.save_dx()
            self._forward()

    def __del__(self) -> None:
        if hasattr(self, "frame"):
            shelf.give(self.frame)

    def _living(self, x: np.ndarray) -> np.ndarray:
        """Return the living rows of a sequence (T, B, C) in internal order, (count, C)."""
        flat = np.ascontiguousarray(x).reshape(-1, x.shape[2])
        if self.rows.index is None:
            return flat
        return flat[self.rows.index]

    @property
    def fold(self) -> Fold | None:
        """The fold that stands for the input, with ids in internal order, or None."""
        return self.inputs if isinstance(self.inputs, Fold) else None

    def _living_ids(self, fold: Fold) -> Fold:
        """Return a fold with the ids of the living rows in internal order, (count,)."""
        ids = np.ascontiguousarray(fold.ids).reshape(-1)
        return replace(fold, ids=ids if self.rows.index is None else ids[self.rows.index])

    def _forward(self) -> None:
        frame = self.frame
        frame.bind(self.weights, self.inputs)
        columns = frame.x_rows.shape[1]
        flops = 2.0 * self.rows.count * columns * (frame.features + self.kernel.hidden)
        frame.descriptor.set(START=self.start)
        frame.descriptor.run(celltype.FORWARD, flops)

    # What comes out

    @property
    def states(self) -> dict[str, np.ndarray]:
        """State name -> its rows before and after every step, (R + count, padded)."""
        return self.frame.states

    def output(self, name: str) -> np.ndarray:
        """Return a state after every step, (T, B, H) in the order of the input; 0 where padded."""
        rows, k = self.rows, self.kernel
        steps, batch = self.x_shape[:2]
        living = self.states[name][len(rows.order) :, : k.hidden]
        if rows.index is None:
            out = lend((steps, batch, k.hidden), k.dtype)
            out.reshape(living.shape)[...] = living
            return out
        return self.scatter(living)

    def scatter(self, living: np.ndarray) -> np.ndarray:
        """Put internal rows (count, C) back in the order of the input: (T, B, C), 0 elsewhere."""
        steps, batch = self.x_shape[:2]
        if self.rows.index is None:
            return living.reshape(steps, batch, living.shape[1])
        out = np.zeros((steps * batch, living.shape[1]), living.dtype)
        out[self.rows.index] = living
        return out.reshape(steps, batch, living.shape[1])

    def final(self, name: str, state: np.ndarray) -> np.ndarray:
        """Return a state after each sequence's last step, (B, H); ``state`` is where it began."""
        rows, size = self.rows, self.kernel.hidden
        if rows.equal:
            return self.states[name][rows.count :, :size].copy()
        out = np.array(state, copy=True)
        out[rows.order] = self.states[name][rows.final][:, :size]
        return out
