"""Gated recurrent units: every convention of papers, libraries and lectures.

    r = sigmoid(W_r x_t + U_r h_{t-1}),  z = sigmoid(W_z x_t + U_z h_{t-1})

    after     n = tanh(W_n x_t + r (U_n h_{t-1} + b_hn))
    before    n = tanh(W_n x_t + U_n (r h_{t-1}))
    none      n = tanh(W_n x_t + U_n h_{t-1})

    keep      h_t = (1 - z) n + z h_{t-1}
    write     h_t = (1 - z) h_{t-1} + z n

``gru`` (after, keep) is `torch.nn.GRU`, cuDNN, ONNX with ``linear_before_reset`` and Keras with
``reset_after``. Cho et al., EMNLP (2014), keep with the reset before the product in version 3 of
the preprint and after it in version 1; Chung et al. (2014) write, with the reset before. The papers
from memory.

Keep and write are one model: ``sigmoid(-a) = 1 - sigmoid(a)``, so that the weights of z change
their sign. After and before are two models: ``r (U h)`` is ``U (r h)`` only where U is diagonal or
r is the same for all units. "None" is a misprint met in lectures, kept so that it can be shown: r
is computed and used nowhere, so that a third of the weights gets no gradient; the gates are ``rzn``
all the same.
"""

from typing import Any

from minirnn.equations import Cell, cell, sigmoid, tanh


def gru_cell(name: str, reset: str, update: str) -> Cell:
    """Make the GRU: reset "after", "before" or "none", update "keep" or "write"."""

    @cell(gates="rzn", state="h", unused="r" if reset == "none" else "", name=name)
    def equations(wx: Any, u: Any, prev: Any) -> Any:
        h = prev.h
        r = sigmoid(wx.r + u.r @ h)
        z = sigmoid(wx.z + u.z @ h)
        if reset == "after":
            n = tanh(wx.n + r * (u.n @ h))
        elif reset == "before":
            n = tanh(wx.n + u.n @ (r * h))
        else:
            n = tanh(wx.n + u.n @ h)
        return n + z * (h - n) if update == "keep" else h + z * (n - h)

    return equations


gru = gru_cell("gru", "after", "keep")
gru_write = gru_cell("gru_write", "after", "write")
gru_before = gru_cell("gru_before", "before", "keep")
gru_before_write = gru_cell("gru_before_write", "before", "write")
gru_none = gru_cell("gru_none", "none", "keep")
gru_none_write = gru_cell("gru_none_write", "none", "write")
