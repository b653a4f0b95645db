"""How the quantities look into a model: through `minirnn.watch`, leaving no trace behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
    directions = 2 if layer.bidirectional else 1
    if not -layer.num_layers <= level < layer.num_layers:
        raise ValueError(
            f"diagnostics: level must lie in {-layer.num_layers} to {layer.num_layers - 1}, "
            f"got {level}; the layer has {layer.num_layers} level(s)"
        )
    if not 0 <= direction < directions:
        raise ValueError(
            f"diagnostics: direction must lie in 0 to {directions - 1}, got {direction}; "
            f"the layer is {'' if directions == 2 else 'not '}bidirectional"
        )
    return seen[level % layer.num_layers, direction]


def sweep_flops(layer: Any, record: Any, level: int, direction: int) -> int:
    """Flops of the recurrent products of one sweep: 2 P H^2 per step and sequence."""
    suffix = f"_l{level % layer.num_layers}" + ("_reverse" if direction else "")
    weight_hh = dict(layer.named_parameters())[f"weight_hh{suffix}"]
    rows, batch = next(iter(record.states.values())).shape[:2]
    products, hidden = weight_hh.shape
    return 2 * products * hidden * batch * (rows - 1)


def recurrent_layers(model: Any) -> dict[str, Any]:
    """Every Recurrent inside a model by its dotted name; a Recurrent itself is named ''."""
    return {n: m for n, m in model.named_modules() if isinstance(m, minirnn.Recurrent)}


@dataclass(frozen=True)
class Call:
    """One call of a recurrent layer: its output, its final state or states, its lengths."""

    output: Any
    states: list[Any]
    lengths: Any


@contextmanager
def calls_of(layer: Any) -> Iterator[list[Call]]:
    """Collect the calls of a layer inside a model."""
    calls: list[Call] = []
    forward = layer.forward

    def collecting(*args: Any, **kwargs: Any) -> Any:
        output, state = forward(*args, **kwargs)
        lengths = args[2] if len(args) > 2 else kwargs.get("lengths")
        calls.append(Call(output, list(state) if isinstance(state, tuple) else [state], lengths))
        return output, state

    layer.forward = collecting
    try:
        yield calls
    finally:
        del layer.forward
