"""Memory that is used again: fresh memory costs page faults that can exceed the arithmetic."""

import ctypes
import threading
from typing import Any, cast

import numpy as np

from minirnn.kernels.pack import aligned

_LINE = 64  # bytes of a cache line
_LIMIT = 512 << 20  # bytes that wait to be used again, at most
_Raw = tuple[np.ndarray, int]  # bytes, and the address where they begin
_free: dict[int, list[_Raw]] = {}
_held = 0
_lock = threading.RLock()  # the collector may run a finalizer that takes it again


def _take(nbytes: int) -> _Raw:
    """Return at least so many bytes on a cache line; their content is anything."""
    global _held
    size = max(1 << 12, 1 << (nbytes - 1).bit_length()) if nbytes else 1 << 12
    if size >= 1 << 20:  # big ones are cut to the nearest eighth of a power of two
        step = size >> 4
        size = -(-nbytes // step) * step
    with _lock:
        waiting = _free.get(size)
        if waiting:
            _held -= size
            return waiting.pop()
    bytes_ = aligned((size,), np.dtype(np.uint8))
    return bytes_, address(bytes_)


def _give(raw: _Raw) -> None:
    global _held
    size = raw[0].nbytes
    with _lock:
        if _held + size <= _LIMIT:
            _free.setdefault(size, []).append(raw)
            _held += size


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def row_width(columns: int, dtype: np.dtype) -> int:
    """Return the columns of rows that begin an odd number of cache lines apart."""
    lines = -(-columns * dtype.itemsize // _LINE) | 1
    return lines * _LINE // dtype.itemsize


class Lease:
    """Buffers taken together; ``release`` gives them back, else their memory is freed with them.

    There is no ``__del__`` that releases: the garbage collector may call it on what a finalizer
    then brings back to life, such as a frame that is kept to be used again.
    """

    def __init__(self) -> None:
        self._taken: list[_Raw] = []
        self.nbytes = 0  # bytes taken

    def take(self, shape: tuple[int, ...], dtype: Any, fill: float | None = None) -> np.ndarray:
        """Return an aligned buffer; its content is anything unless ``fill`` is given."""
        dtype = np.dtype(dtype)
        nbytes = _count(shape) * dtype.itemsize
        raw = _take(nbytes)
        self._taken.append(raw)
        self.nbytes += raw[0].nbytes
        out = raw[0][:nbytes].view(dtype).reshape(shape)
        if fill is not None:
            out.fill(fill)
        return out

    def take_rows(
        self, rows: int, columns: int, dtype: np.dtype, fill: float | None = None
    ) -> np.ndarray:
        """Return a buffer (rows, columns) whose rows begin an odd number of cache lines apart.

        Rows a multiple of 4096 bytes apart share a few sets of the first-level cache, and a load
        from one waits for a store to another.
        """
        return self.take((rows, row_width(columns, dtype)), dtype, fill)[:, :columns]

    def release(self) -> None:
        """Give the buffers back; nothing may read them any more."""
        taken, self._taken, self.nbytes = self._taken, [], 0
        for raw in taken:
            _give(raw)


class _Loan:
    """What stands behind a lent array: its memory goes back when the last view of it is gone."""

    __slots__ = ("__array_interface__", "_raw", "address")

    def __init__(self, raw: _Raw, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._raw = raw
        self.address = raw[1]
        self.__array_interface__ = {
            "version": 3, "data": (self.address, False), "shape": shape, "typestr": dtype.str,
        }  # fmt: skip

    def __del__(self) -> None:
        if _lock is not None:
            _give(self._raw)


def lend(shape: tuple[int, ...], dtype: np.dtype, fill: float | None = None) -> np.ndarray:
    """Return an aligned array for a user to keep; its memory is used again when it is dropped."""
    out = np.asarray(_Loan(_take(_count(shape) * dtype.itemsize), shape, dtype))
    if fill is not None:
        out.fill(fill)
    return out


def lend_rows(rows: int, columns: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Lend an array (rows, columns) laid out as by `Lease.take_rows`, and return its address."""
    full = lend((rows, row_width(columns, dtype)), dtype)
    return full[:, :columns], address(full)


def address(array: np.ndarray) -> int:
    """Return where an array's memory begins, at a third of the cost of ``array.ctypes.data``."""
    if type(array.base) is _Loan:  # not a view of a lent array: its base is that array
        return array.base.address
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(cast(Any, array)))
    except (TypeError, ValueError):  # read-only, not contiguous, or empty
        start: int = array.__array_interface__["data"][0]
        return start


def clear() -> None:
    """Forget all waiting buffers."""
    global _held
    with _lock:
        _free.clear()
        _held = 0
