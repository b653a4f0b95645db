"""A copy of a recurrent layer with the call that is looked into, free to be moved about."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.local_gradients import Arrays, locals_of_call


@dataclass(frozen=True)
class Twin:
    """A copy of a layer, time first, without dropout, and what one call of it was given.

    layer: minirnn.Recurrent.  x: (T, B, I).  state: one (L*D, B, H) per state.  lengths: (B,) or
    None.  start: index of the first step.  alive: (T, B, 1), 1 inside the lengths.
    """

    layer: Any
    x: Any
    state: tuple[Any, ...]
    lengths: Any
    start: int
    alive: Any

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return np.dtype(self.layer.dtype)

    @property
    def eps(self) -> float:
        """Rounding of the dtype."""
        return float(np.finfo(self.dtype).eps)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(T, B, D*H)."""
        return (*self.x.shape[:2], self.layer.directions * self.layer.hidden_size)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Every level and direction."""
        layer = self.layer
        return [(i, j) for i in range(layer.num_layers) for j in range(layer.directions)]

    @staticmethod
    def suffix(level: int, direction: int) -> str:
        """Return what names of parameters of a level and direction end with."""
        return f"_l{level}" + ("_reverse" if direction else "")

    def run(self, x: Any = None) -> tuple[Any, Any, list[Any]]:
        """Run the layer; return the record of the call, the output, and the final states."""
        state = self.state if len(self.state) > 1 else self.state[0]
        with minirnn.watch(self.layer) as seen:
            given = self.x if x is None else x
            output, final = self.layer(given, state, lengths=self.lengths, start=self.start)
        return seen.calls[-1], output, list(final) if isinstance(final, tuple) else [final]

    def locals(self, v: Any) -> tuple[Any, dict[tuple[int, int], Arrays]]:
        """Return a call's record, and what enters each level when the output's gradient is v."""
        call, output, finals = self.run()
        cotangents = [v, *(None for _ in finals)]
        return call, locals_of_call(self.layer, call, [output, *finals], cotangents)

    def of_sequences(self, picked: Any) -> "Twin":
        """Return the same call with some of the sequences."""
        return replace(
            self,
            x=np.ascontiguousarray(self.x[:, picked]),
            state=tuple(np.ascontiguousarray(s[:, picked]) for s in self.state),
            lengths=None if self.lengths is None else self.lengths[picked],
            alive=self.alive[:, picked],
        )

    def with_input(self, x: Any) -> "Twin":
        """Return the same call with another input."""
        return replace(self, x=x.astype(self.dtype))


def twin_of(layer: Any, x: Any, lengths: Any = None, state: Any = None, start: int = 0) -> Twin:
    """Copy a layer together with a call: x, lengths and state as the layer takes them."""
    array = x.numpy() if isinstance(x, minirnn.Tensor) else np.asarray(x)
    array = array[:, None] if array.ndim == 2 else array
    array = array.swapaxes(0, 1) if layer.batch_first and np.ndim(x) == 3 else array
    made = copy_of(layer)
    steps, batch = array.shape[:2]
    ends = None if lengths is None else np.asarray(lengths).reshape(-1)
    alive = np.ones((steps, batch, 1))
    if ends is not None:
        alive = (np.arange(steps)[:, None] < ends)[..., None] * 1.0
    shape = (made.num_layers * made.directions, batch, made.hidden_size)
    given = state if isinstance(state, tuple | list) else (state,) * len(made.cell.state)
    states = tuple(
        np.zeros(shape, made.dtype) if s is None else _array(s).reshape(shape) for s in given
    )
    inside = np.where(alive > 0, array, 0).astype(made.dtype)  # padding may hold anything
    return Twin(made, np.ascontiguousarray(inside), states, ends, start, alive)


def copy_of(layer: Any) -> Any:
    """Copy a layer, time first, in evaluation, with nobody watching."""
    # What a layer runs by just now, a wrapper or a watcher, stays with the layer.
    held = {k: vars(layer).pop(k) for k in ("forward",) if k in vars(layer)}
    try:
        made = copy.deepcopy(layer)
    finally:
        vars(layer).update(held)
    made.batch_first = False
    made.eval()
    for parameter in made.parameters():
        parameter.requires_grad = True
    return made


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, minirnn.Tensor) else np.asarray(value)
