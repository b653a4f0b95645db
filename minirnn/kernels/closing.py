"""The products with which a backward pass ends: dx, and the gradients of the weights."""

from typing import Any

import numpy as np

from minirnn.kernels import product
from minirnn.kernels.fold import Fold
from minirnn.kernels.frame import BackFrame
from minirnn.kernels.symbols import ADD_IDS, ADD_OUT, add_job


class ClosingProducts:
    """The table of the closing products over a frame.

    Buffers of the frame stay where they are; ``bind`` tells where inputs and results of a pass lie.
    out: the arrays of the first pass, whose strides all passes share; inputs: (count, I), or a
    `Fold`: then DX is summed by id in "table", and `minirnn.kernels.fold` does the rest.
    """

    def __init__(
        self, frame: BackFrame, out: dict[str, np.ndarray], inputs: np.ndarray | Fold,
        weights: bool, input: bool,
    ) -> None:  # fmt: skip
        self.frame, self.kernel = frame, frame.frame.kernel
        self._kept: list[Any] = []  # arrays that the table points into
        self._jobs: list[list[int]] = []
        self._changing: list[tuple[int, int, str]] = []  # job, word, whose address it is
        if isinstance(inputs, Fold):
            if weights or input:
                self._add(add_job(frame.dx, inputs.ids, out["table"]), ids=ADD_IDS, table=ADD_OUT)
        else:
            if input:
                self._input(out["x"])
            if weights:
                self._input_weights(out, inputs)
        if weights:
            self._weights(out)
        self.table = product.job_table(self._jobs)
        where = np.array([w[:2] for w in self._changing], np.int64).reshape(-1, 2)
        self._where = where[:, 0], where[:, 1]

    def bind(self, where: dict[str, int]) -> np.ndarray:
        """Tell where inputs and results begin, by name; returns the table (jobs, words)."""
        self.table[self._where] = [where[name] for *_, name in self._changing]
        return self.table

    def _add(self, job: list[int], **changing: int) -> None:
        self._changing += [(len(self._jobs), word, name) for name, word in changing.items()]
        self._jobs.append(job)

    def _input(self, x: np.ndarray) -> None:
        """DX W."""
        dx, features = self.frame.dx, self.frame.frame.features
        any_panels = np.empty(0, dx.dtype)
        job = product.rows_job(dx.dtype.name, dx, dx.shape[1], any_panels, features, x)
        self._add(job, panels=product.ROWS_PANELS, x=product.ROWS_C)

    def _input_weights(self, out: dict[str, np.ndarray], inputs: np.ndarray) -> None:
        """DX^T [x], and the sum of DX for the bias."""
        k, frame, name = self.kernel, self.frame, self.kernel.dtype.name
        b, c, sums = product.TRANSPOSED_B, product.TRANSPOSED_C, product.TRANSPOSED_SUMS
        for s, names in enumerate(k.plan.segments):
            places = np.array([k.cell.gates.index(n) for n in names], np.int64)
            self._kept.append(places)
            job = product.transposed_job(
                name, frame.segments[f"dx.{s}"][0], len(names), places, inputs, inputs.shape[1],
                out["weight_ih"], sums=out[f"bias_ih.{s}"], units=k.hidden,
            )  # fmt: skip
            self._add(job, inputs=b, weight_ih=c, **{f"bias_ih.{s}": sums})

    def _weights(self, out: dict[str, np.ndarray]) -> None:
        """DU^T [operand], and the sums of DU for the biases and vectors."""
        k, frame, name = self.kernel, self.frame, self.kernel.dtype.name
        c, sums = product.TRANSPOSED_C, product.TRANSPOSED_SUMS
        for g in k.plan.groups:
            operand = self._operand(g.source)
            for segment, blocks in k.du_parts(g.index):
                du = frame.du[g.index] if segment < 0 else frame.segments[f"dx.{segment}"][0]
                places = np.array([k.cell.products.index(n) for n in blocks], np.int64)
                starts = self._starts(blocks)
                self._kept += [places, operand, starts]
                bias = f"bias.{g.index}" if segment < 0 else None
                job = product.transposed_job(
                    name, du, len(blocks), places, operand, k.hidden, out["weight_hh"], starts,
                    out[bias] if bias else None, k.hidden,
                )  # fmt: skip
                self._add(job, weight_hh=c, **({bias: sums} if bias else {}))
        for n in k.cell.vectors:
            self._sums(frame.dp[n], f"p.{n}", out)

    def _sums(self, rows: np.ndarray, name: str, out: dict[str, np.ndarray]) -> None:
        job = product.sums_job(self.kernel.dtype.name, rows, out[name])
        self._add(job, **{name: product.SUMS_OUT})

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
        frame, rows = self.frame.frame, self.frame.frame.rows
        if kind == "operand":
            return frame.operands[int(name)]
        states = frame.states[name]
        if rows.equal:
            return states[: rows.count]
        steps = np.repeat(np.arange(rows.steps), rows.alive[: rows.steps])
        return states[rows.state[steps] + np.arange(rows.count) - rows.gate[steps]]
