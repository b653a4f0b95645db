"""The cells of the benchmark, and what a training step of one costs."""

from typing import Any

from bench.shapes import USERS, Shape
from minirnn import Cell, cell, cells, sigmoid, tanh


@cell(gates="ifgo", state="hc", vectors=("p_i", "p_f", "p_o"))
def users_peephole(wx: Any, u: Any, prev: Any, p: Any) -> Any:
    """Peephole LSTM as a user would write it: no kernel knows it."""
    i = sigmoid(wx.i + u.i @ prev.h + p.p_i * prev.c)
    f = sigmoid(wx.f + u.f @ prev.h + p.p_f * prev.c)
    c = f * prev.c + i * tanh(wx.g + u.g @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h + p.p_o * c)
    return o * tanh(c), c


def get(name: str) -> Cell:
    """Return a cell of the registry, or the one that stands here."""
    return users_peephole if name == USERS else cells.get(name)


def flops(made: Cell, shape: Shape, training: bool = True) -> int:
    """Count the floating-point operations of the products, 2 for a multiply and an add.

    A forward pass takes 2 T B H (G I + P H) with G gates and P blocks of the recurrent matrix; a
    training step three times as many: each weight is met once forward, once for the gradient of
    what it multiplies and once for its own. Entries of triangular blocks that are 0 do not count.
    Pointwise operations do not count either, in no library.
    """
    recurrent = made.num_params(0, shape.H, bias=0) - len(made.vectors) * shape.H
    forward = 2 * shape.T * shape.B * (len(made.gates) * shape.H * shape.I + recurrent)
    return 3 * forward if training else forward
