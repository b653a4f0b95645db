"""The arrays that every library gets for one measurement: the same numbers for all."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench import cells
from bench.shapes import Shape
from minirnn import Cell

Arrays = dict[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Run:
    """What a library does in one measurement.

    step: runs it once. results: what the last step gave, arrays by name: ``output`` and, of a
    training step, the gradients under the names of `Work.given`.
    """

    step: Callable[[], object]
    results: Callable[[], Arrays]


@dataclass(frozen=True)
class Work:
    """A cell at a shape in a dtype, with its inputs and weights."""

    cell: str
    shape: Shape
    dtype: str = "float32"

    @property
    def made(self) -> Cell:
        """The cell's equations."""
        return cells.get(self.cell)

    @cached_property
    def given(self) -> Arrays:
        """Inputs and weights by name; the gradient of each is asked for in training.

        x (T, B, I); weight_ih (G*H, I), weight_hh (P*H, H), bias_ih (G*H,), bias_hh (P*H,), gates
        in the order of minirnn and PyTorch; vectors (H,) under their names; h0, c0 ... (B, H).
        """
        made, s = self.made, self.shape
        rng = np.random.default_rng([s.T, s.B, s.I, s.H])
        bound = 1 / np.sqrt(s.H)

        def weights(*shape: int) -> NDArray[np.floating]:
            return rng.uniform(-bound, bound, shape).astype(self.dtype)

        def normal(*shape: int) -> NDArray[np.floating]:
            return rng.normal(size=shape).astype(self.dtype)

        out = {
            "x": normal(s.T, s.B, s.I),
            "weight_ih": weights(len(made.gates) * s.H, s.I),
            "weight_hh": weights(len(made.products) * s.H, s.H),
            "bias_ih": weights(len(made.gates) * s.H),
            "bias_hh": weights(len(made.biased) * s.H),
        }
        for place, block in enumerate(made.products):
            if block in made.upper:  # a module reads itself and those after it
                (modules,) = {len(numbers) for numbers in made.constants.values()}
                module = np.arange(s.H) * modules // s.H
                rows = slice(place * s.H, (place + 1) * s.H)
                out["weight_hh"][rows] *= module[:, None] <= module
        out |= {name: weights(s.H) for name in made.vectors}
        return out | {f"{name}0": np.tanh(normal(s.B, s.H)) for name in made.state}

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the weights, biases and vectors."""
        states = {f"{name}0" for name in self.made.state}
        return tuple(name for name in self.given if name != "x" and name not in states)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the initial states."""
        return tuple(f"{name}0" for name in self.made.state)

    @cached_property
    def d_output(self) -> NDArray[np.floating]:
        """The derivative of the loss by the output, (T, B, H)."""
        s = self.shape
        return np.random.default_rng(1).normal(size=(s.T, s.B, s.H)).astype(self.dtype)
