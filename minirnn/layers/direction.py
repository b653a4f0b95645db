"""One level and direction of a recurrent layer, as both implementations are asked for it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minirnn.engine import Tensor
from minirnn.equations import Cell


@dataclass(frozen=True)
class Direction:
    """A cell run over a batch of sequences.

    parameters: weight_ih (G*H, I), weight_hh (P*H, H), bias_ih (G*H,) and bias_hh
    ((P - unbiased)*H,) unless bias is off, and "vector_<name>" (H,); x: (T, B, I);
    state: one (B, H) per state of the cell; lengths: (B,) int64 or None; reverse: run every
    sequence from its end; start: index of the first step.
    """

    cell: Cell
    hidden_size: int
    parameters: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...]
    lengths: np.ndarray | None
    reverse: bool
    start: int

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Return everything that a gradient may be asked for: x, the states, the parameters."""
        return (self.x, *self.state, *self.parameters.values())

    def with_inputs(self, inputs: Any) -> "Direction":
        """Return the same run over other tensors, given in the order of ``inputs``."""
        states = len(self.state)
        names = list(self.parameters)
        return replace(
            self,
            x=inputs[0],
            state=tuple(inputs[1 : 1 + states]),
            parameters=dict(zip(names, inputs[1 + states :], strict=True)),
        )

    def detached(self) -> "Direction":
        """Return the same run over tensors that are on no tape."""
        return self.with_inputs([t.detach() for t in self.inputs])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of everything in the run."""
        return self.x.dtype

    def constants(self) -> dict[str, np.ndarray]:
        """Return the cell's constants unit by unit: unit j of H belongs to module j*M // H."""
        out = {}
        for name, values in self.cell.constants.items():
            module = np.arange(self.hidden_size) * len(values) // self.hidden_size
            out[name] = np.asarray(values, self.dtype)[module]
        return out

    def processing_order(self) -> np.ndarray | None:
        """Return the row of x.reshape(T*B, I) for each step and sequence, (T, B); None: as is."""
        if not self.reverse:
            return None
        steps, batch = self.x.shape[:2]
        lengths = np.full(batch, steps) if self.lengths is None else self.lengths
        t = np.arange(steps)[:, None]
        return np.where(t < lengths, lengths - 1 - t, t) * batch + np.arange(batch)
