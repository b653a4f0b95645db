"""`watch`: the one window through which the inside of a recurrent layer is seen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minirnn.layers.call import Call
from minirnn.layers.recurrent import Recurrent
from minirnn.layers.views import View


class Seen:
    """What `watch` has seen: every call, and the last one's quantities as attributes."""

    def __init__(self, keep: bool) -> None:
        self.calls: list[Call] = []
        self.keep = keep

    def _last(self) -> Call:
        if not self.calls:
            raise RuntimeError("watch: the layer has not been called inside the block yet")
        return self.calls[-1]

    def __getitem__(self, place: tuple[int, int]) -> View:
        return self._last()[place]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._last(), name)


@contextmanager
def watch(layer: Recurrent, keep: bool = False) -> Iterator[Seen]:
    """Keep what happens inside a recurrent layer while this block is open.

    Every forward pass of the layer inside the block becomes one record; the backward pass may come
    later. Watches nest. keep: leave the gates where they are in the backward pass. Else it writes
    over them, as without `watch`, and the forward pass is run again when gates or a pullback are
    asked for after it: slower then, faster where they are not. Yields an object with

    * ``states[k]`` (T+1, B, H), row 0 the initial state; ``gates[k]`` (T, B, H);
    * after backward ``state_grads[k]``, ``carried_grads[k]`` (T+1, B, H), ``gate_grads[k]``,
      ``recurrent_gate_grads[k]`` (T, B, H);
    * ``inputs`` (T, B, I) and ``operands[k]`` (T, B, H), what the blocks of the weights are
      multiplied with; after backward ``vector_grads[k]`` (T, B, H);
    * ``pullback(d_output, d_state, clip)``: backward again from other cotangents;
    * ``step_jacobians(steps, sequences)`` (T, B, S, S): every step's Jacobian, all states side by
      side; ``mean_jacobian(sequences)`` (S, S): the mean of them;
    * ``[level, direction]``: the same for one level and direction; ``calls``: all records.

    Names come from the cell; everything is time-major and in processing order.
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"watch: layer must be a Recurrent (RNN, LSTM, GRU ...), got {type(layer).__name__}; "
            "watch the recurrent layers inside a model one by one"
        )
    seen = Seen(keep)
    layer._watchers.append(seen)
    try:
        yield seen
    finally:
        layer._watchers.remove(seen)
