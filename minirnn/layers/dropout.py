"""Dropout: in training every entry is 0 with probability p, the others grow by 1 / (1 - p)."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor
from minirnn.engine.random import generator
from minirnn.layers.module import Module, checked_input


class Dropout(Module):
    """Zero entries at random in training mode; pass everything on after ``eval()``.

    It draws from the global generator, or from one of its own when ``seed`` is given. ``dtype``
    is there because all layers take it: the output has the dtype of the input.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: p must be a probability in [0, 1], got {p}")
        self.p = float(p)
        self.rng = None if seed is None else np.random.default_rng(seed)

    def forward(self, x: Any) -> Tensor:
        """Map x (...) to the same shape."""
        x = checked_input("Dropout", x)
        if not self.training or self.p == 0.0:
            return x
        rng = generator() if self.rng is None else self.rng
        kept = rng.random(x.shape, dtype=np.float32) >= self.p
        scale = 1.0 / (1.0 - self.p) if self.p < 1.0 else 0.0
        return x * (kept * scale).astype(x.dtype)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"
