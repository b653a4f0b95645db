"""A backward pass over a run: gradients of input, weights, states, and what `watch` shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minirnn.kernels import celltype, product, sequence, threads
from minirnn.kernels.cellkernel import Arrays
from minirnn.kernels.descriptor import Descriptor
from minirnn.kernels.forward import Run
from minirnn.kernels.pack import aligned
from minirnn.kernels.rows import GATE, NEXT, PREV, STILL
from minirnn.kernels.workspace import Lease


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
    below: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    lease: Lease


def backward(
    run: Run, d_outputs: Arrays, d_final: Arrays, d_rows: Arrays | None = None,
    weights: bool = True, input: bool = True, watch: bool = False, clip: float | None = None,
) -> Gradients:  # fmt: skip
    """Run the recurrence backward.

    d_outputs: state name -> (T, B, H), gradients of states after every step; d_final: state name ->
    (B, H); d_rows: state name -> (rows of states, padded), in internal rows. ``weights`` and
    ``input``: whether to form their gradients; ``watch``: keep the gradients of the states;
    ``clip``: scale each sequence's gradient of the states to at most this norm at every step.
    """
    return _Backward(run, d_outputs, d_final, d_rows or {}, watch or clip is not None).run(
        weights, input, clip
    )


class _Backward:
    """One backward pass over a run."""

    def __init__(
        self, run: Run, d_outputs: Arrays, d_final: Arrays, d_rows: Arrays, watch: bool
    ) -> None:
        self.forward, self.kernel, self.rows, self.watch = run, run.kernel, run.rows, watch
        self.lease, self.d_final = Lease(), d_final
        k, rows = self.kernel, self.rows
        take, dtype, alive = self.lease.take, k.dtype, len(rows.order)
        self.dx = take((rows.count, len(k.segment_columns)), dtype)
        places = run.places() | run.segments("dx", self.dx)
        self.du: dict[int, np.ndarray] = {}
        for g in k.plan.groups:
            if g.index not in k.plan.shared:
                members = len(g.blocks)
                self.du[g.index] = take((rows.count, members * k.padded), dtype)
                for name in (f"du.{g.index}", f"du_next.{g.index}"):
                    places[name] = (self.du[g.index], members)
        self.dp = {n: take((rows.count, k.padded), dtype) for n in k.cell.vectors}
        places |= {f"dp.{n}": (b, 1) for n, b in self.dp.items()}
        places |= {f"pull.{i}": (take((alive, k.padded), dtype), 1) for i in range(k.plan.pulls)}
        self.dbelow = {n: take((rows.count, k.padded), dtype) for n in run.below}
        places |= {f"dbelow.{n}": (b, 1) for n, b in self.dbelow.items()}
        means = take((alive, max(1, k.plan.backward_means)), dtype)
        for i in range(k.plan.backward_means):
            places[f"bmean.{i}"] = (means[:, i : i + 1], 1)
            places[f"bsum.{i}"] = (take((alive, k.padded), dtype), 1)
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
        self._external(d_outputs, d_rows)

    def _external(self, d_outputs: Arrays, d_rows: Arrays) -> None:
        """Lay out what reaches the states from outside the recurrence."""
        k, rows = self.kernel, self.rows
        self.drain_places, self.drain_clocks = dict(self.places), dict(self.clocks)
        for n in k.cell.state:
            name = f"ext.{n}"
            living = None
            if n in d_outputs:
                living = d_outputs[n].reshape(-1, k.hidden)
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
                d = self._descriptor(celltype.BACKWARD)
                columns = [self.forward.inputs.shape[1], k.hidden]
                size = max(product.transposed_scratch(c, k.dtype.itemsize) for c in columns)
                scratch = self.lease.take((threads.available(), size), np.uint8)
                d.jobs(after=jobs, scratch=scratch)
                d.run(sequence.backward, flops)
            else:
                self._clipped(clip)
            end = self._descriptor(celltype.DRAIN)
            end.set(FIRST=-1)
            end.run(sequence.arrive, flops if rows.steps < 8 else 0.0)
        return self._collect(out, weights, input, run)

    def _descriptor(self, which: int) -> Descriptor:
        drain = which == celltype.DRAIN
        return self.forward.descriptor(
            which, self.drain_places if drain else self.places,
            clocks=self.drain_clocks if drain else self.clocks, watched=self.watch,
        )  # fmt: skip

    def _clipped(self, clip: float) -> None:
        """Step by step: let the gradient arrive, clip it, and carry it one step back."""
        k, rows = self.kernel, self.rows
        come = self.forward.descriptor(celltype.DRAIN, self.places, clocks=self.clocks)
        outside = {f"ext.{n}": (self.zeros, 1) for n in k.cell.state}
        back = self.forward.descriptor(
            celltype.BACKWARD, self.places | outside, clocks=self.clocks, watched=True
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
            jobs.append(
                product.rows_job(name, self.dx, self.dx.shape[1], panels, features, out["x"])
            )
        if not weights:
            return jobs
        self.kept: list[Any] = []
        segments = run.segments("dx", self.dx)
        for s, names in enumerate(k.plan.segments):
            places = np.array([k.cell.gates.index(n) for n in names], np.int64)
            self.kept.append(places)
            jobs.append(product.transposed_job(
                name, segments[f"dx.{s}"][0], len(names), places, run.inputs, features,
                out["weight_ih"],
            ))  # fmt: skip
        jobs.append(product.sums_job(name, self.dx, out["bias_ih"]))
        for g in k.plan.groups:
            operand = self._operand(g.source)
            for segment, blocks in k.du_parts(g.index):
                du = self.du[g.index] if segment < 0 else segments[f"dx.{segment}"][0]
                places = np.array([k.cell.products.index(n) for n in blocks], np.int64)
                starts = self._starts(blocks)
                self.kept += [places, operand, starts]
                jobs.append(product.transposed_job(
                    name, du, len(blocks), places, operand, k.hidden, out["weight_hh"], starts
                ))  # fmt: skip
            if g.index in self.du:
                jobs.append(product.sums_job(name, self.du[g.index], out[f"bias.{g.index}"]))
        jobs += [product.sums_job(name, self.dp[n], out[f"p.{n}"]) for n in k.cell.vectors]
        return jobs

    def _starts(self, blocks: tuple[str, ...]) -> np.ndarray | None:
        """Return where the wanted part of dU begins for each panel of du, if it is a triangle."""
        k = self.kernel
        if not set(blocks) <= set(k.cell.upper):
            return None
        height = product.transposed_height(k.dtype.name)
        unit = np.repeat(np.arange(0, k.padded, k.lanes), len(blocks))[:, None]
        units = (unit + np.arange(0, k.lanes, height)).reshape(-1)
        return np.array([k.module_start(int(u)) for u in units], np.int64) * k.dtype.itemsize

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
        made: dict[str, Any] = {
            "weight_ih": None,
            "weight_hh": None,
            "bias_ih": None,
            "bias_hh": None,
        }
        vectors: dict[str, np.ndarray] = {}
        if weights:
            for n, wide in (("weight_ih", features), ("weight_hh", hidden)):
                full = out[n].reshape(-1, k.padded, out[n].shape[1])[:, :hidden, :wide]
                made[n] = np.ascontiguousarray(full).reshape(-1, wide)
            made["bias_ih"] = self._unpack_bias(out)
            made["bias_hh"] = self._unpack_recurrent_bias(out)
            vectors = {n: out[f"p.{n}"][:hidden].copy() for n in k.cell.vectors}
        below = {
            n: run.scatter(np.ascontiguousarray(b[:, :hidden])) for n, b in self.dbelow.items()
        }
        buffers = {"dx": self.dx, **{f"du.{g}": b for g, b in self.du.items()}}
        if self.watch:
            buffers |= {f"carry.{n}": b for n, b in self.carry.items()}
            buffers |= {f"inner.{n}": b for n, b in self.inner.items()}
        return Gradients(
            x, **made, vectors=vectors, state=state, below=below, buffers=buffers, lease=self.lease
        )

    def _unpack_bias(self, out: dict[str, np.ndarray]) -> np.ndarray:
        k = self.kernel
        bias = np.zeros(len(k.cell.gates) * k.hidden, k.dtype)
        valid = k.segment_columns >= 0
        bias[k.segment_columns[valid]] = out["bias_ih"][valid]
        return bias

    def _unpack_recurrent_bias(self, out: dict[str, np.ndarray]) -> np.ndarray:
        """Return (P*H,), in the order of all blocks."""
        k = self.kernel
        bias = np.zeros(len(k.cell.products) * k.hidden, k.dtype)
        at = np.cumsum([0, *(len(names) * k.padded for names in k.plan.segments)])
        for g in k.plan.groups:
            columns = k.du_columns(g.index)
            if g.index in k.plan.shared:
                run = k.plan.shared[g.index]
                source = out["bias_ih"][at[run[0][0]] : at[run[-1][0] + 1]]
            else:
                source = out[f"bias.{g.index}"]
            bias[columns[columns >= 0]] = source[columns >= 0]
        return bias
