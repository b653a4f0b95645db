"""What a monitor sees of one training step: the calls of every recurrent layer in a model.

A layer is watched only while its forward pass runs: whatever raises in a training loop, no watcher
stays behind. What has to be read before the optimizer writes the parameters is read there and then.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.base import Quantity
from diagnostics.quantities.watching import Tap

MOST = 8  # calls without a backward pass that are kept: evaluation is not to fill the memory
Place = tuple[int, int]


@dataclass
class Kept:
    """One level and direction of a call: its record, and what the record cannot tell later.

    record: of `minirnn.watch`.  inputs: (T, B, I).  operands: block -> (T, B, H), or None.
    found: quantities of the forward pass by name.
    """

    record: Any
    inputs: NDArray[Any]
    operands: dict[str, NDArray[Any]] | None = None
    found: dict[str, Quantity] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.record, name)

    @property
    def vector_grads(self) -> Any:
        """Each step's share in the gradient of the vector parameters, if that can still be told."""
        try:
            return self.record.vector_grads
        except RuntimeError:  # the optimizer has stepped
            return {}


@dataclass
class Glance:
    """One call of a layer.

    kept: by level and direction.  training: whether the layer was in training mode.  versions: of
    the model's parameters, by id, when it was called.
    """

    kept: dict[Place, Kept]
    training: bool
    versions: dict[int, int]

    @property
    def has_gradients(self) -> bool:
        """Whether a backward pass went through it."""
        return any(kept.record.has_gradients for kept in self.kept.values())


Look = Callable[[Any, Any, int], dict[Place, Kept]]


class Sight:
    """Taps on recurrent layers for the length of one training step.

    layers: by name.  parameters: of the model.  look(layer, call, start): what is kept of a call,
    at once after the forward pass.
    """

    def __init__(self, layers: dict[str, Any], parameters: list[Any], look: Look) -> None:
        self._calls: dict[str, list[Glance]] = {name: [] for name in layers}
        self._parameters, self._look = parameters, look
        self.taps = [Tap(layer, self._through(name, layer)) for name, layer in layers.items()]

    def close(self) -> None:
        """Take the taps away, and forget what was seen."""
        for tap in self.taps:
            tap.remove()
        self._calls.clear()

    def glance(self, name: str) -> Glance | None:
        """Return the last call that a backward pass went through, of training if there is one."""
        return _best(self._calls[name])

    def _through(self, name: str, layer: Any) -> Callable[..., Any]:
        # Not a method: a tap that is left behind is not to keep the monitor alive.
        calls, parameters, look = self._calls[name], self._parameters, self._look

        def through(forward: Any, *given: Any, **named: Any) -> Any:
            with minirnn.watch(layer, keep=True) as seen:  # a pullback follows
                made = forward(*given, **named)
            if _on_tape(made) and seen.calls:
                kept = look(layer, seen.calls[-1], _start(*given, **named))
                if kept:
                    versions = {id(p): p.version for p in parameters}
                    calls.append(Glance(kept, layer.training, versions))
                    _forget_old(calls)
            return made

        return through


def _on_tape(made: Any) -> bool:
    """Whether a backward pass may come through what a layer returned."""
    if isinstance(made, tuple | list):
        return any(map(_on_tape, made))
    return bool(getattr(made, "requires_grad", False))


def _start(
    x: Any = None, state: Any = None, lengths: Any = None, start: int = 0, *rest: Any, **named: Any
) -> int:
    """Read the argument start of a layer's ``forward``."""
    return start


def _best(calls: list[Glance]) -> Glance | None:
    """Choose the last call that a backward pass went through, of training if there is one."""
    known = [g for g in calls if g.has_gradients]
    return next((g for g in reversed(known) if g.training), known[-1] if known else None)


def _forget_old(calls: list[Glance]) -> None:
    """Keep the last calls, which may still get their gradients, and the best of those before."""
    best = _best(calls[:-MOST])
    calls[:-MOST] = [] if best is None else [best]


def written(parameters: dict[str, Any], before: dict[int, int], after: dict[int, int]) -> list[str]:
    """Name the parameters that were written to between two notes of their versions, by id."""
    named = {name: id(p) for name, p in parameters.items()}
    return [name for name, i in named.items() if i in before and after.get(i, -1) > before[i]]
