"""LSTM with coupled input and forget gates, as Olah draws it: ``i = 1 - f``.

Olah, "Understanding LSTM networks" (2015), from memory. Greff et al. couple the other way round
and keep i, with peepholes: ``greff_cifg``.
"""

from typing import Any

from minirnn.equations import cell, sigmoid, tanh


@cell(gates="fgo", state="hc")
def lstm_cifg(wx: Any, u: Any, prev: Any) -> Any:
    """Return h and c: ``c_t = f c_{t-1} + (1 - f) g`` and ``h_t = o tanh(c_t)``."""
    f = sigmoid(wx.f + u.f @ prev.h)
    g = tanh(wx.g + u.g @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h)
    c = f * prev.c + (1 - f) * g
    return o * tanh(c), c
