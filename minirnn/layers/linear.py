"""Linear: y = x W^T + b."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor, record
from minirnn.kernels import dense
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.layers import reference
from minirnn.layers.module import Module, checked_input, module_rng, positive
from minirnn.layers.packed import Stamp, same, stamp


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
        self._packed = _Packed()

    def forward(self, x: Any) -> Tensor:
        """Map x (..., in_features) to (..., out_features)."""
        x = checked_input("Linear", x, self.weight)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear: x must have shape (..., in_features={self.in_features}), got {x.shape}"
            )
        parents = (x, self.weight) if self.bias is None else (x, self.weight, self.bias)
        if JIT_DISABLED or reference.forced():
            return plain(*parents)
        return self._fused(parents)

    def _fused(self, parents: tuple[Tensor, ...]) -> Tensor:
        """Run the products through the kernels, as one node of the tape."""
        x, weight = parents[:2]
        shape = x.shape[:-1]
        flat = x._data.reshape(-1, self.in_features)
        packed = self._packed.of(*parents[1:])
        y = dense.apply(flat, packed["forward"], self.out_features)
        wants = [t.requires_grad for t in parents]

        def vjp(d: np.ndarray) -> list[Any]:
            dy = d.reshape(-1, self.out_features)
            if wants[0] and "backward" not in packed:
                packed["backward"] = dense.pack_backward(weight._data)
            panels = packed["backward"] if wants[0] else None
            dx, *others = dense.gradients(flat, dy, panels, any(wants[1:]))
            dx = None if dx is None else dx.reshape(*shape, self.in_features)
            return [dx, *others[: len(parents) - 1]]

        def jvp(*moves: np.ndarray | None) -> list[np.ndarray]:
            # The product is linear in x and in W: each moves by itself.
            total = np.zeros((*shape, self.out_features), y.dtype)
            if moves[0] is not None:
                total += moves[0] @ weight._data.T
            if moves[1] is not None:
                total += x._data @ moves[1].T
            if len(moves) > 2 and moves[2] is not None:
                total += moves[2]
            return [total]

        out = y.reshape(*shape, self.out_features)
        (made,) = record(
            [out], parents, vjp, jvp, replay=lambda *p: (plain(*p),), name="Linear", fresh=True
        )
        return made

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x W^T + b`` of recorded operations: the reference."""
    y = x @ weight.transpose(0, 1)
    return y if bias is None else y + bias


class _Packed:
    """Weights packed for the kernels, made again when a parameter has been written to."""

    def __init__(self) -> None:
        self._key: Stamp = ()
        self._parts: dict[str, np.ndarray] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Copy and pickle as an empty one."""
        return _Packed, ()

    def of(self, weight: Tensor, bias: Tensor | None = None) -> dict[str, np.ndarray]:
        """Return the packed weights; those for the way back are added when first needed."""
        key = stamp(p for p in (weight, bias) if p is not None)
        if not same(key, self._key):
            b = None if bias is None else bias._data
            self._parts = {"forward": dense.pack_forward(weight._data, b)}
            self._key = key
        return self._parts
