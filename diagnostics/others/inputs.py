"""The input of a model of others: its axes, its lengths, and what is wrong with it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diagnostics.others.arrays import check_finite
from diagnostics.others.halves import Array
from diagnostics.others.torch_layers import Network


@dataclass(frozen=True)
class Axes:
    """The axes of an input without its last one.

    shape: (T, B), (B, T) or (T,).  time: which of them is time.  lengths: (B,) or None.
    """

    shape: tuple[int, ...]
    time: int
    lengths: Array | None

    @property
    def without_time(self) -> tuple[int, ...]:
        """The shape of what there is once per sequence: (B,), or () without a batch."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.time)

    def valid(self) -> Array:
        """Return where no padding is, of `shape`."""
        if self.lengths is None:
            return np.ones(self.shape, bool)
        inside = np.arange(self.shape[self.time])[:, None] < self.lengths
        return inside.T if self.time else inside

    def last(self, out: Any) -> Any:
        """Return the last valid step of a tensor with these axes in front."""
        if self.lengths is None:
            return out[:, -1] if self.time else out[-1]
        rows, columns = self.lengths - 1, np.arange(len(self.lengths))
        return out[columns, rows] if self.time else out[rows, columns]


def reads_ids(model: Any) -> bool:
    """Whether a model looks ids up."""
    return isinstance(model, Network) and model.embedding is not None


def checked_axes(place: str, x: Array, model: Any, layer: Any) -> Axes:
    """Return the axes of an input of the right kind and shape, or say what is wrong with it."""
    first = "(B, T" if layer.batch_first else "(T, B"
    if reads_ids(model):
        if x.dtype.kind not in "iu":
            raise ValueError(f"{place} must hold ids beside an embedding, got dtype {x.dtype}")
        shape, wanted, alone = x.shape, f"{first})", "(T,)"
    else:
        if x.dtype.kind != "f":
            raise ValueError(
                f"{place} must hold floats, got dtype {x.dtype}; ids need an embedding: pass "
                "--embedding NAME"
            )
        shape = x.shape[:-1] if x.shape[-1:] == (layer.input_size,) else ()
        wanted, alone = f"{first}, {layer.input_size})", f"(T, {layer.input_size})"
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{place} must have shape {wanted}, or {alone} without a batch, got {x.shape}"
        )
    if not x.size:
        raise ValueError(f"{place} must hold at least one step of one sequence, got {x.shape}")
    return Axes(shape, 1 if layer.batch_first and len(shape) == 2 else 0, None)


def with_lengths(place: str, axes: Axes, lengths: Array) -> Axes:
    """Return axes with the lengths of their sequences, or say what is wrong with these."""
    if len(axes.shape) != 2:
        raise ValueError(f"{place} needs a batch; cut the only sequence to its length instead")
    steps = axes.shape[axes.time]
    if lengths.dtype.kind not in "iu" or lengths.shape != axes.without_time:
        raise ValueError(
            f"{place} must hold whole numbers of shape (B,) = {axes.without_time}, got dtype "
            f"{lengths.dtype}, shape {lengths.shape}"
        )
    if lengths.min() < 1 or lengths.max() > steps:
        raise ValueError(
            f"{place} must lie in 1 to T = {steps}, got {lengths.min()} to {lengths.max()}"
        )
    return Axes(axes.shape, axes.time, lengths.astype(np.int64))


def without_padding(place: str, array: Array, valid: Array, dtype: Any) -> Array:
    """Return an array with 0 for padding, floats in the dtype of the weights, all finite.

    valid: of the shape of the array's first axes.
    """
    wide = valid.reshape(valid.shape + (1,) * (array.ndim - valid.ndim))
    kept: Array = np.where(wide, array, np.zeros((), array.dtype))
    check_finite(place, kept)
    if kept.dtype.kind != "f":
        return kept
    with np.errstate(over="ignore"):
        cast = kept.astype(dtype)
    if not np.isfinite(cast).all():
        raise ValueError(f"{place} has numbers beyond {cast.dtype}, the dtype of the weights")
    return cast
