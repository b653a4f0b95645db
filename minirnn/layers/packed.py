"""Packed weights of a direction, kept until a parameter is written to."""

from collections.abc import Iterable

import numpy as np

from minirnn.engine import Tensor
from minirnn.kernels.cellkernel import Packed
from minirnn.layers.direction import Direction


class PackedWeights:
    """Packed weights of one direction, made again when a parameter has been written to."""

    def __init__(self) -> None:
        self._key: Stamp = ()
        self._packed: Packed | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Copy and pickle as an empty one: packed weights hold addresses of their own arrays."""
        return PackedWeights, ()

    def get(self, run: Direction) -> Packed:
        """Return the direction's weights for the kernels."""
        key = stamp(run.parameters.values())
        if self._packed is None or not same(key, self._key):
            self._packed, self._key = _pack(run), key
        return self._packed


Stamp = tuple[tuple[np.ndarray, int], ...]


def stamp(parameters: Iterable[Tensor]) -> Stamp:
    """Return what tells whether parameters have changed: their arrays and versions."""
    return tuple((p._data, p.version) for p in parameters)


def same(a: Stamp, b: Stamp) -> bool:
    """Whether two stamps are of the same arrays in the same version."""
    return len(a) == len(b) and all(x is y and v == w for (x, v), (y, w) in zip(a, b, strict=True))


def _pack(run: Direction) -> Packed:
    arrays = {n: p._data for n, p in run.parameters.items()}
    bias_hh = recurrent_bias(run) if "bias_hh" in arrays else None
    vectors = {n: arrays[f"vector_{n}"] for n in run.cell.vectors} | run.constants()
    mask = run.upper_mask()
    weight_hh = arrays["weight_hh"] if mask is None else arrays["weight_hh"] * mask
    return Packed(arrays["weight_ih"], weight_hh, arrays.get("bias_ih"), bias_hh, vectors)


def recurrent_bias(run: Direction, full: np.ndarray | None = None) -> np.ndarray:
    """Turn ``bias_hh`` into one with zeros for the blocks that have none, (P*H,).

    With ``full``, an array of that shape, turn it back: the part of the blocks that have a bias.
    """
    cell, size = run.cell, run.hidden_size
    if not cell.unbiased:
        return run.parameters["bias_hh"]._data if full is None else full
    biased = np.repeat(np.array([k in cell.biased for k in cell.products], bool), size)
    if full is not None:
        return full[biased]
    out = np.zeros(len(biased), run.dtype)
    out[biased] = run.parameters["bias_hh"]._data
    return out
