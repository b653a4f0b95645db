"""The registry of cells: a cell is one file of equations here and one line in ``_FILES``."""

import importlib

from minirnn.cells.hs97 import hs97_count
from minirnn.equations import Cell

__all__ = ["get", "hs97_count", "names"]

# file of this package -> the cells that it defines
_FILES = {
    "rnn": ("rnn", "rnn_relu", "rnn_logistic"),
    "elman_jordan": ("elman", "jordan"),
    "lstm": ("lstm",),
    "lstm_peephole": ("lstm_peephole",),
    "lstm_cifg": ("lstm_cifg",),
    "lstm_1997": ("lstm_1997", "lstm_1997_truncated"),
    "gru": ("gru", "gru_write", "gru_before", "gru_before_write", "gru_none", "gru_none_write"),
    "greff": (
        "greff_v", "greff_nig", "greff_nfg", "greff_nog", "greff_niaf", "greff_noaf", "greff_np",
        "greff_cifg", "greff_fgr",
    ),
    "depth_gated": ("depth_gated",),
    "clockwork": ("clockwork",),
    "mgu": ("mgu",),
    "mut": ("mut1", "mut2", "mut3"),
    "ligru": ("ligru",),
    "layernorm": ("lstm_layernorm", "gru_layernorm"),
}  # fmt: skip


def names() -> tuple[str, ...]:
    """Names of all cells of the registry."""
    return tuple(name for cells in _FILES.values() for name in cells)


def get(name: str) -> Cell:
    """Return the cell of this name.

    Raises
    ------
    ValueError
        No cell has this name; the message lists those that exist.
    """
    for file, cells in _FILES.items():
        if name in cells:
            found: Cell = getattr(importlib.import_module(f"minirnn.cells.{file}"), name)
            return found
    raise ValueError(f"cells.get: no cell is named {name!r}; there are {', '.join(names())}")
