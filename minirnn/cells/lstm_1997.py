"""LSTM as it was in 1997: no forget gate, and gates that see the gates of the step before.

Hochreiter and Schmidhuber, Neural Computation 9 (1997), section 4 and appendix A.1, from memory
except for the weight counts (`minirnn.cells.hs97_count`). The hidden layer is fully connected:
gates and cell input see the h, i and o of the step before. The cell input is squashed to [-2, 2],
the cell to [-1, 1] on its way out:

    g_t = 4 sigmoid(net_g) - 2,  c_t = c_{t-1} + i_t g_t,  h_t = o_t (2 sigmoid(c_t) - 1)

One cell a block here: each unit has an input and an output gate of its own. The six blocks from
gates, ``<into>_<from>``, have no bias. ``lstm_1997_truncated`` has the paper's gradient: what was
fed back passes none, so that only c carries an error from step to step. It is no gradient of the
function that the cell computes.
"""

from collections.abc import Callable
from typing import Any

from minirnn.equations import Cell, cell, sigmoid, stop

FROM_GATES = ("i_i", "i_o", "g_i", "g_o", "o_i", "o_o")


def _unchanged(v: Any) -> Any:
    return v


def lstm_1997_cell(name: str, past: Callable[[Any], Any]) -> Cell:
    """Make the cell; ``past`` is applied to everything that was fed back but c."""

    @cell(gates="igo", state="hcio", products=("i", "g", "o", *FROM_GATES), unbiased=FROM_GATES,
          name=name)  # fmt: skip
    def equations(wx: Any, u: Any, prev: Any) -> Any:
        h, i_prev, o_prev = past(prev.h), past(prev.i), past(prev.o)
        i = sigmoid(wx.i + u.i @ h + u.i_i @ i_prev + u.i_o @ o_prev)
        g = 4 * sigmoid(wx.g + u.g @ h + u.g_i @ i_prev + u.g_o @ o_prev) - 2
        o = sigmoid(wx.o + u.o @ h + u.o_i @ i_prev + u.o_o @ o_prev)
        c = prev.c + i * g
        return o * (2 * sigmoid(c) - 1), c, i, o

    return equations


lstm_1997 = lstm_1997_cell("lstm_1997", _unchanged)
lstm_1997_truncated = lstm_1997_cell("lstm_1997_truncated", stop)
