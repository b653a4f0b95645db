"""Elman and Jordan networks, with their readout inside: ``y_t`` is the output.

Elman, "Finding structure in time", Cognitive Science 14 (1990): the hidden layer is fed back.
Jordan, "Serial order", ICS report 8604 (1986): the output is fed back. Both from memory, in the
form in which lectures write the pair, with logistic functions; the readout has as many units as
the hidden layer. A bare Elman layer without readout is ``rnn_logistic``.
"""

from typing import Any

from minirnn.equations import cell, sigmoid


@cell(gates="h", products="hy", state="yh")
def elman(wx: Any, u: Any, prev: Any) -> Any:
    """Return y and h.

    ``h_t = sigmoid(W_h x_t + U_h h_{t-1} + b_h)`` and ``y_t = sigmoid(U_y h_t + b_y)``.
    """
    h = sigmoid(wx.h + u.h @ prev.h)
    y = sigmoid(u.y @ h)
    return y, h


@cell(gates="h", products="hy", state="y")
def jordan(wx: Any, u: Any, prev: Any) -> Any:
    """Return y.

    ``h_t = sigmoid(W_h x_t + U_h y_{t-1} + b_h)`` and ``y_t = sigmoid(U_y h_t + b_y)``.
    """
    h = sigmoid(wx.h + u.h @ prev.y)
    return sigmoid(u.y @ h)
