"""One level and direction of a recurrent layer, as both implementations are asked for it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minirnn.engine import Tensor, embedding
from minirnn.equations import Cell


@dataclass(frozen=True)
class Direction:
    """A cell run over a batch of sequences.

    parameters: weight_ih (G*H, I), weight_hh (P*H, H), bias_ih (G*H,) and bias_hh
    ((P - unbiased)*H,) unless bias is off, and "vector_<name>" (H,); x: (T, B, I);
    state: one (B, H) per state of the cell; below: for a cell that reads the level below, that
    level's states after every step, (T, B, H) each in the order of x, else empty;
    lengths: (B,) int64 or None; reverse: run every sequence from its end; start: index of the
    first step; ids: None, or (T, B) int64: then x is a table (V, I) whose rows they name.
    """

    cell: Cell
    hidden_size: int
    parameters: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...]
    below: tuple[Tensor, ...]
    lengths: np.ndarray | None
    reverse: bool
    start: int
    ids: np.ndarray | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Return everything that a gradient may be asked for: x, the states, the parameters."""
        return (self.x, *self.state, *self.below, *self.parameters.values())

    def with_inputs(self, inputs: Any) -> "Direction":
        """Return the same run over other tensors, given in the order of ``inputs``."""
        x, *rest = inputs
        first, second = len(self.state), len(self.state) + len(self.below)
        return Direction(
            self.cell, self.hidden_size, dict(zip(self.parameters, rest[second:], strict=True)), x,
            tuple(rest[:first]), tuple(rest[first:second]), self.lengths, self.reverse, self.start,
            self.ids,
        )  # fmt: skip

    @property
    def sequences(self) -> tuple[str, ...]:
        """Return the states, besides the output, that a run hands to the level above."""
        return self.cell.state[1:] if "below" in self.cell.arguments else ()

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and batch, (T, B)."""
        steps, batch = (self.x.shape if self.ids is None else self.ids.shape)[:2]
        return steps, batch

    def unfolded(self) -> "Direction":
        """Return the same run over x (T, B, I), picked from the table if x is one."""
        return self if self.ids is None else replace(self, x=embedding(self.ids, self.x), ids=None)

    def detached(self) -> "Direction":
        """Return the same run over tensors that are on no tape."""
        return self.with_inputs([t.detach() for t in self.inputs])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of everything in the run."""
        return self.x.dtype

    def constants(self) -> dict[str, np.ndarray]:
        """Return the cell's constants unit by unit, (H,) each."""
        out = {}
        for name, values in self.cell.constants.items():
            module = modules(self.hidden_size, len(values))
            out[name] = np.asarray(values, self.dtype)[module]
        return out

    def upper_mask(self) -> np.ndarray | None:
        """Return 1 where ``weight_hh`` may be other than 0 and 0 elsewhere, (P*H, H), or None."""
        return upper_mask(self.cell, self.hidden_size, self.dtype)

    def processing_order(self) -> np.ndarray | None:
        """Return the row of x.reshape(T*B, I) for each step and sequence, (T, B); None: as is."""
        if not self.reverse:
            return None
        steps, batch = self.x.shape[:2]
        lengths = np.full(batch, steps) if self.lengths is None else self.lengths
        t = np.arange(steps)[:, None]
        return np.where(t < lengths, lengths - 1 - t, t) * batch + np.arange(batch)


def modules(hidden_size: int, count: int) -> np.ndarray:
    """Return the module of each unit: unit j of H belongs to module ``j * M // H``.  (H,)."""
    return np.arange(hidden_size) * count // hidden_size


def upper_mask(cell: Cell, hidden_size: int, dtype: np.dtype) -> np.ndarray | None:
    """Return the mask of the blocks that are block upper triangular over the modules.

    Module a reads the modules b >= a.  (P*H, H) of ones and zeros, or None if no block is such.
    """
    if not cell.upper:
        return None
    counts = [len(v) for v in cell.constants.values()]
    module = modules(hidden_size, counts[0])
    triangle = (module[:, None] <= module).astype(dtype)
    full = np.ones_like(triangle)
    return np.concatenate([triangle if k in cell.upper else full for k in cell.products])
