"""Vanilla recurrent networks: one gate, one state.

Elman, "Finding structure in time", Cognitive Science 14 (1990), for the logistic function; tanh and
relu as `torch.nn.RNN` has them. ReLU with an identity matrix, ``init={"weight_hh": "identity"}``:
Le, Jaitly and Hinton (2015). The papers from memory.
"""

from typing import Any

from minirnn.equations import cell, relu, sigmoid, tanh


@cell(gates="h", state="h")
def rnn(wx: Any, u: Any, prev: Any) -> Any:
    """Return ``h_t = tanh(W x_t + U h_{t-1})``."""
    return tanh(wx.h + u.h @ prev.h)


@cell(gates="h", state="h")
def rnn_relu(wx: Any, u: Any, prev: Any) -> Any:
    """Return ``h_t = relu(W x_t + U h_{t-1})``."""
    return relu(wx.h + u.h @ prev.h)


@cell(gates="h", state="h")
def rnn_logistic(wx: Any, u: Any, prev: Any) -> Any:
    """Return ``h_t = sigmoid(W x_t + U h_{t-1})``."""
    return sigmoid(wx.h + u.h @ prev.h)
