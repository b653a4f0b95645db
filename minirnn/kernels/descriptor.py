"""The block of integers that describes a pass to its kernel."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.kernels import celltype, product, sequence, threads
from minirnn.kernels.cellkernel import CellKernel, Packed
from minirnn.kernels.rows import GATE, GATE_NEXT, NEXT, PREV, STILL, Rows
from minirnn.kernels.tile import tile_address

# What each kind of buffer follows through time; carry, carried, inner and ext are told per pass.
_CLOCKS = {
    **dict.fromkeys(("x", "saved", "operand", "mean", "below", "dx", "du", "dp", "dbelow"), GATE),
    **dict.fromkeys(("dx_next", "du_next"), GATE_NEXT),
    "prev": PREV,
    "next": NEXT,
}  # all others stand still


class Descriptor:
    """The block of integers that tells a kernel of a pass, and what must stay alive meanwhile."""

    def __init__(
        self, kernel: CellKernel, weights: Packed, rows: Rows, start: int, which: int,
        places: Mapping[str, tuple[np.ndarray, int]],
        still: tuple[str, ...] = (), clocks: Mapping[str, int] | None = None, watched: bool = False,
    ) -> None:  # fmt: skip
        k = kernel
        self.kernel = k
        self.words = np.zeros(sequence.WORDS, np.int64)
        names = k.buffers[which]
        table = []
        self.held: list[Any] = [places]  # what the addresses point into
        for name in names:
            if name not in places:
                table.append((0, STILL, 0, 0))  # a store that only a watched pass makes
                continue
            array, members = places[name]
            kind = name.partition(".")[0]
            clock = (clocks or {}).get(name, _CLOCKS.get(kind, STILL))
            if array.ndim == 1:  # the same for every row; one vector: for every unit too
                block = 0 if array.shape[0] == k.lanes else k.lanes * k.dtype.itemsize
                table.append((array.ctypes.data, STILL, 0, block))
            else:
                clock = STILL if kind in still else clock
                block = 0 if kind.endswith("mean") else members * k.lanes * k.dtype.itemsize
                table.append((array.ctypes.data, clock, array.strides[0], block))
        count = threads.available()
        self.table = np.repeat(np.array(table, np.int64)[None], count, axis=0)
        self._private_means(which, rows)
        self.now = np.zeros((count, max(1, len(names)) * 3 + 8), np.int64)
        self.head = np.zeros((count, 16), np.int64)
        table_of_weights = k.weights_table(weights, which)
        for name, value in (
            ("tile", tile_address(k.dtype.name)), ("blocks", k.blocks), ("hidden", k.hidden),
            ("watched", int(watched)), ("weights", table_of_weights.ctypes.data),
        ):  # fmt: skip
            self.head[:, celltype.HEAD[name] // 8] = value
        self.columns = k.columns[which]
        self.clocks, self.alive = rows.clocks, rows.alive
        self.counter = np.zeros(32, np.int64)
        self.set(STEPS=rows.steps, STAGES=len(self.columns), BUFFERS=len(names),
                 TABLE=self.table, TABLE_STRIDE=self.table.strides[0],
                 NOW=self.now, NOW_STRIDE=self.now.strides[0], HEADS=self.head,
                 HEAD_STRIDE=self.head.strides[0], CLOCKS=self.clocks, ALIVE=self.alive,
                 COLUMNS=self.columns, COUNTER=self.counter.ctypes.data + 128, FIRST=0,
                 LAST=rows.steps, START=start)  # fmt: skip

    def _private_means(self, which: int, rows: Rows) -> None:
        """Give every thread but the first its own place for the means that this pass computes.

        Each computes all rows' means, so that none waits for another; the first one's are kept.
        """
        dtype, names = self.kernel.dtype, self.kernel.buffers[which]
        made = {to for s in celltype.stages(self.kernel.plan, which) for _, to in s.means}
        for i, name in enumerate(names):
            if name in made:
                private = np.empty((len(self.table), max(1, len(rows.order))), dtype)
                self.held.append(private)
                for thread in range(1, len(self.table)):
                    address = private[thread].ctypes.data
                    self.table[thread, i] = (address, STILL, dtype.itemsize, 0)

    def set(self, **words: Any) -> None:
        """Write words of the block by name; of an array its address."""
        for name, value in words.items():
            address = value.ctypes.data if isinstance(value, np.ndarray) else value
            self.words[getattr(sequence, name) // 8] = address

    def jobs(
        self, before: list[list[int]] | None = None, after: list[list[int]] | None = None,
        scratch: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Give the products that a pass begins or ends with; scratch: (threads, bytes)."""
        for name, jobs in (("BEFORE", before), ("AFTER", after)):
            if jobs:
                table = product.job_table(jobs)
                self.held.append(table)
                self.set(**{name: table, f"{name}_COUNT": len(jobs)})
        if scratch is not None:
            self.held.append(scratch)
            self.set(SCRATCH=scratch, SCRATCH_STRIDE=scratch.strides[0])

    def run(self, entry: Any, flops: float) -> None:
        """Run a pass in as many threads as its work is worth."""
        address = self.words.ctypes.data
        self.counter[:] = 0
        typed = self.kernel.typed
        threads.run(
            lambda thread, count: entry(typed, address, thread, count), threads.worth(flops)
        )
