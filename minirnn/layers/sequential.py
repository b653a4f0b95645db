"""Sequential: modules one after the other, recurrent ones among them."""

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from minirnn.layers.module import Module

_NOT_GIVEN: Any = object()


class Sequential(Module):
    """Feed each module's output to the next; of a recurrent layer, its output without the state.

    Called with ``state=``, it carries the states of the recurrent layers inside and returns
    ``(output, state)``: a tuple with one entry per recurrent layer, in their order. ``None``
    stands for initial states of zero. ``start``, the index of the first step, goes to the layers
    that take it.
    """

    def __init__(self, *modules: Module) -> None:
        for index, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: module {index} must be a Module, got {type(module).__name__}"
                )
            setattr(self, str(index), module)

    def forward(self, x: Any, *, state: Any = _NOT_GIVEN, start: int = 0) -> Any:
        """Return the last output, or (output, state) when ``state`` is given."""
        carried = None if state is _NOT_GIVEN else state
        count = sum(takes(module, "state") for module in self)
        if carried is not None and (
            not isinstance(carried, (tuple, list)) or len(carried) != count
        ):
            raise ValueError(
                f"Sequential: state must be None or a tuple of {count}, one entry per recurrent "
                f"layer, got {_described(carried)}; pass on the state that the last call returned"
            )
        before = iter([None] * count if carried is None else carried)
        after = []
        for module in self:
            if takes(module, "state"):
                when = {"start": start} if takes(module, "start") else {}
                x, new = module(x, state=next(before), **when)
                after.append(new)
            else:
                x = module(x)
        return x if state is _NOT_GIVEN else (x, tuple(after))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


def takes(model: Callable[..., Any], argument: str) -> bool:
    """Whether ``model`` can be called with this keyword; a Sequential, if a module inside can."""
    if isinstance(model, Sequential):
        return any(takes(module, argument) for module in model)
    if isinstance(model, Module):
        return _method_takes(type(model).forward, argument)
    return _has_parameter(model, argument)


@cache
def _method_takes(forward: Callable[..., Any], argument: str) -> bool:
    return _has_parameter(forward, argument)


def _has_parameter(function: Callable[..., Any], argument: str) -> bool:
    return argument in inspect.signature(function).parameters


def _described(state: Any) -> str:
    kind = type(state).__name__
    return f"a {kind} of {len(state)}" if isinstance(state, (tuple, list)) else f"a {kind}"
