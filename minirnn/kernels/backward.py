"""A backward pass over a run: gradients of input, weights, states, and what `watch` shows."""

from dataclasses import dataclass
from typing import Any
from weakref import ref

import numpy as np

from minirnn.kernels import celltype
from minirnn.kernels.cellkernel import Arrays
from minirnn.kernels.closing import ClosingProducts
from minirnn.kernels.fold import Fold, close
from minirnn.kernels.forward import Run
from minirnn.kernels.frame import KEEP, BackFrame
from minirnn.kernels.rows import GATE, NEXT
from minirnn.kernels.targets import Targets
from minirnn.kernels.workspace import address, lend, lend_rows


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
    frame: BackFrame
    _released: bool = False

    def release(self) -> None:
        """Give the buffers back to be used again; nothing may read them any more."""
        if not self._released:
            self._released = True
            self.frame.release()

    def forget(self) -> None:
        """Drop the gradients, which somebody else has now; the buffers stay."""
        self.x = self.weight_ih = self.weight_hh = self.bias_ih = self.bias_hh = None
        self.vectors, self.state, self.below = {}, {}, {}

    def save_dx(self) -> None:
        """Copy DX to memory of its own, before a forward pass writes to its place again."""
        if not self._released:
            dx = self.buffers["dx"]
            self.buffers["dx"], _ = lend_rows(len(dx), dx.shape[1], dx.dtype)
            self.buffers["dx"][...] = dx

    def __del__(self) -> None:
        if not self._released:
            self.release()


def backward(
    run: Run, d_outputs: Arrays, d_final: Arrays, d_rows: Arrays | None = None,
    weights: bool = True, input: bool = True, mode: str = KEEP, clip: float | None = None,
) -> Gradients:  # fmt: skip
    """Run the recurrence backward.

    d_outputs: state name -> (T, B, H), gradients of states after every step; d_final: state name ->
    (B, H); d_rows: state name -> (rows of states, padded), in internal rows. ``weights`` and
    ``input``: whether to form their gradients; ``mode``: see `BackFrame`;
    ``clip``: scale each sequence's gradient of the states to at most this norm at every step (by
    WATCH only).
    """
    return _Backward(run, d_outputs, d_final, d_rows or {}, mode).run(weights, input, clip)


class _Backward:
    """One backward pass over a run."""

    def __init__(
        self, run: Run, d_outputs: Arrays, d_final: Arrays, d_rows: Arrays, mode: str
    ) -> None:
        self.forward, self.kernel, self.rows = run, run.kernel, run.rows
        self.d_final = d_final
        run.restore()
        self.frame: BackFrame = run.frame.take_back(mode)
        self.records = self.frame.lend_records()
        run.consumed = self.frame.consumes
        k, rows = self.kernel, self.rows
        for n, carry in self.frame.carry.items():
            carry[...] = 0.0
            if n in d_final:
                given = d_final[n]
                carry[:, : k.hidden] = given if rows.equal else given[rows.order]
        self._external(d_outputs, d_rows)

    def _external(self, d_outputs: Arrays, d_rows: Arrays) -> None:
        """Lay out what reaches the states from outside the recurrence: state -> (rows, clock)."""
        k, rows = self.kernel, self.rows
        self.outside: dict[str, tuple[np.ndarray, int]] = {}
        self.outside_first: dict[str, tuple[np.ndarray, int]] = {}  # of the initial states too
        for n in k.cell.state:
            living = None
            if n in d_outputs:
                living = d_outputs[n].reshape(-1, k.hidden)
                if rows.index is not None:
                    living = living[rows.index]
            if n in d_rows:
                full = d_rows[n].copy()
                if living is not None:
                    full[len(rows.order) :, : k.hidden] += living
                self.outside[n] = self.outside_first[n] = (full, NEXT)
            elif living is not None:
                if k.padded != k.hidden or not living.flags.c_contiguous:
                    living = k.to_rows(living)
                self.outside[n] = (living, GATE)

    def run(self, weights: bool, input: bool, clip: float | None) -> Gradients:
        k, rows, frame, run = self.kernel, self.rows, self.frame, self.forward
        out, where = self._targets(weights, input)
        if rows.count:
            columns = frame.dx.shape[1]
            products = 1 + input + weights + weights * len(k.plan.groups)
            flops = 2.0 * rows.count * columns * k.hidden * products
            if self.outside_first or frame.drain_reached:
                frame.place_outside(frame.drain, self.outside_first)
                frame.drain_reached = bool(self.outside_first)
            frame.drain.bind(run.weights)
            frame.drain.set(START=run.start)
            if clip is None:
                table = self._jobs(out, where, weights, input)
                steps = frame.steps
                frame.place_outside(steps, self.outside)
                steps.bind(run.weights)
                steps.set(START=run.start, AFTER=address(table), AFTER_COUNT=len(table))
                steps.run(celltype.BACKWARD, flops)
                if run.fold is not None and (weights or input):
                    close(k, run.weights, run.fold, out, frame.scratch, weights, input)
            else:
                self._clipped(clip)
        return self._collect(out, weights, input, run)

    def _clipped(self, clip: float) -> None:
        """Step by step: let the gradient arrive, clip it, and carry it one step back."""
        k, rows, frame, run = self.kernel, self.rows, self.frame, self.forward
        come, back = frame.descriptor(celltype.DRAIN), frame.descriptor(celltype.BACKWARD)
        frame.place_outside(come, self.outside)
        for d in (come, back):
            d.bind(run.weights)
            d.set(START=run.start)
        back.set(ARRIVED=1)
        for t in range(rows.steps - 1, -1, -1):
            come.set(FIRST=t)
            come.run(celltype.DRAIN, 0.0)
            carries = [c[: rows.alive[t]] for c in frame.carry.values()]
            norm = np.sqrt(sum((c[:, : k.hidden] ** 2).sum(axis=1) for c in carries))
            scale = np.where(norm > clip, clip / np.where(norm > 0, norm, 1), 1).astype(k.dtype)
            for c in carries:
                c *= scale[:, None]
            back.set(FIRST=t, LAST=t + 1)
            back.run(celltype.BACKWARD, 0.0)
        frame.drain.run(celltype.DRAIN, 0.0)

    def _targets(self, weights: bool, input: bool) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Make the arrays that the closing products write to; returns where they begin, too."""
        k, frame = self.kernel, self.frame
        out: dict[str, np.ndarray] = {}
        where: dict[str, int] = {}
        rows, fold = self.rows.count, self.forward.fold
        if weights:
            if frame.targets is None:
                whole = rows > 0 and k.complete
                frame.targets = Targets(k, frame.frame.features, clear=not whole)
            out, where = frame.targets.lend()
        if fold is not None and (input or weights):
            rows = len(fold.table)
            out["table"] = lend(fold.table.shape, k.dtype, 0.0)
        if input:
            wide = -(-frame.frame.features // k.lanes) * k.lanes
            out["x"] = lend((rows, wide), k.dtype, None if self.rows.count else 0.0)
        return out, where

    def _jobs(
        self, out: dict[str, np.ndarray], where: dict[str, int], weights: bool, input: bool
    ) -> np.ndarray:
        """Return the table of the closing products, (jobs, words)."""
        frame, run = self.frame, self.forward
        key = weights, input, run.fold is not None
        if key not in frame.jobs:
            frame.jobs[key] = ClosingProducts(frame, out, run.inputs, weights, input)
        others = {name: array for name, array in out.items() if name not in where}
        if isinstance(run.inputs, Fold):
            others["ids"] = run.inputs.ids
        else:
            others["inputs"] = run.inputs
            if input:
                others["panels"] = self.kernel.input_rows(run.weights)
        return frame.jobs[key].bind(where | {n: address(a) for n, a in others.items()})

    def _collect(
        self, out: dict[str, np.ndarray], weights: bool, input: bool, run: Run
    ) -> Gradients:
        k, rows, hidden, frame = self.kernel, self.rows, self.kernel.hidden, self.frame
        features = frame.frame.features
        batch = run.x_shape[1]
        state = {}
        for n in k.cell.state:
            first = frame.carry[n][: len(rows.order), :hidden]
            if rows.equal:
                state[n] = first.copy()
                continue
            given = self.d_final.get(n)  # stays what it is for sequences of length 0
            g = np.zeros((batch, hidden), k.dtype) if given is None else np.array(given, k.dtype)
            g[rows.order] = first
            state[n] = g
        x = np.ascontiguousarray(out["x"][:, :features]) if input else None
        if x is not None and run.fold is None:
            x = run.scatter(x)
        made: dict[str, Any] = dict.fromkeys(("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        vectors: dict[str, np.ndarray] = {}
        if weights:
            for n, wide in (("weight_ih", features), ("weight_hh", hidden)):
                full = out[n].reshape(-1, k.padded, out[n].shape[1])[:, :hidden, :wide]
                made[n] = np.ascontiguousarray(full).reshape(-1, wide)
            made["bias_ih"] = out["sums"][k.bias_columns]
            made["bias_hh"] = out["sums"][k.recurrent_bias_columns]
            vectors = {n: out[f"p.{n}"][:hidden].copy() for n in k.cell.vectors}
        below = {n: run.scatter(b[:, :hidden].copy()) for n, b in frame.dbelow.items()}
        buffers = {"dx": frame.dx, **{f"du.{g}": b for g, b in frame.du.items()}, **self.records}
        got = Gradients(
            x, **made, vectors=vectors, state=state, below=below, buffers=buffers, frame=frame
        )
        if frame.consumes and frame.watched:
            run.over = ref(got)
        return got
