"""Checks of what a user gives to a recurrent layer, each with the way out."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor
from minirnn.engine.dual import tensor
from minirnn.engine.linear import checked_ids as looked_up
from minirnn.engine.tape import constant
from minirnn.equations import Cell
from minirnn.layers.embedding import Embedding


def checked_cell(place: str, cell: Any) -> Cell:
    """Return the cell, if layers can run it."""
    if not isinstance(cell, Cell):
        raise TypeError(
            f"{place}: cell must be a name of minirnn.cells.names() or made with @minirnn.cell, "
            f"got {type(cell).__name__}"
        )
    return cell


def check_options(
    place: str, cell: Cell, dropout: float, bidirectional: bool, skew: bool, proj_size: int
) -> None:
    """Check the options of a layer."""
    if not 0.0 <= dropout <= 1.0:
        raise ValueError(f"{place}: dropout must be a probability in [0, 1], got {dropout}")
    if skew and bidirectional:
        raise ValueError(
            f"{place}: skew=True delays each level by a step and has no meaning for a reverse "
            "direction; drop skew or bidirectional"
        )
    if skew and "below" in cell.arguments:
        raise ValueError(
            f"{place}: cell {cell.name!r} reads the level below after the same step, which "
            "skew=True does not have yet; drop skew or use another cell"
        )
    if proj_size:
        raise ValueError(
            f"{place}: proj_size must be 0, got {proj_size}; put a Linear behind the layer, or "
            "write a cell with the projection inside"
        )


def checked_dtype(place: str, dtype: DTypeLike) -> np.dtype:
    """Return float32 or float64."""
    made = np.dtype(dtype)
    if made not in (np.float32, np.float64):
        raise TypeError(f"{place}: dtype must be float32 or float64, got {made}")
    return made


def _same_dtype(place: str, name: str, t: Tensor, dtype: np.dtype) -> Tensor:
    if t.dtype != dtype:
        raise TypeError(
            f"{place}: {name} must have the dtype of the parameters, {dtype}, got {t.dtype}; "
            f"convert one of them, with {name}.astype or with the layer's to({t.dtype})"
        )
    return t


def checked_x(
    place: str, x: Any, input_size: int, dtype: np.dtype, batch_first: bool
) -> tuple[Tensor, bool]:
    """Return x as (T, B, I), and whether it came with a batch axis."""
    x = _same_dtype(place, "x", tensor(x, place, "x"), dtype)
    layout = "(B, T, " if batch_first else "(T, B, "
    if x.ndim not in (2, 3) or x.shape[-1] != input_size:
        raise ValueError(
            f"{place}: x must have shape {layout}input_size={input_size}), or (T, {input_size}) "
            f"without a batch, got {x.shape}"
        )
    if x.ndim == 2:
        return x.reshape(x.shape[0], 1, x.shape[1]), False
    return (x.transpose(0, 1) if batch_first else x), True


def checked_ids(
    place: str, x: Any, embedding: Any, input_size: int, dtype: np.dtype, batch_first: bool
) -> tuple[np.ndarray, Tensor, bool]:
    """Return ids (T, B) int64 and the table (V, I), and whether the ids came with a batch axis."""
    table = embedding.weight if isinstance(embedding, Embedding) else embedding
    table = _same_dtype(place, "embedding", tensor(table, place, "embedding"), dtype)
    if table.ndim != 2 or table.shape[1] != input_size:
        raise ValueError(
            f"{place}: embedding must have a table of shape (V, input_size={input_size}), got "
            f"{table.shape}"
        )
    ids, table = looked_up(x, table)
    if ids.ndim not in (1, 2):
        layout = "(B, T)" if batch_first else "(T, B)"
        raise ValueError(
            f"{place}: with embedding= x must be ids {layout}, or (T,) without a batch, got shape "
            f"{ids.shape}"
        )
    ids = ids.astype(np.int64, copy=False)
    if ids.ndim == 1:
        return ids[:, None], table, False
    return np.ascontiguousarray(ids.T) if batch_first else ids, table, True


def checked_lengths(
    place: str, lengths: Any, steps: int, batch: int, batched: bool
) -> np.ndarray | None:
    """Return lengths as (B,) int64, or None if all are T."""
    if lengths is None:
        return None
    array = np.asarray(lengths.numpy() if isinstance(lengths, Tensor) else lengths)
    if not batched:
        raise ValueError(f"{place}: lengths need a batch; cut x to its length, x[:length]")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{place}: lengths must be whole numbers, got dtype {array.dtype}")
    if array.shape != (batch,):
        raise ValueError(f"{place}: lengths must have shape (B={batch},), got {array.shape}")
    array = array.astype(np.int64)
    if batch and (array.min() < 0 or array.max() > steps):
        raise ValueError(
            f"{place}: lengths must lie between 0 and T={steps}, got {array.min()} to {array.max()}"
        )
    return None if (array == steps).all() else array


def checked_state(
    place: str, state: Any, cell: Cell, levels: int, batch: int, size: int, dtype: np.dtype,
    batched: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return one tensor (L*D, B, H) per state of the cell; zeros if None is given."""
    if state is None:
        return tuple([constant(np.zeros((levels, batch, size), dtype)) for _ in cell.state])
    count = len(cell.state)
    several = isinstance(state, (tuple, list))
    given = tuple(state) if several else (state,)
    if len(given) != count or (count > 1 and not several):
        names = ", ".join(cell.state)
        wanted = "one array" if count == 1 else f"a tuple of {count} arrays ({names})"
        got = f"a tuple of {len(given)}" if several else type(state).__name__
        raise ValueError(f"{place}: state must be {wanted}, got {got}")
    shape = (levels, batch, size) if batched else (levels, size)
    letters = "(L*D, B, H)" if batched else "(L*D, H)"
    made = []
    for k, value in zip(cell.state, given, strict=True):
        t = _same_dtype(place, "state", tensor(value, place, "state"), dtype)
        if t.shape != shape:
            raise ValueError(
                f"{place}: state {k} must have shape {letters} = {shape}, got {t.shape}"
            )
        made.append(t if batched else t.reshape(levels, 1, size))
    return tuple(made)


def checked_start(place: str, start: Any) -> int:
    """Return the index of the first step."""
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)):
        raise TypeError(f"{place}: start must be a whole number, got {type(start).__name__}")
    return int(start)


def checked_step(place: str, x_t: Any, input_size: int, dtype: np.dtype) -> Tensor:
    """Return the input of one step, (B, I) or (I,)."""
    x_t = _same_dtype(place, "x_t", tensor(x_t, place, "x_t"), dtype)
    if x_t.ndim not in (1, 2) or x_t.shape[-1] != input_size:
        raise ValueError(
            f"{place}: x_t must have shape (B, input_size={input_size}) or ({input_size},), got "
            f"{x_t.shape}"
        )
    return x_t
