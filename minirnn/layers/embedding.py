"""Embedding: a row of a table for every id."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor, embedding, record
from minirnn.engine.linear import checked_ids
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.kernels.symbols import sum_rows
from minirnn.layers import reference
from minirnn.layers.module import Module, module_rng, positive


class Embedding(Module):
    """Look up ids, integers in [0, num_embeddings), in a table.

    Parameter ``weight`` (num_embeddings, embedding_dim), first drawn from N(0, 1) as in PyTorch.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.num_embeddings = positive("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = positive("Embedding", "embedding_dim", embedding_dim)
        drawn = module_rng(seed).standard_normal((num_embeddings, embedding_dim))
        self.weight = Tensor(drawn.astype(dtype), requires_grad=True)

    def forward(self, ids: Any) -> Tensor:
        """Map ids (...) to vectors (..., embedding_dim)."""
        if JIT_DISABLED or reference.forced():
            return embedding(ids, self.weight)
        ids, weight = checked_ids(ids, self.weight)
        flat = ids.astype(np.int64, copy=False).reshape(-1)
        rows, size = weight.shape

        def vjp(d: np.ndarray) -> tuple[np.ndarray]:
            return (sum_rows(d.reshape(flat.size, size), flat, rows),)

        made = record(
            [weight._data[ids]], [weight], vjp, jvp=lambda move: [move[ids]],
            replay=lambda weight: (embedding(ids, weight),), name="embedding", fresh=True,
        )  # fmt: skip
        return made[0]

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
