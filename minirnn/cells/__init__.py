"""The registry of cells: a cell is one file of equations here and one line in ``_FILES``."""

import importlib

from minirnn.equations import Cell

# file of this package -> the cells that it defines
_FILES = {
    "rnn": ("rnn", "rnn_relu", "rnn_logistic"),
    "lstm": ("lstm",),
    "lstm_peephole": ("lstm_peephole",),
    "gru": ("gru", "gru_before"),
}


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
