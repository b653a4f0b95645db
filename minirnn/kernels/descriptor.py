"""The block of integers that describes a pass to its kernel."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.kernels import celltype, sequence, threads
from minirnn.kernels.cellkernel import CellKernel, Packed
from minirnn.kernels.rows import GATE, GATE_NEXT, NEXT, PREV, STILL, Rows
from minirnn.kernels.tile import tile_address
from minirnn.kernels.workspace import address

# What each kind of buffer follows through time; carry, carried, inner and ext are told per pass.
_CLOCKS = {
    **dict.fromkeys(("x", "saved", "operand", "mean", "below", "dx", "du", "dp", "dbelow"), GATE),
    **dict.fromkeys(("dx_next", "du_next"), GATE_NEXT),
    "prev": PREV,
    "next": NEXT,
}  # all others stand still

_POSITION = {
    name: value // 8
    for name, value in vars(sequence).items()
    if name.isupper() and isinstance(value, int)
}

Places = Mapping[str, tuple[np.ndarray, int]]  # buffer -> (array, members)


class Descriptor:
    """The integers that tell a kernel of a pass over given rows and buffers.

    It is made once for buffers that stay, and bound to weights, inputs and outputs for each pass.
    """

    def __init__(
        self, kernel: CellKernel, rows: Rows, which: int, places: Places,
        still: tuple[str, ...] = (), clocks: Mapping[str, int] | None = None, watched: bool = False,
    ) -> None:  # fmt: skip
        k = kernel
        self.kernel, self.which = k, which
        self.threads = threads.available()
        self.words = np.zeros(sequence.WORDS, np.int64)
        self.index = {name: i for i, name in enumerate(k.buffers[which])}
        # Entries: address, clock, row stride, block stride. What has no place yet is placed before
        # the pass, or is a store that only a watched pass makes.
        self.table = np.zeros((self.threads, len(self.index), 4), np.int64)
        self.held: list[Any] = [places]  # what the addresses point into
        for name in self.index:
            if name in places:
                kind = name.partition(".")[0]
                clock = (clocks or {}).get(name, _CLOCKS.get(kind, STILL))
                self.place(name, *places[name], STILL if kind in still else clock)
        self._private_means(rows)
        self.now = np.zeros((self.threads, max(1, len(self.index)) * 3 + 8), np.int64)
        self.head = np.zeros((self.threads, 16), np.int64)
        for word, value in (
            ("tile", tile_address(k.dtype.name)), ("blocks", k.blocks), ("hidden", k.hidden),
            ("watched", int(watched)),
        ):  # fmt: skip
            self.head[:, celltype.HEAD[word] // 8] = value
        self.columns = k.columns[which]
        self.clocks, self.alive = rows.clocks, rows.alive
        self.counter = np.zeros(32, np.int64)
        self.set(STEPS=rows.steps, STAGES=len(self.columns), BUFFERS=len(self.index),
                 TABLE=address(self.table), TABLE_STRIDE=self.table.strides[0],
                 NOW=address(self.now), NOW_STRIDE=self.now.strides[0], HEADS=address(self.head),
                 HEAD_STRIDE=self.head.strides[0], CLOCKS=address(self.clocks),
                 ALIVE=address(self.alive), COLUMNS=address(self.columns),
                 COUNTER=address(self.counter) + 128, FIRST=0, LAST=rows.steps)  # fmt: skip
        self._address = address(self.words)
        self._weights: Packed | None = None
        self._function = 0

    def place(self, name: str, array: np.ndarray, members: int, clock: int) -> None:
        """Tell where a buffer lies: rows that follow a clock, or one row for all of them.

        A single row has as many values as there are units, or one vector that serves all units.
        """
        k = self.kernel
        wide = members * k.lanes * k.dtype.itemsize
        if array.ndim == 1:
            block = 0 if array.shape[0] == k.lanes else wide
            entry = (address(array), STILL, 0, block)
        else:
            block = 0 if name.partition(".")[0].endswith("mean") else wide
            entry = (address(array), clock, array.strides[0], block)
        self.table[:, self.index[name]] = entry

    def _private_means(self, rows: Rows) -> None:
        """Give every thread but the first its own place for the means that this pass computes.

        Each computes all rows' means, so that none waits for another; the first one's are kept.
        """
        dtype = self.kernel.dtype
        for name in sorted(
            {to for s in celltype.stages(self.kernel.plan, self.which) for _, to in s.means}
        ):
            private = np.empty((self.threads, max(1, len(rows.order))), dtype)
            self.held.append(private)
            for thread in range(1, self.threads):
                entry = (address(private[thread]), STILL, dtype.itemsize, 0)
                self.table[thread, self.index[name]] = entry

    def set(self, **words: int) -> None:
        """Write words of the block by name."""
        for name, value in words.items():
            self.words[_POSITION[name]] = value

    def bind(self, weights: Packed) -> None:
        """Use these weights from now on."""
        if weights is self._weights:
            return
        self._weights = weights
        table = self.kernel.weights_table(weights, self.which)
        self.head[:, celltype.HEAD["weights"] // 8] = address(table)
        for name, vector in self.kernel.vector_buffers(weights).items():
            if f"p.{name}" in self.index:
                self.place(f"p.{name}", vector, 1, STILL)

    def run(self, which: int, flops: float) -> None:
        """Run a pass in as many threads as its work is worth."""
        if not self._function:  # kept: to look it up by a Numba type takes microseconds
            self._function = sequence.pass_address(self.kernel.type, which)
        count = min(threads.worth(flops), self.threads)
        if count > 1:
            self.counter[:] = 0
        threads.launch(self._function, self._address, count)
