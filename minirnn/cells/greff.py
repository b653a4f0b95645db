"""The LSTM with peepholes and eight departures from it, from one definition.

Greff, Srivastava, Koutnik, Steunebrink and Schmidhuber, "LSTM: a search space odyssey" (2015),
section II and appendix A.2, from memory:

    i = sigmoid(W_i x_t + U_i h_{t-1} + p_i c_{t-1}),  f likewise
    g = tanh(W_g x_t + U_g h_{t-1})
    c_t = f c_{t-1} + i g
    o = sigmoid(W_o x_t + U_o h_{t-1} + p_o c_t)
    h_t = o tanh(c_t)

========  ============================================================================
v         as above: the same as ``lstm_peephole``
nig       no input gate: i = 1
nfg       no forget gate: f = 1
nog       no output gate: o = 1
niaf      no input activation function: g = W_g x_t + U_g h_{t-1}
noaf      no output activation function: h_t = o c_t
np        no peepholes: the same as ``lstm``
cifg      coupled input and forget gate: f = 1 - i
fgr       full gate recurrence: every gate sees i, f and o of the step before, through nine
          more matrices ``<into>_<from>`` without bias
========  ============================================================================
"""

from typing import Any

from minirnn.equations import Cell, cell, sigmoid, tanh

# The gates of those that lack one.
_GATES = {"nig": "fgo", "nfg": "igo", "nog": "ifg", "cifg": "igo"}


def greff_cell(variant: str) -> Cell:
    """Make one of the nine cells by its name in the paper, in small letters."""
    gates = _GATES.get(variant, "ifgo")
    vectors = () if variant == "np" else tuple(f"p_{k}" for k in gates if k != "g")
    fed_back = "ifo" if variant == "fgr" else ""
    extra = tuple(f"{into}_{source}" for into in fed_back for source in fed_back)

    @cell(gates=gates, state="hc" + fed_back, vectors=vectors, products=(*gates, *extra),
          unbiased=extra, name=f"greff_{variant}")  # fmt: skip
    def equations(wx: Any, u: Any, prev: Any, p: Any = None) -> Any:
        def gate(k: str, c: Any) -> Any:
            a = getattr(wx, k) + getattr(u, k) @ prev.h
            if vectors:
                a = a + getattr(p, f"p_{k}") * c
            for source in fed_back:
                a = a + getattr(u, f"{k}_{source}") @ getattr(prev, source)
            return sigmoid(a)

        a = wx.g + u.g @ prev.h
        g = a if variant == "niaf" else tanh(a)
        i = gate("i", prev.c) if "i" in gates else 1
        if variant == "cifg":
            f = 1 - i
        else:
            f = gate("f", prev.c) if "f" in gates else 1
        c = f * prev.c + i * g
        o = gate("o", c) if "o" in gates else 1
        h = o * (c if variant == "noaf" else tanh(c))
        return (h, c, i, f, o) if fed_back else (h, c)

    return equations


greff_v, greff_nig, greff_nfg, greff_nog = map(greff_cell, ("v", "nig", "nfg", "nog"))
greff_niaf, greff_noaf, greff_np = map(greff_cell, ("niaf", "noaf", "np"))
greff_cifg, greff_fgr = map(greff_cell, ("cifg", "fgr"))
