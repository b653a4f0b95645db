"""Linear: y = x W^T + b."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor
from minirnn.layers.module import Module, checked_input, module_rng, positive


class Linear(Module):
    """Map the last axis from ``in_features`` to ``out_features``.

    Parameters ``weight`` (out_features, in_features) and ``bias`` (out_features,), first drawn as
    in PyTorch: uniform in +-1/sqrt(in_features).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.in_features = positive("Linear", "in_features", in_features)
        self.out_features = positive("Linear", "out_features", out_features)
        rng = module_rng(seed)
        bound = 1.0 / np.sqrt(in_features)
        weight = rng.uniform(-bound, bound, (out_features, in_features))
        self.weight = Tensor(weight.astype(dtype), requires_grad=True)
        self.bias: Tensor | None = None
        if bias:
            drawn = rng.uniform(-bound, bound, out_features)
            self.bias = Tensor(drawn.astype(dtype), requires_grad=True)

    def forward(self, x: Any) -> Tensor:
        """Map x (..., in_features) to (..., out_features)."""
        x = checked_input("Linear", x, self.weight)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear: x must have shape (..., in_features={self.in_features}), got {x.shape}"
            )
        y = x @ self.weight.transpose(0, 1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
