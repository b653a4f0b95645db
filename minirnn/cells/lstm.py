"""Long short-term memory with a forget gate.

Hochreiter and Schmidhuber, Neural Computation 9 (1997); the forget gate is from Gers, Schmidhuber
and Cummins, Neural Computation 12 (2000); both from memory. Gate order i, f, g, o and both biases
as `torch.nn.LSTM`.
"""

from typing import Any

from minirnn.equations import cell, sigmoid, tanh


@cell(gates="ifgo", state="hc")
def lstm(wx: Any, u: Any, prev: Any) -> Any:
    """Return h and c: ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(c_t)``."""
    i = sigmoid(wx.i + u.i @ prev.h)
    f = sigmoid(wx.f + u.f @ prev.h)
    g = tanh(wx.g + u.g @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h)
    c = f * prev.c + i * g
    h = o * tanh(c)
    return h, c
