"""How the quantities look into a model: through `minirnn.watch`, leaving no trace behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np

import minirnn


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off while a model is measured, and back to what it was afterwards."""
    training = [module for _, module in model.named_modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def record_of(layer: Any, seen: Any, level: int, direction: int) -> Any:
    """Return the record of one level (negative counts from the top) and one direction."""
    return seen[level % layer.num_layers, direction]


def parameters_of(layer: Any, level: int, direction: int) -> dict[str, Any]:
    """Return the parameters of one level and direction by kind: "weight_hh", "bias_ih" ..."""
    suffix = f"_l{level % layer.num_layers}" + ("_reverse" if direction else "")
    return {
        name.removesuffix(suffix): parameter
        for name, parameter in layer.named_parameters()
        if name.endswith(suffix)
    }


def not_finite(model: Any) -> str:
    """Count NaN and infinities by parameter: '3 of 64 in weight_hh_l0'; '' if there are none."""
    counts = {
        name: (int((~np.isfinite(p.numpy())).sum()), p.numpy().size)
        for name, p in model.named_parameters()
    }
    return ", ".join(f"{bad} of {size} in {name}" for name, (bad, size) in counts.items() if bad)


def sweep_flops(layer: Any, record: Any, level: int, direction: int) -> int:
    """Flops of the recurrent products of one sweep: 2 P H^2 per step and sequence."""
    weight_hh = parameters_of(layer, level, direction)["weight_hh"]
    rows, batch = next(iter(record.states.values())).shape[:2]
    products, hidden = weight_hh.shape
    return 2 * products * hidden * batch * (rows - 1)


def recurrent_layers(model: Any) -> dict[str, Any]:
    """Every Recurrent inside a model by its dotted name; a Recurrent itself is named ''."""
    return {n: m for n, m in model.named_modules() if isinstance(m, minirnn.Recurrent)}


def looked_up(x: Any, embedding: Any) -> Any:
    """Return a layer's input; ids that come with an embedding, or its table, are looked up."""
    if embedding is None:
        return x
    table = embedding if isinstance(embedding, minirnn.Tensor) else embedding.weight
    return minirnn.embedding(x, table)


@dataclass(frozen=True)
class Call:
    """One call of a recurrent layer: what it was given, its output, its final state or states.

    x: floats also where the layer was given ids with an embedding.
    """

    x: Any
    state: Any
    lengths: Any
    start: int
    output: Any
    states: list[Any]


class Tap:
    """Stands before a layer's forward pass until it is removed.

    through(forward, ...), with what the layer was called with, is called in its place.  Taps nest,
    and may be removed in any order.  A copy or pickle of the layer has none.
    """

    def __init__(self, layer: Any, through: Callable[..., Any]) -> None:
        self._layer, self._through = layer, through
        self._before = vars(layer).get("forward")
        self.__wrapped__ = layer.forward  # what `inspect.signature` shows
        self._open = True
        layer.forward = self

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Run the layer, given what its ``forward`` takes."""
        if not self._open:
            return self.__wrapped__(*given, **named)
        return self._through(self.__wrapped__, *given, **named)

    def remove(self) -> None:
        """Let calls pass; take the tap away when no other stands before it."""
        self._open = False
        while isinstance(top := vars(self._layer).get("forward"), Tap) and not top._open:
            if top._before is None:
                del self._layer.forward
            else:
                self._layer.forward = top._before

    def __reduce__(self) -> tuple[Any, ...]:
        """Become the copied layer's own forward."""
        return _own_forward, (self._layer,)


def _own_forward(layer: Any) -> Any:
    return MethodType(type(layer).forward, layer)


@contextmanager
def calls_of(layer: Any) -> Iterator[list[Call]]:
    """Collect the calls of a layer inside a model."""
    calls: list[Call] = []

    def collecting(
        forward: Any,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        start: int = 0,
        embedding: Any = None,
    ) -> Any:
        output, final = forward(x, state, lengths, start, embedding)
        states = list(final) if isinstance(final, tuple) else [final]
        calls.append(Call(looked_up(x, embedding), state, lengths, start, output, states))
        return output, final

    tap = Tap(layer, collecting)
    try:
        yield calls
    finally:
        tap.remove()
