"""LSTM and GRU with layer normalisation inside the step.

After Ba, Kiros and Hinton, "Layer normalization" (2016), from memory. The paper normalises
``W x_t`` and ``U h_{t-1}`` over all gates jointly; here, as in most code, each gate's whole
pre-activation is normalised over its H units, with a gain (at first 1) and a shift (at first 0) for
each. The LSTM's c is normalised on its way to h and carried as it is. In the GRU r acts after the
recurrent product, so the two halves of the candidate are normalised apart.
"""

from typing import Any

from minirnn.equations import cell, layer_norm, sigmoid, tanh


def gains_and_shifts(*names: str) -> dict[str, float]:
    """Name the vectors of a layer norm, with their first values: all gains, then all shifts."""
    return {f"gain_{k}": 1.0 for k in names} | {f"shift_{k}": 0.0 for k in names}


@cell(gates="ifgo", state="hc", vectors=gains_and_shifts("i", "f", "g", "o", "c"))
def lstm_layernorm(wx: Any, u: Any, prev: Any, p: Any) -> Any:
    """Return h and c: ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(gain_c norm(c_t) + shift_c)``.

    Each gate is ``sigmoid(gain norm(W x_t + U h_{t-1}) + shift)``; g has tanh.
    """
    i = sigmoid(p.gain_i * layer_norm(wx.i + u.i @ prev.h) + p.shift_i)
    f = sigmoid(p.gain_f * layer_norm(wx.f + u.f @ prev.h) + p.shift_f)
    g = tanh(p.gain_g * layer_norm(wx.g + u.g @ prev.h) + p.shift_g)
    o = sigmoid(p.gain_o * layer_norm(wx.o + u.o @ prev.h) + p.shift_o)
    c = f * prev.c + i * g
    return o * tanh(p.gain_c * layer_norm(c) + p.shift_c), c


@cell(gates="rzn", state="h", vectors=gains_and_shifts("r", "z", "xn", "hn"))
def gru_layernorm(wx: Any, u: Any, prev: Any, p: Any) -> Any:
    """Return ``h_t = (1 - z) n + z h_{t-1}``.

    ``n = tanh(gain_xn norm(W_n x_t) + shift_xn + r (gain_hn norm(U_n h_{t-1}) + shift_hn))``; the
    gates are normalised as in the LSTM.
    """
    r = sigmoid(p.gain_r * layer_norm(wx.r + u.r @ prev.h) + p.shift_r)
    z = sigmoid(p.gain_z * layer_norm(wx.z + u.z @ prev.h) + p.shift_z)
    hn = p.gain_hn * layer_norm(u.n @ prev.h) + p.shift_hn
    n = tanh(p.gain_xn * layer_norm(wx.n) + p.shift_xn + r * hn)
    return n + z * (prev.h - n)
