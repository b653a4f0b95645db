"""A recurrent layer run in chunks: every value as before, every border a detached state."""

from collections.abc import Callable
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.watching import looked_up

Forward = Callable[..., tuple[Any, Any]]


def chunked_forward(layer: Any, forward: Forward, length: int) -> Forward:
    """Return a forward of `layer` that cuts its graph every `length` steps.

    Each chunk starts from the states that the whole sequence has there, as constants; of a
    reverse direction, those that it has when it comes to the chunk from behind.
    """
    if layer.bidirectional and "t" in layer.cell.arguments:
        raise ValueError(
            f"tbptt_error: cell {layer.cell.name!r} counts its steps, and a reverse direction "
            "counts them from the other end: chunks of a bidirectional layer have no start of "
            "their own; measure a layer of one direction"
        )

    def chunked(
        x: Any, state: Any = None, lengths: Any = None, start: int = 0, embedding: Any = None
    ) -> Any:
        x = looked_up(x, embedding)
        x = x if isinstance(x, minirnn.Tensor) else np.asarray(x)
        axis = 1 if layer.batch_first and x.ndim == 3 else 0
        steps = x.shape[axis]
        if steps <= length:
            return forward(x, state, lengths, start)
        with minirnn.no_grad(), minirnn.watch(layer) as seen:
            forward(x, state, lengths, start)
        borders = _Borders(layer, seen.calls[-1], state, lengths, steps, x.ndim == 2)
        outputs, finals = [], []
        for first in range(0, steps, length):
            last = min(first + length, steps)
            part = x[first:last] if axis == 0 else x[:, first:last]
            given = None if lengths is None else np.clip(borders.ends - first, 0, last - first)
            output, final = forward(part, borders.before(first, last), given, start + first)
            outputs.append(output)
            finals.append(final if isinstance(final, tuple) else (final,))
        whole = borders.final(finals, length)
        return minirnn.concat(outputs, dim=axis), whole if len(whole) > 1 else whole[0]

    return chunked


class _Borders:
    """The states at every border of a run, and which chunk's final state is the sequence's."""

    def __init__(
        self, layer: Any, call: Any, state: Any, lengths: Any, steps: int, single: bool
    ) -> None:
        self.places = [(i, j) for i in range(layer.num_layers) for j in range(layer.directions)]
        self.states = [call[place].states for place in self.places]
        self.names, self.single = layer.cell.state, single
        self.given = state if isinstance(state, tuple | list) or state is None else (state,)
        batch = self.states[0][self.names[0]].shape[1]
        ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
        self.ends = ends.reshape(-1)

    def before(self, first: int, last: int) -> Any:
        """Return the states from which the chunk of steps `first` to `last` starts."""
        sequences = np.arange(len(self.ends))
        rows = [
            np.maximum(self.ends - last, 0) if direction else np.full(len(self.ends), first)
            for _, direction in self.places
        ]
        found = []
        for i, name in enumerate(self.names):
            parts = [s[name][r, sequences] for s, r in zip(self.states, rows, strict=True)]
            constant = np.stack(parts)[:, 0] if self.single else np.stack(parts)
            if self.given is not None:
                # The given state itself where nothing has been processed: it is no border.
                untouched = np.stack([r == 0 for r in rows])[..., None]
                untouched = untouched[:, 0] if self.single else untouched
                mask = np.broadcast_to(untouched, constant.shape)
                given = self.given[i]
                given = given if isinstance(given, minirnn.Tensor) else minirnn.Tensor(given)
                found.append(minirnn.where(mask, given, minirnn.Tensor(constant)))
            else:
                found.append(minirnn.Tensor(constant))
        return tuple(found) if len(found) > 1 else found[0]

    def final(self, finals: list[tuple[Any, ...]], length: int) -> tuple[Any, ...]:
        """Return every sequence's final state: that of the chunk in which it is made."""
        chunk = np.maximum(self.ends - 1, 0) // length
        made = [np.zeros_like(chunk) if direction else chunk for _, direction in self.places]
        where_made = np.stack(made)[..., None]
        where_made = where_made[:, 0] if self.single else where_made
        whole = list(finals[0])
        for j, parts in enumerate(finals[1:], 1):
            if (where_made == j).any():
                mask = np.broadcast_to(where_made == j, parts[0].shape)
                whole = [minirnn.where(mask, a, b) for a, b in zip(parts, whole, strict=True)]
        return tuple(whole)
