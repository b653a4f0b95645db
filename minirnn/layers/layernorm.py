"""LayerNorm: mean 0 and variance 1 over the last axes, then a gain and a shift per entry."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor, sqrt
from minirnn.layers.module import Module, checked_input, positive


class LayerNorm(Module):
    """Normalise over the last axes, those of ``normalized_shape`` (Ba, Kiros, Hinton 2016).

    y = (x - mean) / sqrt(var + eps) * weight + bias, var with 1/n; weight (ones) and bias (zeros)
    have the shape ``normalized_shape``. Nothing is drawn; ``seed`` is there because all layers
    take it.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        shape = [normalized_shape] if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(positive("LayerNorm", "normalized_shape", n) for n in shape)
        if not self.normalized_shape:
            raise ValueError("LayerNorm: normalized_shape must name at least one axis, got ()")
        self.eps = float(eps)
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if elementwise_affine:
            self.weight = Tensor(np.ones(self.normalized_shape, dtype), requires_grad=True)
            if bias:
                self.bias = Tensor(np.zeros(self.normalized_shape, dtype), requires_grad=True)

    def forward(self, x: Any) -> Tensor:
        """Map x (..., *normalized_shape) to the same shape."""
        x = checked_input("LayerNorm", x, self.weight)
        count = len(self.normalized_shape)
        if x.shape[-count:] != self.normalized_shape:
            raise ValueError(
                f"LayerNorm: x must have shape (..., *{self.normalized_shape}), got {x.shape}"
            )
        axes = tuple(range(-count, 0))
        # Two passes: the mean of squares minus the square of the mean cancels.
        centred = x - x.mean(axes, keepdim=True)
        variance = (centred * centred).mean(axes, keepdim=True)
        y = centred / sqrt(variance + self.eps)
        if self.weight is not None:
            y = y * self.weight
        if self.bias is not None:
            y = y + self.bias
        return y

    def extra_repr(self) -> str:
        """Show the shape."""
        return f"{self.normalized_shape}, eps={self.eps}"
