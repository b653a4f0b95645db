"""Where a backward pass leaves the gradients of the weights: parts of one block of memory.

One block, because to lend memory costs as much Python as all else that a small layer does with it.
"""

import math

import numpy as np

from minirnn.kernels.cellkernel import CellKernel
from minirnn.kernels.workspace import address, lend

_LINE = 64  # bytes of a cache line: every part begins on one


class Targets:
    """The parts of a block for a cell with I = ``features``.

    weight_ih (G*padded, I rounded up to whole vectors), weight_hh (P*padded, padded), and the sums
    over rows that `CellKernel.sums` names. clear: whether the weights' parts must be zeros, which
    stay where no product writes: blocks that no equation uses, triangles.
    """

    def __init__(self, kernel: CellKernel, features: int, clear: bool) -> None:
        k, size = kernel, kernel.dtype.itemsize
        wide = -(-features // k.lanes) * k.lanes
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (len(k.cell.gates) * k.padded, wide),
            "weight_hh": (len(k.cell.products) * k.padded, k.padded),
            "sums": (k.sums_size,),
        }
        self._dtype = k.dtype
        self._parts: dict[str, tuple[int, int, tuple[int, ...]]] = {}
        at = 0
        for name, shape in shapes.items():
            self._parts[name] = at, at + math.prod(shape), shape
            at += -(-math.prod(shape) * size // _LINE) * (_LINE // size)
        self._size, first = at, self._parts["sums"][0]
        for name, (a, b) in k.sums.items():
            self._parts[name] = first + a, first + b, (b - a,)
        self._clear_from = 0 if clear else first

    def lend(self) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Lend a block; returns the parts, and where each begins."""
        block = lend((self._size,), self._dtype)
        block[self._clear_from :] = 0.0
        start, size = address(block), self._dtype.itemsize
        arrays = {n: block[a:b].reshape(shape) for n, (a, b, shape) in self._parts.items()}
        return arrays, {n: start + a * size for n, (a, _, _) in self._parts.items()}
