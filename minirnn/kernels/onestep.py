"""One step of some levels, in the arrays of the caller: nothing copied, one call for all levels.

A pass is described by addresses. Those of input and states differ from step to step; all else of a
step stays, so a step writes these few words and runs.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from minirnn.kernels import celltype, product, sequence, threads
from minirnn.kernels._jit import kernel
from minirnn.kernels.cellkernel import CellKernel, Packed
from minirnn.kernels.frame import Frame
from minirnn.kernels.memory import store
from minirnn.kernels.rows import STILL, arrange
from minirnn.kernels.team import launch
from minirnn.kernels.workspace import address

Arrays = tuple[np.ndarray, ...]
_WORD = 8
_READING = 2  # so many rows take as long as one, of weights beyond the first-level cache
_INPUT = 0  # whose address a word is: the input's, else 1 + i for array i of all states


@kernel
def _bind(words, x, given, made):  # type: ignore[no-untyped-def]
    """Write addresses.

    words (n, 3): where to write, whose address (see `_INPUT`; given states, then made ones), and
    how many bytes behind its beginning.
    """
    count = len(given)
    for i in range(words.shape[0]):
        whose = words[i, 1]
        if whose == _INPUT:
            start = x.ctypes.data
        elif whose <= count:
            start = given[whose - 1].ctypes.data
        else:
            start = made[whose - 1 - count].ctypes.data
        store(words[i, 0], start + words[i, 2])


@kernel
def run_step(words, passes, x, given, made):  # type: ignore[no-untyped-def]
    """Bind, and run all levels on this thread. passes (L, 2): function and argument of each."""
    _bind(words, x, given, made)
    for level in range(passes.shape[0]):
        launch(passes[level, 0], passes[level, 1], 0, 1)


class OneStep:
    """One step of levels that stand on each other, for a batch size.

    kernels: one per level, all of one cell, dtype and hidden size; batch: B; features: I.
    """

    def __init__(self, kernels: Sequence[CellKernel], batch: int, features: int) -> None:
        first = kernels[0]
        self._batch, self._hidden, self._size = batch, first.hidden, first.dtype.itemsize
        rows = arrange(1, batch, None, False)
        wide = [features, *[first.hidden] * (len(kernels) - 1)]
        self._frames = [Frame(k, rows, n, False, ()) for k, n in zip(kernels, wide, strict=True)]
        self._examples = [np.zeros((batch, n), first.dtype) for n in wide]  # shapes of the inputs
        # Rows that are no whole vectors would be written over: they have a place in the frames.
        self._in_place = first.padded == first.hidden
        self._words = np.array(
            [word for level in range(len(kernels)) for word in self._changing(level)], np.int64
        )
        self._passes = np.array([(sequence.pass_address(f.kernel.type, celltype.FORWARD),
                                  address(f.descriptor.words)) for f in self._frames])  # fmt: skip
        # One row takes as long as two: the weights have to be read. At H = 512 two threads are
        # 1.5 times as fast, at 256 no faster.
        rows_read = max(batch, _READING)
        self._flops = [
            2.0 * rows_read * f.x_rows.shape[1] * (f.features + first.hidden) for f in self._frames
        ]
        self._start: int | None = None

    def _changing(self, level: int) -> Iterator[tuple[int, int, int]]:
        """Yield the words of a level that hold an address of the caller's arrays, for `_bind`."""
        frame, table = self._frames[level], self._frames[level].descriptor.table
        states = frame.kernel.cell.state
        bytes_ = self._batch * self._hidden * self._size  # of a level's states
        below = (1 + len(states), (level - 1) * bytes_) if level else (_INPUT, 0)
        yield address(frame.jobs) + product.ROWS_A * _WORD, *below
        for whose, name in enumerate(
            [f"{when}.{k}" for when in ("prev", "next") for k in states], _INPUT + 1
        ):
            entry = frame.descriptor.index.get(name)
            if entry is None or not self._in_place:
                continue
            table[:, entry, 1], table[:, entry, 2] = STILL, self._hidden * self._size
            for thread in range(table.shape[0]):
                at = thread * table.strides[0] + entry * table.strides[1]
                yield address(table) + at, whose, level * bytes_

    def bind(self, weights: Iterable[Packed]) -> None:
        """Use these weights, one per level, from now on."""
        for frame, packed, example in zip(self._frames, weights, self._examples, strict=True):
            frame.bind(packed, example)

    def run(self, x: np.ndarray, given: Arrays, made: Arrays, start: int) -> None:
        """Run the step of index ``start``.

        x (B, I); given and made: the states before and after it, (L, B, H) each. All contiguous.
        """
        if start != self._start:
            self._start = start
            for frame in self._frames:
                frame.descriptor.set(START=start)
        if self._in_place and max(map(threads.worth, self._flops)) == 1:
            run_step(self._words, self._passes, x, given, made)
            return
        _bind(self._words, x, given, made)
        for level, (frame, flops) in enumerate(zip(self._frames, self._flops, strict=True)):
            if not self._in_place:
                self._copy(frame, given, level, back=False)
            frame.descriptor.run(celltype.FORWARD, flops)
            if not self._in_place:
                self._copy(frame, made, level, back=True)

    def _copy(self, frame: Frame, states: Arrays, level: int, back: bool) -> None:
        """Copy a level's states to the place that they have in its frame, or new ones back."""
        for buffer, state in zip(frame.states.values(), states, strict=True):
            if back:
                state[level] = buffer[self._batch :, : self._hidden]
            else:
                buffer[: self._batch, : self._hidden] = state[level]
