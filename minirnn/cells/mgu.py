"""Minimal gated unit: one gate that resets and writes.

Zhou, Wu, Zhang and Zhou, "Minimal gated unit for recurrent neural networks" (2016), from memory.
"""

from typing import Any

from minirnn.equations import cell, sigmoid, tanh


@cell(gates="fn", state="h")
def mgu(wx: Any, u: Any, prev: Any) -> Any:
    """Return ``h_t = (1 - f) h_{t-1} + f n`` with ``n = tanh(W_n x_t + U_n (f h_{t-1}))``."""
    f = sigmoid(wx.f + u.f @ prev.h)
    n = tanh(wx.n + u.n @ (f * prev.h))
    return prev.h + f * (n - prev.h)
