"""LSTM whose gates see the cell state through diagonal weights.

Gers and Schmidhuber, "Recurrent nets that time and count", IJCNN (2000), from memory: the input and
the forget gate see c_{t-1}, the output gate sees c_t.
"""

from typing import Any

from minirnn.equations import cell, sigmoid, tanh


@cell(gates="ifgo", state="hc", vectors=("p_i", "p_f", "p_o"))
def lstm_peephole(wx: Any, u: Any, prev: Any, p: Any) -> Any:
    """Return h and c of the LSTM with peepholes p_i, p_f and p_o."""
    i = sigmoid(wx.i + u.i @ prev.h + p.p_i * prev.c)
    f = sigmoid(wx.f + u.f @ prev.h + p.p_f * prev.c)
    g = tanh(wx.g + u.g @ prev.h)
    c = f * prev.c + i * g
    o = sigmoid(wx.o + u.o @ prev.h + p.p_o * c)
    h = o * tanh(c)
    return h, c
