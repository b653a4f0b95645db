"""Buffers of fused passes in the user's layout, and back.

Internal rows: group after group of living rows, sorted by length; see `minirnn.kernels.rows`.
"""

import numpy as np

from minirnn.kernels.forward import Run
from minirnn.kernels.workspace import lend


class UserLayout:
    """Turns the rows of a run into arrays with axes of steps and sequences.

    They are new memory, but for `records`: another run may have the buffers a moment later.
    """

    def __init__(self, made: Run) -> None:
        self._rows, self._kernel = made.rows, made.kernel
        self._steps, self._batch = made.x_shape[:2]

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the step and the sequence of each row of gate-like buffers."""
        rows = self._rows
        t = np.repeat(np.arange(rows.steps), rows.alive[: rows.steps])
        return t, rows.order[np.arange(rows.count) - rows.gate[t]]

    def to_internal(self, user: np.ndarray) -> np.ndarray:
        """(T+1, B, H) in processing order -> rows of states (rows, padded)."""
        (t, b), rows, k = self._places(), self._rows, self._kernel
        out = np.zeros((len(rows.order) + rows.count, k.padded), k.dtype)
        out[: len(rows.order), : k.hidden] = user[0, rows.order]
        out[len(rows.order) :, : k.hidden] = user[t + 1, b]
        return out

    def steps(self, living: np.ndarray) -> np.ndarray:
        """Rows of gates (count, H) -> (T, B, H), 0 after the length."""
        rows, shape = self._rows, (self._steps, self._batch, living.shape[1])
        if rows.equal:
            out = lend(shape, living.dtype)
            out.reshape(living.shape)[...] = living
            return out
        out = np.zeros(shape, living.dtype)
        out[self._places()] = living
        return out

    def member(self, buffer: np.ndarray, member: int, members: int) -> np.ndarray:
        """One member of an interleaved buffer of gates -> (T, B, H), 0 after the length."""
        living = self._kernel.members(buffer, member, members)
        if self._rows.equal and living.flags.c_contiguous:  # new memory, as it is
            return living.reshape(self._steps, self._batch, living.shape[1])
        return self.steps(living)

    def states(self, buffer: np.ndarray) -> np.ndarray:
        """Rows of states (rows, padded) -> (T+1, B, H), 0 after the length."""
        k, rows = self._kernel, self._rows
        if rows.equal:
            out = lend((self._steps + 1, self._batch, k.hidden), k.dtype)
            out.reshape(-1, k.hidden)[...] = buffer[:, : k.hidden]
            return out
        out = np.zeros((self._steps + 1, self._batch, k.hidden), k.dtype)
        out[0, rows.order] = buffer[: len(rows.order), : k.hidden]
        out[1:] = self.steps(buffer[len(rows.order) :, : k.hidden])
        return out

    def records(self, buffer: np.ndarray) -> np.ndarray:
        """Return the same of rows that one pass alone has: themselves, where all are alive."""
        rows, size = self._rows, self._kernel.hidden
        if not rows.equal:
            return self.states(buffer)
        return buffer[:, :size].reshape(rows.steps + 1, rows.batch, size)
