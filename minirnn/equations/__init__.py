"""The cell language: symbols, their derivatives, and what a kernel has to do. Pure Python."""

from minirnn.equations.cell import Cell, cell
from minirnn.equations.functions import (
    abs,
    clip,
    exp,
    layer_norm,
    log,
    maximum,
    mean,
    minimum,
    relu,
    rsqrt,
    sigmoid,
    sqrt,
    stop,
    tanh,
    where,
)
from minirnn.equations.symbols import CellError

__all__ = [
    "Cell", "CellError", "abs", "cell", "clip", "exp", "layer_norm", "log", "maximum", "mean",
    "minimum", "relu", "rsqrt", "sigmoid", "sqrt", "stop", "tanh", "where",
]  # fmt: skip
