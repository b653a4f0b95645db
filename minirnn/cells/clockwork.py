"""Clockwork RNN: modules of units, each with a clock of its own.

Koutnik, Greff, Gomez and Schmidhuber, "A clockwork RNN", ICML (2014), from memory. A module moves
at the steps that its period divides and rests at all others, its units copied bit for bit. Fast
modules read slow ones, never the reverse: the recurrent matrix is block upper triangular.
Four modules with periods 1, 2, 4, 8; unit j of H belongs to module ``j * 4 // H``. Of the recurrent
matrix 10 blocks of 16 are used: the kernels skip the others, and their flops, as far as modules
reach over whole columns of one to four vectors. Units at rest are computed and not taken.
"""

from typing import Any

from minirnn.equations import cell, tanh, where


@cell(gates="h", state="h", constants={"period": (1, 2, 4, 8)}, upper="h")
def clockwork(wx: Any, u: Any, prev: Any, p: Any, t: Any) -> Any:
    """Return ``h_t = tanh(W x_t + U h_{t-1})`` for units that move, else ``h_{t-1}``."""
    new = tanh(wx.h + u.h @ prev.h)
    return where(t % p.period < 1, new, prev.h)
