"""Chains of pointwise operations on few numbers: what a node of a tape costs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS, NODES = 32, 100

# name -> what is done to y, beside x: (y, x, tanh, sigmoid) -> y
_OPERATIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "add": (lambda y, x, tanh, sigmoid: y + x,),
    "multiply": (lambda y, x, tanh, sigmoid: y * x,),
    "tanh": (lambda y, x, tanh, sigmoid: tanh(y),),
}
_OPERATIONS["all"] = (
    *(links[0] for links in _OPERATIONS.values()),
    lambda y, x, tanh, sigmoid: sigmoid(y),
)
NAMES = tuple(_OPERATIONS)


@dataclass(frozen=True)
class Chain:
    """A chain of `NODES` operations on x (32,), one kind or all in turn."""

    operation: str
    dtype: str = "float32"

    @cached_property
    def x(self) -> NDArray[np.floating]:
        """Numbers near 1, so that a hundred products stay normal numbers."""
        return np.random.default_rng(0).uniform(0.95, 1.05, NUMBERS).astype(self.dtype)

    @cached_property
    def d_output(self) -> NDArray[np.floating]:
        """The derivative of the loss by the end of the chain."""
        return np.random.default_rng(1).normal(size=NUMBERS).astype(self.dtype)

    def run(self, x: Any, tanh: Callable[[Any], Any], sigmoid: Callable[[Any], Any]) -> Any:
        """Run the chain on a library's own kind of array."""
        links, y = _OPERATIONS[self.operation], x
        for number in range(NODES):
            y = links[number % len(links)](y, x, tanh, sigmoid)
        return y
