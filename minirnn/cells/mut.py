"""Three mutants of the GRU, found by an evolutionary search.

Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network architectures",
ICML (2015), section 4, from memory. All write with z: ``h_t = (1 - z) h_{t-1} + z n``.

The paper adds tanh(x_t) to the candidate of MUT1 and x_t to the reset gate of MUT2 without
weights, which needs I = H. Here x_t goes through its block of ``weight_ih`` there too, so that any
I works; the paper's cells are these with the identity in that block and 0 in its bias. MUT2 then
has the same equations as ``gru_before_write``.
"""

from typing import Any

from minirnn.equations import cell, sigmoid, tanh


@cell(gates="rzn", products="rn", state="h")
def mut1(wx: Any, u: Any, prev: Any) -> Any:
    """Return h: z sees the input alone, and ``n = tanh(U_n (r h_{t-1}) + tanh(W_n x_t))``."""
    r = sigmoid(wx.r + u.r @ prev.h)
    z = sigmoid(wx.z)
    n = tanh(u.n @ (r * prev.h) + tanh(wx.n))
    return prev.h + z * (n - prev.h)


@cell(gates="rzn", state="h")
def mut2(wx: Any, u: Any, prev: Any) -> Any:
    """Return h: in the paper ``r = sigmoid(x_t + U_r h_{t-1})``."""
    r = sigmoid(wx.r + u.r @ prev.h)
    z = sigmoid(wx.z + u.z @ prev.h)
    n = tanh(wx.n + u.n @ (r * prev.h))
    return prev.h + z * (n - prev.h)


@cell(gates="rzn", state="h")
def mut3(wx: Any, u: Any, prev: Any) -> Any:
    """Return h: ``z = sigmoid(W_z x_t + U_z tanh(h_{t-1}))``."""
    r = sigmoid(wx.r + u.r @ prev.h)
    z = sigmoid(wx.z + u.z @ tanh(prev.h))
    n = tanh(wx.n + u.n @ (r * prev.h))
    return prev.h + z * (n - prev.h)
