"""Buffers that are used again: fresh memory costs page faults that can exceed the arithmetic."""

import threading
from typing import Any

import numpy as np

from minirnn.kernels.pack import aligned

_LIMIT = 512 << 20  # bytes that wait to be used again, at most
_free: dict[int, list[np.ndarray]] = {}
_held = 0
_lock = threading.Lock()


class Lease:
    """Buffers taken for one pass or one tape node; they go back when it dies or is released."""

    def __init__(self) -> None:
        self._taken: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: Any, fill: float | None = None) -> np.ndarray:
        """Return an aligned buffer; its content is anything unless ``fill`` is given."""
        global _held
        dtype = np.dtype(dtype)
        count = int(np.prod(shape))
        size = max(1 << 12, 1 << (count * dtype.itemsize - 1).bit_length()) if count else 1 << 12
        if size >= 1 << 20:  # big ones are cut to the nearest eighth of a power of two
            step = size >> 4
            size = -(-count * dtype.itemsize // step) * step
        with _lock:
            waiting = _free.get(size)
            raw = waiting.pop() if waiting else None
            _held -= size if raw is not None else 0
        if raw is None:
            raw = aligned((size,), np.dtype(np.uint8))
        self._taken.append(raw)
        out = raw[: count * dtype.itemsize].view(dtype).reshape(shape)
        if fill is not None:
            out.fill(fill)
        return out

    def release(self) -> None:
        """Give the buffers back; nothing may read them any more."""
        global _held
        taken, self._taken = self._taken, []
        with _lock:
            for raw in taken:
                if _held + raw.nbytes <= _LIMIT:
                    _free.setdefault(raw.nbytes, []).append(raw)
                    _held += raw.nbytes

    def __del__(self) -> None:
        if self._taken and _lock is not None:
            self.release()


def clear() -> None:
    """Forget all waiting buffers."""
    global _held
    with _lock:
        _free.clear()
        _held = 0
