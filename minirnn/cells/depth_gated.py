"""LSTM whose cells of adjacent levels are connected by a gate.

Yao, Cohn, Vylomova, Duh and Dyer, "Depth-gated LSTM" (2015): the abstract was seen, which names
what the gate sees; the equations are from memory. Without peepholes.
"""

from typing import Any

from minirnn.equations import cell, sigmoid, tanh


@cell(gates="ifgod", products="ifgo", state="hc", vectors=("w_c", "w_l"))
def depth_gated(wx: Any, u: Any, prev: Any, p: Any, below: Any) -> Any:
    """Return h and c of a level; ``below.c`` is the c_t of the level below, 0 at the lowest.

    ``d = sigmoid(W_d x_t + w_c c_{t-1} + w_l below.c)``,
    ``c_t = d below.c + f c_{t-1} + i g`` and ``h_t = o tanh(c_t)``.
    """
    i = sigmoid(wx.i + u.i @ prev.h)
    f = sigmoid(wx.f + u.f @ prev.h)
    g = tanh(wx.g + u.g @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h)
    d = sigmoid(wx.d + p.w_c * prev.c + p.w_l * below.c)
    c = d * below.c + f * prev.c + i * g
    return o * tanh(c), c
