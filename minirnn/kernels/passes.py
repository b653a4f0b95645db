"""A cell's passes over a batch of sequences: buffers, descriptors, and what comes out.

`CellKernel` is a cell for a dtype and a hidden size; `Run` is one forward pass and what it keeps.
Everything here is arrays; tensors and the tape are the business of `minirnn.layers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from minirnn.equations.cell import Cell
from minirnn.equations.plan import Plan, plan
from minirnn.kernels import product, sequence, stage, threads
from minirnn.kernels.machine import MACHINE
from minirnn.kernels.pack import aligned, interleaved, pack_plain, pack_transposed
from minirnn.kernels.rows import GATE, GATE_NEXT, NEXT, PREV, STILL, Rows
from minirnn.kernels.tile import WIDEST, cut, tile_address
from minirnn.kernels.workspace import Lease

Arrays = Mapping[str, np.ndarray]
_CLOCKS = {"x": GATE, "saved": GATE, "prev": PREV, "next": NEXT, "below": NEXT, "operand": GATE,
           "p": STILL, "dx": GATE, "du": GATE, "dx_next": GATE_NEXT, "du_next": GATE_NEXT,
           "dp": GATE, "dbelow": NEXT, "pull": STILL}  # fmt: skip
_THREAD_FLOPS = 4e5  # a pass of less work than this runs in one thread


@dataclass
class Packed:
    """Weights of one level and direction in the kernels' order.

    weight_ih (G*H, I), weight_hh (P*H, H), bias_ih (G*H,) or None, bias_hh (P*H,) or None with
    zeros for blocks without a bias, vectors: name -> (H,).
    """

    weight_ih: np.ndarray
    weight_hh: np.ndarray
    bias_ih: np.ndarray | None
    bias_hh: np.ndarray | None
    vectors: Arrays
    parts: dict[str, Any] = field(default_factory=dict)  # packed when first needed


@dataclass
class Gradients:
    """What a backward pass gives; arrays in the user's layout, None where not asked for."""

    x: np.ndarray | None
    weight_ih: np.ndarray | None
    weight_hh: np.ndarray | None
    bias_ih: np.ndarray | None
    bias_hh: np.ndarray | None
    vectors: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    lease: Lease


@lru_cache(maxsize=256)
def cell_kernel(cell: Cell, dtype: str, hidden_size: int) -> "CellKernel":
    """Return the kernels of a cell for a dtype and hidden size."""
    return CellKernel(cell, np.dtype(dtype), hidden_size)


class CellKernel:
    """A cell, a dtype and a hidden size; knows every buffer's layout."""

    def __init__(self, cell: Cell, dtype: np.dtype, hidden_size: int) -> None:
        self.cell, self.dtype, self.hidden = cell, dtype, hidden_size
        self.plan: Plan = plan(cell)
        self.lanes = MACHINE.lanes(dtype.itemsize)
        self.blocks = -(-hidden_size // self.lanes)
        self.padded = self.blocks * self.lanes
        self.typed = stage.KernelCell(self.plan, dtype.name, self.blocks)
        self.segment_columns = np.concatenate(
            [self._columns(s, cell.gates) for s in self.plan.segments]
        )
        self.buffers = {w: stage.buffers(self.plan, w) for w in range(3)}
        self.columns = {w: self._stage_columns(w) for w in range(3)}

    def _stage_columns(self, which: int) -> np.ndarray:
        """Return the number of columns of each stage of a pass."""
        units = [
            stage.tiling(self.plan, which, s, self.typed.units)[0]
            for s in stage.stages(self.plan, which)
        ]
        return np.array([-(-self.blocks // u) for u in units], np.int64)

    def _columns(self, names: tuple[str, ...], blocks: tuple[str, ...]) -> np.ndarray:
        return interleaved([blocks.index(k) for k in names], self.hidden, self.lanes)

    # Weights

    def input_panels(self, w: Packed) -> np.ndarray:
        if "input" not in w.parts:
            w.parts["input"] = pack_transposed(
                w.weight_ih, self.segment_columns, w.bias_ih, WIDEST * self.lanes
            )
        return w.parts["input"]

    def input_rows(self, w: Packed) -> np.ndarray:
        if "input_rows" not in w.parts:
            width = WIDEST * self.lanes
            w.parts["input_rows"] = pack_plain(w.weight_ih, self.segment_columns, width)
        return w.parts["input_rows"]

    def weights_table(self, w: Packed, which: int) -> np.ndarray:
        """Return the table (address, depth) of the packed weights of a pass."""
        if ("table", which) in w.parts:
            return w.parts["table", which]
        packed = w.parts.setdefault("forward" if which == stage.FORWARD else "backward", {})
        rows = []
        for s, g, c in stage.weight_order(self.plan, which):
            group = self.plan.groups[g]
            if (g, c) not in packed:
                units, _, _ = stage.tiling(
                    self.plan, which, stage.stages(self.plan, which)[s], self.typed.units
                )
                packed[g, c] = self._pack_group(w, group.blocks, which, c, units)
            depth = self.hidden if which == stage.FORWARD else len(group.blocks) * self.padded
            rows.append((packed[g, c].ctypes.data, depth))
        table = w.parts["table", which] = np.array(rows, np.int64).reshape(-1, 2)
        return table

    def _pack_group(
        self, w: Packed, blocks: tuple[str, ...], which: int, chunk: int, units: int
    ) -> np.ndarray:
        if which != stage.FORWARD:
            columns = self._columns(blocks, self.cell.products)
            return pack_plain(w.weight_hh, columns, units * self.lanes)
        cuts = cut(len(blocks))
        first = sum(cuts[:chunk])
        names = blocks[first : first + cuts[chunk]]
        width = units * len(names) * self.lanes
        return pack_transposed(
            w.weight_hh, self._columns(names, self.cell.products), w.bias_hh, width
        )

    def vector_buffers(self, w: Packed) -> dict[str, np.ndarray]:
        """Return vectors and constants padded to whole vectors, (padded,) each."""
        if "vectors" not in w.parts:
            out = {}
            for k, v in w.vectors.items():
                out[k] = aligned((self.padded,), self.dtype, fill=0.0)
                out[k][: self.hidden] = v
            w.parts["vectors"] = out
        return w.parts["vectors"]

    # Layout

    def to_rows(self, array: np.ndarray, lease: Lease) -> np.ndarray:
        """Copy (rows, H) into padded rows (rows, padded)."""
        out = lease.take((array.shape[0], self.padded), self.dtype)
        out[:, : self.hidden] = array
        if self.padded != self.hidden:
            out[:, self.hidden :] = 0.0
        return out

    def members(self, buffer: np.ndarray, member: int, members: int) -> np.ndarray:
        """Return one member of an interleaved buffer (rows, blocks*members*lanes): (rows, H)."""
        view = buffer.reshape(buffer.shape[0], self.blocks, members, self.lanes)[:, :, member]
        return np.ascontiguousarray(view).reshape(buffer.shape[0], self.padded)[:, : self.hidden]


class Run:
    """One forward pass over a batch.

    x: (T, B, I); state: state name -> (B, H); rows: who is alive when; keep: whether a backward
    pass may follow; start: index of the first step; below: state name -> (T, B, H) or None.
    """

    def __init__(
        self, kernel: CellKernel, weights: Packed, x: np.ndarray, state: Arrays, rows: Rows,
        keep: bool, start: int = 0,
    ) -> None:  # fmt: skip
        self.kernel, self.weights, self.rows, self.start = kernel, weights, rows, start
        self.x_shape = x.shape
        self.lease = Lease()
        k, lease, dtype = kernel, self.lease, kernel.dtype
        self.inputs = self._input_rows(x)
        self.scratch = Lease()  # given back right after the pass
        states = len(rows.order) + rows.count
        self.states = {}
        for name in k.cell.state:
            buffer = lease.take((states, k.padded), dtype)
            buffer[: len(rows.order), : k.hidden] = state[name][rows.order]
            if k.padded != k.hidden:
                buffer[: len(rows.order), k.hidden :] = 0.0
            self.states[name] = buffer
        columns = len(k.segment_columns)
        x_rows = self.scratch.take((rows.count, columns), dtype)
        kept = lease if keep else self.scratch
        alive = len(rows.order)
        saved = kept.take(
            (rows.count if keep else alive, len(k.plan.saved) * k.padded), dtype
        )
        self.operands = [
            kept.take((rows.count if keep else alive, k.padded), dtype) for _ in k.plan.operands
        ]
        self.saved = saved
        self.keep = keep
        self._forward(x_rows)
        self.scratch.release()

    def _input_rows(self, x: np.ndarray) -> np.ndarray:
        """Return the input's living rows in internal order, (count, I)."""
        flat = np.ascontiguousarray(x).reshape(-1, x.shape[2])
        if self.rows.index is None:
            return flat
        return np.take(flat, self.rows.index, axis=0)

    def _places(self) -> dict[str, tuple[np.ndarray, int]]:
        """Return buffer name -> (array, members) for what the forward pass leaves."""
        k = self.kernel
        places = {f"{w}.{n}": (b, 1) for n, b in self.states.items() for w in ("prev", "next")}
        places |= {f"operand.{i}": (b, 1) for i, b in enumerate(self.operands)}
        places |= {f"p.{n}": (b, 1) for n, b in k.vector_buffers(self.weights).items()}
        places["saved"] = (self.saved, len(k.plan.saved))
        return places

    def _segments(self, kind: str, buffer: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
        """Cut a buffer of gate columns into its segments."""
        places, at = {}, 0
        for s, names in enumerate(self.kernel.plan.segments):
            wide = len(names) * self.kernel.padded
            for prefix in (kind, f"{kind}_next"):
                places[f"{prefix}.{s}"] = (buffer[:, at : at + wide], len(names))
            at += wide
        return places

    def _forward(self, x_rows: np.ndarray) -> None:
        k, rows = self.kernel, self.rows
        if not rows.count:
            return
        places = self._places() | self._segments("x", x_rows)
        still = () if self.keep else ("saved", "operand")
        job = product.rows_job(
            k.dtype.name, self.inputs, self.inputs.shape[1], k.input_panels(self.weights),
            x_rows.shape[1], x_rows,
        )  # fmt: skip
        d = _Descriptor(self, stage.FORWARD, places, still)
        d.jobs(before=[job])
        flops = 2.0 * rows.count * x_rows.shape[1] * (self.inputs.shape[1] + k.hidden)
        d.run(sequence.forward, flops)

    # What comes out

    def output(self, name: str) -> np.ndarray:
        """Return a state after every step, (T, B, H) in the order of the input; 0 where padded."""
        rows, k = self.rows, self.kernel
        steps, batch = self.x_shape[:2]
        living = self.states[name][len(rows.order) :, : k.hidden]
        if rows.index is None:
            return living.reshape(steps, batch, k.hidden).copy()
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
        rows = self.rows
        out = np.array(state, copy=True)
        out[rows.order] = self.states[name][rows.final][:, : self.kernel.hidden]
        return out

    # Backward

    def backward(
        self, d_output: np.ndarray | None, d_final: Arrays, d_rows: Arrays | None = None,
        weights: bool = True, input: bool = True, watch: bool = False, clip: float | None = None,
    ) -> Gradients:  # fmt: skip
        """Run the recurrence backward.

        d_output: (T, B, H), gradient of the first state after every step; d_final: state name ->
        (B, H); d_rows: state name -> (rows of states, padded), in internal rows. ``weights`` and
        ``input``: whether to form their gradients; ``watch``: keep the gradients of the states;
        ``clip``: scale each sequence's gradient of the states to at most this norm at every step.
        """
        return _Backward(self, d_output, d_final, d_rows or {}, watch or clip is not None).run(
            weights, input, clip
        )


class _Descriptor:
    """The block of integers that tells a kernel of a pass, and what must stay alive meanwhile."""

    def __init__(
        self, run: Run, which: int, places: Mapping[str, tuple[np.ndarray, int]],
        still: tuple[str, ...] = (), clocks: Mapping[str, int] | None = None, watched: bool = False,
    ) -> None:  # fmt: skip
        k, rows = run.kernel, run.rows
        self.kernel, self.which = k, which
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
                block = members * k.lanes * k.dtype.itemsize
                table.append((array.ctypes.data, clock, array.strides[0], block))
        self.table = np.array(table, np.int64)
        count = threads.available()
        self.now = np.zeros((count, max(1, len(names)) * 3 + 8), np.int64)
        self.head = np.zeros((count, 16), np.int64)
        weights = k.weights_table(run.weights, which)
        for name, value in (
            ("tile", tile_address(k.dtype.name)), ("blocks", k.blocks), ("hidden", k.hidden),
            ("watched", int(watched)), ("weights", weights.ctypes.data),
        ):  # fmt: skip
            self.head[:, stage.HEAD[name] // 8] = value
        self.columns = k.columns[which]
        self.clocks, self.alive = rows.clocks, rows.alive
        self.counter = np.zeros(32, np.int64)
        self.set(STEPS=rows.steps, STAGES=len(self.columns), BUFFERS=len(names), TABLE=self.table,
                 NOW=self.now, NOW_STRIDE=self.now.strides[0], HEADS=self.head,
                 HEAD_STRIDE=self.head.strides[0], CLOCKS=self.clocks, ALIVE=self.alive,
                 COLUMNS=self.columns, COUNTER=self.counter.ctypes.data + 128, FIRST=0,
                 LAST=rows.steps, START=run.start)  # fmt: skip

    def set(self, **words: Any) -> None:
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
        wanted = threads.get_num_threads() if flops > _THREAD_FLOPS else 1
        typed = self.kernel.typed
        threads.run(lambda thread, count: entry(typed, address, thread, count), wanted)


class _Backward:
    """One backward pass over a run."""

    def __init__(
        self, run: Run, d_output: np.ndarray | None, d_final: Arrays, d_rows: Arrays, watch: bool
    ) -> None:
        self.forward, self.kernel, self.rows, self.watch = run, run.kernel, run.rows, watch
        self.lease, self.d_final = Lease(), d_final
        k, rows = self.kernel, self.rows
        take, dtype, alive = self.lease.take, k.dtype, len(rows.order)
        self.dx = take((rows.count, len(k.segment_columns)), dtype)
        places = run._places() | run._segments("dx", self.dx)
        self.du = {}
        for g in k.plan.groups:
            if g.index not in k.plan.shared:
                n = len(g.blocks)
                self.du[g.index] = take((rows.count, n * k.padded), dtype)
                for name in (f"du.{g.index}", f"du_next.{g.index}"):
                    places[name] = (self.du[g.index], n)
        self.dp = {n: take((rows.count, k.padded), dtype) for n in k.cell.vectors}
        places |= {f"dp.{n}": (b, 1) for n, b in self.dp.items()}
        places |= {f"pull.{i}": (take((alive, k.padded), dtype), 1) for i in range(k.plan.pulls)}
        clocks: dict[str, int] = {}
        self.carry: dict[str, np.ndarray] = {}
        self.inner: dict[str, np.ndarray] = {}
        first = rows.final if watch else np.arange(alive)
        for n in k.cell.state:
            size = alive + rows.count if watch else alive
            carry = take((size, k.padded), dtype, fill=0.0)
            if n in d_final:
                carry[first, : k.hidden] = d_final[n][rows.order]
            self.carry[n] = carry
            for name, clock in ((f"carry.{n}", NEXT), (f"carried.{n}", PREV)):
                places[name], clocks[name] = (carry, 1), clock if watch else STILL
            if watch:
                self.inner[n] = take((size, k.padded), dtype)
                places[f"inner.{n}"], clocks[f"inner.{n}"] = (self.inner[n], 1), NEXT
        self.zeros = aligned((k.lanes,), dtype, fill=0.0)
        self.places, self.clocks = places, clocks
        self._external(d_output, d_rows)

    def _external(self, d_output: np.ndarray | None, d_rows: Arrays) -> None:
        """Lay out what reaches the states from outside the recurrence."""
        k, rows = self.kernel, self.rows
        self.drain_places, self.drain_clocks = dict(self.places), dict(self.clocks)
        for n in k.cell.state:
            name = f"ext.{n}"
            living = None
            if n == k.cell.state[0] and d_output is not None:
                living = d_output.reshape(-1, k.hidden)
                if rows.index is not None:
                    living = living[rows.index]
            if n in d_rows:
                full = self.lease.take(d_rows[n].shape, k.dtype)
                full[...] = d_rows[n]
                if living is not None:
                    full[len(rows.order) :, : k.hidden] += living
                self.places[name] = self.drain_places[name] = (full, 1)
                self.clocks[name] = self.drain_clocks[name] = NEXT
                continue
            self.drain_places[name] = (self.zeros, 1)
            if living is None:
                self.places[name] = (self.zeros, 1)
                continue
            if k.padded != k.hidden or not living.flags.c_contiguous:
                living = k.to_rows(living, self.lease)
            self.places[name], self.clocks[name] = (living, 1), GATE

    def run(self, weights: bool, input: bool, clip: float | None) -> Gradients:
        k, rows, run = self.kernel, self.rows, self.forward
        out = self._targets(weights, input)
        if rows.count:
            jobs = self._jobs(out, weights, input)
            flops = 2.0 * rows.count * self.dx.shape[1] * (k.hidden + len(jobs) * k.hidden)
            if clip is None:
                d = self._descriptor(stage.BACKWARD)
                columns = [self.forward.inputs.shape[1], k.hidden]
                size = max(product.transposed_scratch(c, k.dtype.itemsize) for c in columns)
                scratch = self.lease.take((threads.available(), size), np.uint8)
                d.jobs(after=jobs, scratch=scratch)
                d.run(sequence.backward, flops)
            else:
                self._clipped(clip)
            end = self._descriptor(stage.DRAIN)
            end.set(FIRST=-1)
            end.run(sequence.arrive, flops if rows.steps < 8 else 0.0)
        return self._collect(out, weights, input, run)

    def _descriptor(self, which: int) -> _Descriptor:
        drain = which == stage.DRAIN
        return _Descriptor(
            self.forward, which, self.drain_places if drain else self.places,
            clocks=self.drain_clocks if drain else self.clocks, watched=self.watch,
        )  # fmt: skip

    def _clipped(self, clip: float) -> None:
        """Step by step: let the gradient arrive, clip it, and carry it one step back."""
        k, rows = self.kernel, self.rows
        come = _Descriptor(self.forward, stage.DRAIN, self.places, clocks=self.clocks)
        outside = {f"ext.{n}": (self.zeros, 1) for n in k.cell.state}
        back = _Descriptor(
            self.forward, stage.BACKWARD, self.places | outside, clocks=self.clocks, watched=True
        )
        back.set(ARRIVED=1)
        for t in range(rows.steps - 1, -1, -1):
            come.set(FIRST=t)
            come.run(sequence.arrive, 0.0)
            here = slice(rows.state[t + 1], rows.state[t + 1] + rows.alive[t])
            norm = np.sqrt(sum((c[here, : k.hidden] ** 2).sum(axis=1) for c in self.carry.values()))
            scale = np.where(norm > clip, clip / np.where(norm > 0, norm, 1), 1).astype(k.dtype)
            for c in self.carry.values():
                c[here] *= scale[:, None]
            back.set(FIRST=t, LAST=t + 1)
            back.run(sequence.backward, 0.0)

    def _targets(self, weights: bool, input: bool) -> dict[str, np.ndarray]:
        """Make the arrays that the closing products write to."""
        k, dtype = self.kernel, self.kernel.dtype
        size = k.dtype.itemsize
        wide = lambda n: -(-n * size // product.VECTOR_BYTES) * k.lanes  # noqa: E731
        features = self.forward.inputs.shape[1]
        out: dict[str, np.ndarray] = {}
        if input:
            out["x"] = aligned((self.rows.count, wide(features)), dtype)
        if weights:
            gates, blocks = len(k.cell.gates), len(k.cell.products)
            out["weight_ih"] = aligned((gates * k.padded, wide(features)), dtype, fill=0.0)
            out["weight_hh"] = aligned((blocks * k.padded, wide(k.hidden)), dtype, fill=0.0)
            out["bias_ih"] = aligned((len(k.segment_columns),), dtype, fill=0.0)
            for g in k.plan.groups:
                if g.index not in k.plan.shared:
                    out[f"bias.{g.index}"] = aligned((len(g.blocks) * k.padded,), dtype, fill=0.0)
            for n in k.cell.vectors:
                out[f"p.{n}"] = aligned((k.padded,), dtype, fill=0.0)
        return out

    def _jobs(self, out: dict[str, np.ndarray], weights: bool, input: bool) -> list[list[int]]:
        k, run, name = self.kernel, self.forward, self.kernel.dtype.name
        features = run.inputs.shape[1]
        jobs = []
        if input:
            panels = k.input_rows(run.weights)
            jobs.append(product.rows_job(name, self.dx, self.dx.shape[1], panels, features, out["x"]))
        if not weights:
            return jobs
        self.kept: list[Any] = []
        segments = run._segments("dx", self.dx)
        for s, names in enumerate(k.plan.segments):
            places = np.array([k.cell.gates.index(n) for n in names], np.int64)
            self.kept.append(places)
            jobs.append(product.transposed_job(
                name, segments[f"dx.{s}"][0], len(names), places, run.inputs, features,
                out["weight_ih"],
            ))  # fmt: skip
        jobs.append(product.sums_job(name, self.dx, out["bias_ih"]))
        for g in k.plan.groups:
            places = np.array([k.cell.products.index(n) for n in g.blocks], np.int64)
            shared = g.index in k.plan.shared
            du = segments[f"dx.{k.plan.shared[g.index]}"][0] if shared else self.du[g.index]
            operand = self._operand(g.source)
            self.kept += [places, operand]
            jobs.append(product.transposed_job(
                name, du, len(g.blocks), places, operand, k.hidden, out["weight_hh"]
            ))  # fmt: skip
            if not shared:
                jobs.append(product.sums_job(name, du, out[f"bias.{g.index}"]))
        jobs += [product.sums_job(name, self.dp[n], out[f"p.{n}"]) for n in k.cell.vectors]
        return jobs

    def _operand(self, source: str) -> np.ndarray:
        """Return what a group was multiplied with, row by row of the gates: (count, padded)."""
        kind, name = source.split(".")
        if kind == "operand":
            return self.forward.operands[int(name)]
        states, rows = self.forward.states[name], self.rows
        if rows.equal:
            return states[: rows.count]
        steps = np.repeat(np.arange(rows.steps), rows.alive[: rows.steps])
        return states[rows.state[steps] + np.arange(rows.count) - rows.gate[steps]]

    def _collect(
        self, out: dict[str, np.ndarray], weights: bool, input: bool, run: Run
    ) -> Gradients:
        k, rows, hidden = self.kernel, self.rows, self.kernel.hidden
        features = run.inputs.shape[1]
        batch = run.x_shape[1]
        state = {}
        for n in k.cell.state:
            given = self.d_final.get(n)  # stays what it is for sequences of length 0
            g = np.zeros((batch, hidden), k.dtype) if given is None else np.array(given, k.dtype)
            g[rows.order] = self.carry[n][: len(rows.order), :hidden]
            state[n] = g
        x = run.scatter(np.ascontiguousarray(out["x"][:, :features])) if input else None
        made: dict[str, Any] = {"weight_ih": None, "weight_hh": None, "bias_ih": None, "bias_hh": None}
        vectors: dict[str, np.ndarray] = {}
        if weights:
            for n, wide in (("weight_ih", features), ("weight_hh", hidden)):
                full = out[n].reshape(-1, k.padded, out[n].shape[1])[:, :hidden, :wide]
                made[n] = np.ascontiguousarray(full).reshape(-1, wide)
            made["bias_ih"] = self._unpack_bias(out)
            made["bias_hh"] = self._unpack_recurrent_bias(out, made["bias_ih"])
            vectors = {n: out[f"p.{n}"][:hidden].copy() for n in k.cell.vectors}
        buffers = {"dx": self.dx, **{f"du.{g}": b for g, b in self.du.items()}}
        if self.watch:
            buffers |= {f"carry.{n}": b for n, b in self.carry.items()}
            buffers |= {f"inner.{n}": b for n, b in self.inner.items()}
        return Gradients(x, **made, vectors=vectors, state=state, buffers=buffers, lease=self.lease)

    def _unpack_bias(self, out: dict[str, np.ndarray]) -> np.ndarray:
        k = self.kernel
        bias = np.zeros(len(k.cell.gates) * k.hidden, k.dtype)
        valid = k.segment_columns >= 0
        bias[k.segment_columns[valid]] = out["bias_ih"][valid]
        return bias

    def _unpack_recurrent_bias(
        self, out: dict[str, np.ndarray], bias_ih: np.ndarray
    ) -> np.ndarray:
        """Return (P*H,), in the order of all blocks."""
        k = self.kernel
        bias = np.zeros(len(k.cell.products) * k.hidden, k.dtype)
        for g in k.plan.groups:
            columns = k._columns(g.blocks, k.cell.products)
            valid = columns >= 0
            if g.index in k.plan.shared:
                source = bias_ih[k._columns(g.blocks, k.cell.gates)[valid]]
            else:
                source = out[f"bias.{g.index}"][valid]
            bias[columns[valid]] = source
        return bias
