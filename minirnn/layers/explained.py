"""One step of a layer with numbers: every equation, gate by gate, with what it gives."""

from typing import Any

import numpy as np

from minirnn.engine import no_grad
from minirnn.equations.naming import Lines, lines
from minirnn.equations.notation import Text
from minirnn.equations.symbols import Symbol, leaf, postorder
from minirnn.layers.arguments import checked_step
from minirnn.layers.evaluate import Values
from minirnn.layers.recurrent import Recurrent
from minirnn.layers.views import View
from minirnn.layers.watch import watch

_SHOWN = 8  # units in full; of more, the first and the last
Row = tuple[str, np.ndarray]


def explained_step(layer: Recurrent, x_t: Any, state: Any, start: int) -> str:
    """Return the equations of one step with their values; see `Recurrent.explain`."""
    place = f"{type(layer).__name__}.explain"
    if layer.bidirectional:
        raise ValueError(
            f"{place}: a bidirectional layer has no single step; explain a layer of one direction"
        )
    x = checked_step(place, x_t, layer.input_size, layer.dtype)
    batch = x.shape[0] if x.ndim == 2 else 1
    if batch == 0:
        raise ValueError(f"{place}: x_t must hold at least one sequence, got shape {x.shape}")
    view = _watched(layer, x, state, start)
    of = f", sequence 0 of {batch}" if batch > 1 else ""
    text = [f"{layer.cell.name}, one step at t = {start}{of}"]
    for level in range(layer.num_layers):
        rows = rows_of(view[level, 0])
        width = max(len(what) for what, _ in rows)
        text += ["", f"level {level}"]
        text += [f"  {what:<{width}}  {_numbers(value)}" for what, value in rows]
    return "\n".join(text) + "\n"


def _watched(layer: Recurrent, x: Any, state: Any, start: int) -> Any:
    """Run the step, without dropout, and return its record."""
    training, layer.training = layer.training, False
    try:
        with no_grad(), watch(layer) as seen:
            row = x.reshape(1, *x.shape)
            layer(
                row.transpose(0, 1) if layer.batch_first and x.ndim == 2 else row,
                state,
                start=start,
            )
    finally:
        layer.training = training
    return seen.calls[-1]


def rows_of(view: View) -> list[Row]:
    """Return what is given to the first step of sequence 0, then every equation, with values.

    A gate's products stand before it, indented.
    """
    cell, read = view.cell, lines(view.cell)
    write, values = Text(read.operand), view.values(0, 0)
    rows: list[Row] = [("x_t", view.inputs[0, 0])]
    for kind, names in (("prev", cell.state), ("below", cell.state), ("p", _vectors(view))):
        leaves = [leaf(kind, k) for k in names if _reads(read, leaf(kind, k))]
        rows += [(write.write(n), values.full(n)[0]) for n in leaves]
    shown: set[Symbol] = set()
    for line in read.equations:
        for n in postorder([line.expression]):
            if n.op == "leaf" and n.args[0] in ("wx", "u") and n not in shown:
                shown.add(n)
                rows.append((f"  {write.write(n)}", _value(values, read, n)))
        rows.append((f"{line.name} = {write.write(line.expression)}", values.full(line.node)[0]))
    return rows


def _vectors(view: View) -> tuple[str, ...]:
    return (*view.cell.vectors, *view.cell.constants)


def _reads(read: Lines, given: Symbol) -> bool:
    expressions = [*(line.expression for line in read.equations), *read.operand.values()]
    return given in set(postorder(expressions))


def _value(values: Values, read: Lines, n: Symbol) -> np.ndarray:
    """Return the value of ``wx.k``, or of the product with block k."""
    if n.args[0] == "wx":
        return values.full(n)[0]
    nodes = postorder([line.node for line in read.equations])
    (product,) = (m for m in nodes if m.op == "product" and m.args[0] == n.args[1])
    return values.full(product)[0]


def _numbers(value: np.ndarray) -> str:
    parts = [f"{number: .4g}" for number in value]
    if len(parts) > _SHOWN:
        parts = [*parts[: _SHOWN // 2], "...", *parts[-_SHOWN // 4 :]]
    return "[" + " ".join(f"{part:>10}" for part in parts) + " ]"
