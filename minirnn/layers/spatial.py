"""SpatialLSTM: an LSTM over a grid, whose pixels see the neighbours to the left and above."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor, concat, stack
from minirnn.equations import cell, sigmoid, tanh
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.layers import arguments, reference
from minirnn.layers.direction import Direction
from minirnn.layers.fused import PackedWeights, run_fused
from minirnn.layers.module import Module, checked_input, module_rng, positive

GATES = ("i", "f_c", "f_r", "g", "o")


@cell(gates=GATES, state="hc", unbiased=GATES)  # one bias: that of wx
def spatial_lstm(wx: Any, u: Any, prev: Any, below: Any) -> Any:
    """Return h and c of one pixel: ``prev`` is its left neighbour, ``below`` the one above.

    ``wx`` holds the share of h above besides that of x: both are known before the row begins.
    """
    i = sigmoid(wx.i + u.i @ prev.h)
    f_c = sigmoid(wx.f_c + u.f_c @ prev.h)
    f_r = sigmoid(wx.f_r + u.f_r @ prev.h)
    g = tanh(wx.g + u.g @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h)
    c = i * g + f_c * prev.c + f_r * below.c
    h = o * tanh(c)
    return h, c


class SpatialLSTM(Module):
    """A long short-term memory over the rows and columns of a grid.

    Theis and Bethge, "Generative image modeling using spatial LSTMs", NIPS (2015), from memory::

        (i, f_c, f_r, g, o)_ij = (s, s, s, tanh, s)(W x_ij + U h_i,j-1 + V h_i-1,j + b)
        c_ij = i * g + f_c * c_i,j-1 + f_r * c_i-1,j
        h_ij = o * tanh(c_ij)

    with s the logistic function. h and c are 0 outside the grid. Pixel ij depends on the pixels
    that are neither below nor to the right of it, and on no other; for other corners, `flip` the
    grid before and after.

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    bias
        Whether there is ``bias``.
    dtype
        float32 or float64.
    seed
        For the initial weights; the global generator draws them if it is not given.

    The parameters ``weight_ih`` (5H, I), ``weight_left`` (5H, H), ``weight_above`` (5H, H) and
    ``bias`` (5H,) are W, U, V and b, their blocks in the order i, f_c, f_r, g, o; uniform in
    +-1/sqrt(H) at first.

    Each row runs as one fused sequence that reads the states of the row above: h through the
    product with the input, c as the states of the level below.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.input_size = positive("SpatialLSTM", "input_size", input_size)
        self.hidden_size = size = positive("SpatialLSTM", "hidden_size", hidden_size)
        made = arguments.checked_dtype("SpatialLSTM", dtype)
        rng, bound = module_rng(seed), 1.0 / np.sqrt(size)
        rows = len(GATES) * size

        def draw(*shape: int) -> Tensor:
            return Tensor(rng.uniform(-bound, bound, shape).astype(made), requires_grad=True)

        self.weight_ih = draw(rows, self.input_size)
        self.weight_left = draw(rows, size)
        self.weight_above = draw(rows, size)
        self.bias: Tensor | None = draw(rows) if bias else None

    def forward(self, x: Any) -> Tensor:
        """Run over a grid.

        Parameters
        ----------
        x
            (R, C, B, I): rows, columns, batch, input; or (R, C, I) without a batch.

        Returns
        -------
        output
            h of every pixel, (R, C, B, H) or (R, C, H).
        """
        x = checked_input("SpatialLSTM", x, self.weight_ih)
        if x.ndim not in (3, 4) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"SpatialLSTM: x must have shape (R, C, B, input_size={self.input_size}), or "
                f"(R, C, {self.input_size}) without a batch, got {x.shape}; for images (B, R, C, "
                "I) pass x transposed"
            )
        if x.ndim == 3:
            return self._run(x.reshape(*x.shape[:2], 1, x.shape[2]))[:, :, 0]
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        """Run over a grid (R, C, B, I) row by row; h of every pixel (R, C, B, H)."""
        rows, columns, batch, _ = x.shape
        size = self.hidden_size
        if 0 in x.shape[:3]:  # no pixel, but the right shape and a place on the tape
            return x @ self.weight_ih[:size].transpose(0, 1)
        edge = Tensor(np.zeros((batch, size), x.dtype))
        row = Tensor(np.zeros((columns, batch, size), x.dtype))
        above = (row, row)
        parameters = {
            "weight_ih": concat([self.weight_ih, self.weight_above], dim=1),
            "weight_hh": self.weight_left,
        }
        if self.bias is not None:
            parameters |= {"bias_ih": self.bias, "bias_hh": Tensor(np.zeros(0, x.dtype))}
        packed = PackedWeights()  # once for all rows
        outputs = []
        for i in range(rows):
            run = Direction(
                cell=spatial_lstm, hidden_size=size, parameters=parameters,
                x=concat([x[i], above[0]], dim=2), state=(edge, edge), below=above, lengths=None,
                reverse=False, start=0,
            )  # fmt: skip
            slow = JIT_DISABLED or reference.forced()
            h, _, _, c = reference.run_reference(run) if slow else run_fused(run, packed)
            above = (h, c)
            outputs.append(h)
        return stack(outputs, dim=0)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias is not None}"
