"""The buffers and tables of passes over batches of one layout, made once and used again.

Making them costs some hundred microseconds, more than the arithmetic of a small layer.
"""

import threading
from collections import OrderedDict
from functools import partial
from typing import Any

import numpy as np

from minirnn.kernels import celltype, product, threads
from minirnn.kernels.cellkernel import CellKernel, Packed
from minirnn.kernels.descriptor import Descriptor
from minirnn.kernels.fold import Fold
from minirnn.kernels.rows import GATE, NEXT, Rows
from minirnn.kernels.symbols import gather_job
from minirnn.kernels.workspace import Lease, address, lend_rows

# What a backward pass leaves of its run: see `BackFrame`.
CONSUME, KEEP, RECORD, WATCH = "consume", "keep", "record", "watch"
_LIMIT = 512 << 20  # bytes of frames that wait to be used again, at most


class Frame:
    """The buffers of a forward pass, its descriptor, and the frames of passes back over it.

    kernel: the cell; rows: who is alive when; features: I; keep: whether a backward pass may
    follow; below: the states of the level below, for a cell that reads them.
    """

    def __init__(
        self, kernel: CellKernel, rows: Rows, features: int, keep: bool, below: tuple[str, ...]
    ) -> None:
        self.kernel, self.rows, self.features, self.keep = kernel, rows, features, keep
        self.lease = Lease()
        k, dtype = kernel, kernel.dtype
        take = partial(self.lease.take_rows, dtype=dtype)
        alive = len(rows.order)
        kept = rows.count if keep else alive
        pad = 0.0 if k.padded != k.hidden else None  # units beyond H are read, never used
        self.states = {n: take(alive + rows.count, k.padded, fill=pad) for n in k.cell.state}
        self.below = {n: take(rows.count, k.padded, fill=pad) for n in below}
        self.x_rows = take(rows.count, len(k.segment_columns))
        self.saved = take(kept, k.plan.saved_apart * k.padded)
        self.operands = [take(kept, k.padded) for _ in k.plan.operands]
        self.means = take(kept, max(1, k.plan.means))
        places = self.places()
        for i in range(k.plan.means):
            places[f"sum.{i}"] = (take(alive, k.padded), 1)
        still = () if keep else ("saved", "operand", "mean")
        self.descriptor = Descriptor(k, rows, celltype.FORWARD, places, still=still)
        self.jobs = product.job_table([[]])
        self.descriptor.set(BEFORE=address(self.jobs), BEFORE_COUNT=1)
        self._backs: dict[str, list[BackFrame]] = {}
        self.inputs: np.ndarray | Fold | None = None
        self._weights: Packed | None = None
        self.shelved = 0  # bytes counted when it was last put on the shelf

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        backs = (b for waiting in self._backs.values() for b in waiting)
        return self.lease.nbytes + sum(b.lease.nbytes for b in backs)

    def places(self) -> dict[str, tuple[np.ndarray, int]]:
        """Return buffer name -> (array, members) for what the forward pass leaves."""
        k = self.kernel
        places = self.segments("x", self.x_rows)
        places |= {f"{w}.{n}": (b, 1) for n, b in self.states.items() for w in ("prev", "next")}
        places |= {f"operand.{i}": (b, 1) for i, b in enumerate(self.operands)}
        places |= {f"below.{n}": (b, 1) for n, b in self.below.items()}
        places["saved"] = (self.saved, k.plan.saved_apart)
        places |= {f"mean.{i}": (self.means[:, i : i + 1], 1) for i in range(k.plan.means)}
        return places

    def segments(self, kind: str, buffer: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
        """Cut a buffer of gate columns into its segments."""
        places, at = {}, 0
        for s, names in enumerate(self.kernel.plan.segments):
            wide = len(names) * self.kernel.padded
            for prefix in (kind, f"{kind}_next"):
                places[f"{prefix}.{s}"] = (buffer[:, at : at + wide], len(names))
            at += wide
        return places

    def bind(self, weights: Packed, inputs: np.ndarray | Fold) -> None:
        """Use these weights, and inputs in internal rows (count, I), or their ids (count,)."""
        k = self.kernel
        self.descriptor.bind(weights)
        if isinstance(inputs, Fold):
            job = gather_job(inputs.table, inputs.ids, self.x_rows)
            self.jobs[0, : len(job)] = job
            self.inputs, self._weights = inputs, None
            return
        if weights is not self._weights:
            job = product.rows_job(
                k.dtype.name, inputs, self.features, k.input_panels(weights),
                self.x_rows.shape[1], self.x_rows,
            )  # fmt: skip
            self.jobs[0, : len(job)] = job
            self._weights = weights
        self.jobs[0, product.ROWS_A] = address(inputs)
        self.inputs = inputs  # alive as long as its address is in the table

    def take_back(self, mode: str) -> "BackFrame":
        """Return a frame for a backward pass; `BackFrame.release` gives it back."""
        try:
            return self._backs[mode].pop()  # atomic: another thread may take one too
        except (KeyError, IndexError):
            return BackFrame(self, mode)

    def give_back(self, back: "BackFrame") -> None:
        """Take a frame back that nothing reads any more."""
        waiting = self._backs.setdefault(back.mode, [])
        if self.rows.equal and len(waiting) < 2:
            waiting.append(back)
        else:
            back.lease.release()


class BackFrame:
    """The buffers of a backward pass over a frame, and its descriptors.

    mode: CONSUME, the derivatives by the gates are written over the values that the forward pass
    saved; KEEP, they have a buffer of their own. RECORD and WATCH are the same two, and all
    gradients of the states are kept.
    """

    def __init__(self, frame: Frame, mode: str) -> None:
        self.frame, self.mode = frame, mode
        self.consumes, self.watched = mode in (CONSUME, RECORD), mode in (RECORD, WATCH)
        watch = self.watched
        self.lease = Lease()
        k, rows, dtype = frame.kernel, frame.rows, frame.kernel.dtype
        take = partial(self.lease.take_rows, dtype=dtype)
        alive = len(rows.order)
        self.dx = frame.x_rows
        if not self.consumes:
            self.dx = take(rows.count, len(k.segment_columns))
        self.segments = frame.segments("dx", self.dx)
        places: dict[str, tuple[np.ndarray, int]] = frame.places() | self.segments
        self.du: dict[int, np.ndarray] = {}
        for g in k.plan.groups:
            if g.index not in k.plan.shared:
                members = len(g.blocks)
                self.du[g.index] = take(rows.count, members * k.padded)
                for name in (f"du.{g.index}", f"du_next.{g.index}"):
                    places[name] = (self.du[g.index], members)
        self.dp = {n: take(rows.count, k.padded) for n in k.cell.vectors}
        self.dbelow = {n: take(rows.count, k.padded) for n in frame.below}
        places |= {f"dp.{n}": (b, 1) for n, b in self.dp.items()}
        places |= {f"dbelow.{n}": (b, 1) for n, b in self.dbelow.items()}
        places |= {f"pull.{i}": (take(alive, k.padded), 1) for i in range(k.plan.pulls)}
        means = take(alive, max(1, k.plan.backward_means))
        for i in range(k.plan.backward_means):
            places[f"bmean.{i}"] = (means[:, i : i + 1], 1)
            places[f"bsum.{i}"] = (take(alive, k.padded), 1)
        self.clocks: dict[str, int] = {}
        self.carry: dict[str, np.ndarray] = {}
        for n in k.cell.state:
            self.carry[n] = take(alive, k.padded)
            places[f"carry.{n}"] = places[f"carried.{n}"] = (self.carry[n], 1)
        self._records = tuple(dict.fromkeys(
            [*(f"total.{n}" for n in k.cell.state), *k.plan.inner.values()] if watch else ()
        ))  # fmt: skip
        for name in self._records:  # see lend_records
            places[name], self.clocks[name] = (take(alive, k.padded), 1), NEXT
        self.zeros = self.lease.take((k.lanes,), dtype, fill=0.0)
        self.places = places
        self.steps = self.descriptor(celltype.BACKWARD)
        self.drain = self.descriptor(celltype.DRAIN)
        self.drain.set(FIRST=-1)
        self.steps.set(DRAIN=address(self.drain.words))
        entries = [self.steps.index[name] for name in self._records]
        self._moving = self.steps.table, entries
        columns = max(frame.features, k.hidden)
        scratch = product.transposed_scratch(columns, dtype.itemsize)
        self.scratch = self.lease.take((self.steps.threads, scratch), np.uint8)
        self.steps.set(SCRATCH=address(self.scratch), SCRATCH_STRIDE=scratch)
        self.jobs: dict[tuple[bool, bool, bool], Any] = {}  # tables of the closing products
        self.targets: Any = None  # where the gradients of the weights lie
        self.drain_reached = False  # whether something reached the states in the last pass's drain

    def descriptor(self, which: int) -> Descriptor:
        """Describe a pass over these buffers; nothing reaches the states from outside yet."""
        made = Descriptor(
            self.frame.kernel, self.frame.rows, which, self.places, clocks=self.clocks,
            watched=self.watched,
        )  # fmt: skip
        self.place_outside(made, {})
        return made

    def lend_records(self) -> dict[str, np.ndarray]:
        """Place what a watched pass hands out in new arrays: a user may hold those before.

        Returns buffer name -> (rows of states, padded).
        """
        if not self._records:
            return {}
        k, rows = self.frame.kernel, self.frame.rows
        made, starts = {}, []
        for name in self._records:
            array, start = lend_rows(len(rows.order) + rows.count, k.padded, k.dtype)
            made[name], _ = self.places[name] = array, 1
            starts.append(start)
        table, entries = self._moving
        table[:, entries, 0] = starts
        return made

    def place_outside(
        self, descriptor: Descriptor, outside: dict[str, tuple[np.ndarray, int]]
    ) -> None:
        """Tell what reaches the states from outside: state -> (rows, clock); others: zeros."""
        for n in self.frame.kernel.cell.state:
            if f"ext.{n}" in descriptor.index:
                array, clock = outside.get(n, (self.zeros, GATE))
                descriptor.place(f"ext.{n}", array, 1, clock)

    def release(self) -> None:
        """Give the frame back to be used again; nothing may read it any more."""
        self.frame.give_back(self)


class _Shelf:
    """Frames that wait to be used again, the longest unused ones dropped first."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Any, list[Frame]] = OrderedDict()
        self._held = 0
        self._lock = threading.RLock()  # the collector may run a finalizer that takes it again

    def take(
        self, kernel: CellKernel, rows: Rows, features: int, keep: bool, below: tuple[str, ...]
    ) -> Frame:
        """Return a frame for such a batch."""
        with self._lock:
            waiting = self._waiting.get(_key(kernel, rows, features, keep, below))
            frame = waiting.pop() if waiting else None
            if frame is not None:
                self._held -= frame.shelved
        if frame is None or frame.descriptor.threads < threads.available():
            frame = Frame(kernel, rows, features, keep, below)
        return frame

    def give(self, frame: Frame) -> None:
        """Put a frame back that no pass uses any more."""
        frame.inputs = None
        if not frame.rows.equal:  # no other batch is likely to have the same lengths
            frame.lease.release()
            return
        key = _key(frame.kernel, frame.rows, frame.features, frame.keep, tuple(frame.below))
        with self._lock:
            self._waiting.setdefault(key, []).append(frame)
            self._waiting.move_to_end(key)
            frame.shelved = frame.nbytes
            self._held += frame.shelved
            while self._held > _LIMIT:
                oldest, frames = next(iter(self._waiting.items()))
                if frames:
                    self._held -= frames.pop(0).shelved
                if not frames:
                    del self._waiting[oldest]

    def clear(self) -> None:
        """Drop all frames."""
        with self._lock:
            self._waiting.clear()
            self._held = 0


def _key(
    kernel: CellKernel, rows: Rows, features: int, keep: bool, below: tuple[str, ...]
) -> tuple[Any, ...] | None:
    if not rows.equal:
        return None
    return kernel, rows.steps, rows.batch, rows.index is None, features, keep, below


shelf = _Shelf()
