"""Light gated recurrent unit, without its batch norm.

Ravanelli, Brakel, Omologo and Bengio, "Light gated recurrent units for speech recognition" (2018),
from memory. No reset gate, ReLU in the candidate, z keeps. The paper normalises ``W x_t`` over the
batch; without that, h is not bounded.
"""

from typing import Any

from minirnn.equations import cell, relu, sigmoid


@cell(gates="zn", state="h")
def ligru(wx: Any, u: Any, prev: Any) -> Any:
    """Return ``h_t = z h_{t-1} + (1 - z) n`` with ``n = relu(W_n x_t + U_n h_{t-1})``."""
    z = sigmoid(wx.z + u.z @ prev.h)
    n = relu(wx.n + u.n @ prev.h)
    return n + z * (prev.h - n)
