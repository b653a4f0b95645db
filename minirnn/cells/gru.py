"""Gated recurrent units, which differ by one bracket.

``gru`` is `torch.nn.GRU` (cuDNN, Keras with ``reset_after``): the reset gate acts after the
recurrent product. ``gru_before`` is Cho et al., EMNLP (2014), version 3 of the preprint: it acts
before the product, which makes a second stage. In both z keeps the old state:
``h_t = (1 - z) n + z h_{t-1}``.
"""

from typing import Any

from minirnn.equations import Cell, cell, sigmoid, tanh


def gru_cell(name: str, reset: str) -> Cell:
    """Make the GRU with the reset gate ``after`` or ``before`` the recurrent product."""

    @cell(gates="rzn", state="h", name=name)
    def equations(wx: Any, u: Any, prev: Any) -> Any:
        r = sigmoid(wx.r + u.r @ prev.h)
        z = sigmoid(wx.z + u.z @ prev.h)
        if reset == "after":
            n = tanh(wx.n + r * (u.n @ prev.h))
        else:
            n = tanh(wx.n + u.n @ (r * prev.h))
        return n + z * (prev.h - n)

    return equations


gru = gru_cell("gru", "after")
gru_before = gru_cell("gru_before", "before")
