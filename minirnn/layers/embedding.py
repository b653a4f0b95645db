"""Embedding: a row of a table for every id."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn.engine import Tensor, embedding
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
        return embedding(ids, self.weight)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
