"""Where a gradient enters a recurrence from outside: eps_t, for every level and direction.

From the layer's output and final states at the top; from the level above elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.arguments import check_layer, gradient_of_output
from diagnostics.quantities.watching import evaluating, parameters_of, record_of

Array = NDArray[np.floating]
Arrays = dict[str, Array]


def local_gradient(
    layer: Any,
    record: Any,
    d_output: Any = None,
    d_states: Sequence[Any] = (),
    direction: int = 0,
    level: int = -1,
) -> Arrays:
    """Lay out what enters a level from outside the layer: eps[k], (T+1, B, H).

    d_output: of the output's shape, or None; it enters the top level.  d_states: one per state,
    of the final states' shape (L*D, B, H), or None.  Rows are in the record's order; nothing
    enters after a sequence's length.
    """
    eps = {k: np.zeros(a.shape, a.dtype) for k, a in record.states.items()}
    output_state = next(iter(eps))
    steps, batch, hidden = eps[output_state].shape
    ends = np.full(batch, steps - 1) if record.lengths is None else np.asarray(record.lengths)
    if d_output is not None and level % layer.num_layers == layer.num_layers - 1:
        share = d_output[:, None] if d_output.ndim == 2 else d_output
        share = share.swapaxes(0, 1) if layer.batch_first and d_output.ndim == 3 else share
        share = share[..., direction * hidden : (direction + 1) * hidden]
        eps[output_state][1:] += reordered(share, ends) if direction else share
        eps[output_state][1:][np.arange(steps - 1)[:, None] >= ends] = 0
    place = (level % layer.num_layers) * layer.directions + direction
    for name, d_state in zip(eps, d_states, strict=False):
        if d_state is not None:
            eps[name][ends, np.arange(batch)] += np.asarray(d_state)[place].reshape(batch, hidden)
    return eps


def from_above(layer: Any, record: Any, above: Sequence[Any], level: int, direction: int) -> Arrays:
    """Return what enters a level from the level above it: eps[k], (T+1, B, H).

    above: one record with gradients per direction of the level above.
    """
    eps = {k: np.zeros(a.shape, a.dtype) for k, a in record.states.items()}
    output = eps[next(iter(eps))]
    steps, batch, hidden = output.shape
    ends = np.full(batch, steps - 1) if record.lengths is None else np.asarray(record.lengths)
    columns = slice(direction * hidden, (direction + 1) * hidden)
    for other, swept in enumerate(above):
        weight = parameters_of(layer, level + 1, other)["weight_ih"].numpy()
        if not len(weight):
            continue
        d_gates = np.concatenate([swept.gate_grads[k] for k in layer.cell.gates], axis=2)
        d_input = (d_gates @ weight)[..., columns]
        d_input = d_input if other == direction else reordered(d_input, ends)
        output[: -1 if layer.skew else None][0 if layer.skew else 1 :] += d_input
    return eps


def by_jacobians(record: Any) -> Arrays:
    """Return eps_t = delta_t - J_{t+1}^T delta_{t+1} of a record after a backward pass.

    For a cell that reads the level below, whose gradients enter through all states.
    """
    total = record.carried_grads
    names = list(total)
    delta = np.concatenate([total[k] for k in names], axis=2)
    eps = delta.copy()
    steps, batch, size = delta.shape[0] - 1, *delta.shape[1:]
    width = max(1, 2**25 // max(1, batch * size * size * delta.itemsize))
    for first in range(0, steps, width):
        jacobians = record.step_jacobians(slice(first, first + width))
        rows = slice(first, first + len(jacobians))
        below = delta[rows.start + 1 : rows.stop + 1]
        eps[rows] -= np.einsum("tbij,tbi->tbj", jacobians, below)
    parts = np.split(eps, len(names), axis=2)
    return {k: np.ascontiguousarray(part) for k, part in zip(names, parts, strict=True)}


def reordered(rows: Array, ends: Any) -> Array:
    """Turn every sequence around inside its length.  rows: (T, B, K), ends: (B,)."""
    steps = np.arange(len(rows))[:, None]
    back = np.asarray(ends) - 1 - steps
    turned = np.take_along_axis(rows, np.maximum(back, 0)[..., None], axis=0)
    return np.where((back >= 0)[..., None], turned, np.zeros((), rows.dtype))


def local_of_layer(
    place: str, layer: Any, x: Any, d_output: Any, direction: int, level: int, lengths: Any
) -> tuple[Any, Arrays]:
    """Run a layer forward; return the record of one level and direction, and what enters it.

    d_output: derivative of the loss by the output, of its shape; all else as the layer takes it.
    """
    check_layer(place, layer, level, direction)
    with evaluating(layer), minirnn.watch(layer) as seen:
        output, state = layer(x, lengths=lengths)
    array = gradient_of_output(place, d_output, output.shape, output.dtype)
    record = record_of(layer, seen, level, direction)
    if level % layer.num_layers == layer.num_layers - 1:
        return record, local_gradient(layer, record, array, direction=direction, level=level)
    outputs = [output, *(state if isinstance(state, tuple) else (state,))]
    cotangents = [array, *(None for _ in outputs[1:])]
    local = locals_of_call(layer, seen.calls[-1], outputs, cotangents)
    return record, local[level % layer.num_layers, direction]


def locals_of_call(
    layer: Any, call: Any, outputs: Sequence[Any], cotangents: Sequence[Any]
) -> dict[tuple[int, int], Arrays]:
    """Return eps of every level and direction of one watched call.

    outputs: the call's output and final states, on their tape; cotangents: the derivative of the
    loss by each, ndarrays or None.  (Level, direction) to eps[k], (T+1, B, H).
    """
    d_output, *d_states = cotangents
    found: dict[tuple[int, int], Arrays] = {}
    if "below" in layer.cell.arguments and layer.num_layers > 1:
        _backward(layer, outputs, cotangents)
        places = [(i, j) for i in range(layer.num_layers) for j in range(layer.directions)]
        return {place: by_jacobians(call[place]) for place in places}
    above: list[Any] = []
    for level in reversed(range(layer.num_layers)):
        swept = []
        for direction in range(layer.directions):
            record = call[level, direction]
            eps = local_gradient(layer, record, d_output, d_states, direction, level)
            if above:
                entering = from_above(layer, record, above, level, direction)
                eps = {k: a + entering[k] for k, a in eps.items()}
            found[level, direction] = eps
            if level:
                swept.append(record.pullback(d_state=eps))
        above = swept
    return found


def _backward(layer: Any, outputs: Sequence[Any], cotangents: Sequence[Any]) -> None:
    """Run the tape backward, for the records' sake; gradients kept in parameters stay alone."""
    pairs = [(o, d) for o, d in zip(outputs, cotangents, strict=True) if d is not None]
    roots, given = zip(*pairs, strict=True)
    minirnn.grad(
        list(roots), list(layer.parameters()), list(given), retain_graph=True, allow_unused=True
    )
