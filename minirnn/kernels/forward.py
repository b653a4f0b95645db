"""One forward pass over a batch, and what it keeps for passes back.

Everything here is arrays; tensors and the tape are the business of `minirnn.layers`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.kernels import celltype, product, sequence
from minirnn.kernels.cellkernel import Arrays, CellKernel, Packed
from minirnn.kernels.descriptor import Descriptor
from minirnn.kernels.rows import Rows
from minirnn.kernels.workspace import Lease


class Run:
    """One forward pass over a batch.

    x: (T, B, I); state: state name -> (B, H); rows: who is alive when; keep: whether a backward
    pass may follow; start: index of the first step; below: state name -> (T, B, H), the states of
    the level below after every step, for a cell that reads them.
    """

    def __init__(
        self, kernel: CellKernel, weights: Packed, x: np.ndarray, state: Arrays, rows: Rows,
        keep: bool, start: int = 0, below: Arrays | None = None,
    ) -> None:  # fmt: skip
        self.kernel, self.weights, self.rows, self.start = kernel, weights, rows, start
        self.x_shape = x.shape
        self.lease = Lease()
        k, lease, dtype = kernel, self.lease, kernel.dtype
        self.inputs = self._living(x)
        self.scratch = Lease()  # given back right after the pass
        states = len(rows.order) + rows.count
        self.states = {}
        for name in k.cell.state:
            buffer = lease.take((states, k.padded), dtype)
            buffer[: len(rows.order), : k.hidden] = state[name][rows.order]
            if k.padded != k.hidden:
                buffer[: len(rows.order), k.hidden :] = 0.0
            self.states[name] = buffer
        kept = lease if keep else self.scratch
        self.below = {n: k.to_rows(self._living(s), kept) for n, s in (below or {}).items()}
        columns = len(k.segment_columns)
        x_rows = self.scratch.take((rows.count, columns), dtype)
        alive = len(rows.order)
        saved = kept.take((rows.count if keep else alive, len(k.plan.saved) * k.padded), dtype)
        self.operands = [
            kept.take((rows.count if keep else alive, k.padded), dtype) for _ in k.plan.operands
        ]
        means = max(1, k.plan.means)
        self.means = kept.take((rows.count if keep else alive, means), dtype)
        self.sums = [self.scratch.take((alive, k.padded), dtype) for _ in range(k.plan.means)]
        self.saved = saved
        self.keep = keep
        self._forward(x_rows)
        self.scratch.release()

    def _living(self, x: np.ndarray) -> np.ndarray:
        """Return the living rows of a sequence (T, B, C) in internal order, (count, C)."""
        flat = np.ascontiguousarray(x).reshape(-1, x.shape[2])
        if self.rows.index is None:
            return flat
        return np.take(flat, self.rows.index, axis=0)

    def places(self) -> dict[str, tuple[np.ndarray, int]]:
        """Return buffer name -> (array, members) for what the forward pass leaves."""
        k = self.kernel
        places = {f"{w}.{n}": (b, 1) for n, b in self.states.items() for w in ("prev", "next")}
        places |= {f"operand.{i}": (b, 1) for i, b in enumerate(self.operands)}
        places |= {f"p.{n}": (b, 1) for n, b in k.vector_buffers(self.weights).items()}
        places |= {f"below.{n}": (b, 1) for n, b in self.below.items()}
        places["saved"] = (self.saved, len(k.plan.saved))
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

    def _forward(self, x_rows: np.ndarray) -> None:
        k, rows = self.kernel, self.rows
        if not rows.count:
            return
        places = self.places() | self.segments("x", x_rows)
        places |= {f"sum.{i}": (b, 1) for i, b in enumerate(self.sums)}
        still = () if self.keep else ("saved", "operand", "mean")
        job = product.rows_job(
            k.dtype.name, self.inputs, self.inputs.shape[1], k.input_panels(self.weights),
            x_rows.shape[1], x_rows,
        )  # fmt: skip
        d = self.descriptor(celltype.FORWARD, places, still=still)
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

    def descriptor(
        self, which: int, places: Mapping[str, tuple[np.ndarray, int]], **options: Any
    ) -> Descriptor:
        """Describe a pass over this run's rows."""
        return Descriptor(
            self.kernel, self.weights, self.rows, self.start, which, places, **options
        )
