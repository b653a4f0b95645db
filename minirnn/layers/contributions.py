"""What the gradients of the recurrent parameters are made of, step by step.

``dU_k`` is a sum over steps of outer products, of the derivative by ``u.k @ v`` with v; ``dp.k`` a
sum of vectors. Here are v and those vectors, from the states and the carried gradients of a run.
"""

from collections.abc import Mapping

import numpy as np

from minirnn.equations.derive import ZERO, reverse
from minirnn.equations.symbols import Symbol, leaf, postorder
from minirnn.layers.evaluate import Inputs, Values

Array = np.ndarray


def operands(given: Inputs, lengths: Array | None) -> dict[str, Array]:
    """Return for each block the vector that it is multiplied with, (T, B, H), 0 in padding."""
    nodes = postorder(given.run.cell.outputs)
    products = {n.args[0]: n.args[1] for n in nodes if n.op == "product"}
    values = _everywhere(given)
    made = {v: _steps(values, v, given, lengths) for v in products.values()}
    return {k: made[products[k]] for k in given.run.cell.products if k in products}


def vector_gradients(
    given: Inputs, carried: Mapping[str, Array], lengths: Array | None
) -> dict[str, Array]:
    """Return each step's derivative by the vector parameters, (T, B, H), 0 in padding.

    carried: state -> (T+1, B, H), the derivative that arrives at each row of the states.
    """
    cell = given.run.cell
    adjoints = reverse(list(cell.outputs), [leaf("carried", k) for k in cell.state])
    arriving = {k: d[1:].reshape(-1, d.shape[2]) for k, d in carried.items()}
    values = _everywhere(given, {"carried": arriving})
    return {
        k: _steps(values, adjoints.get(leaf("p", k), ZERO), given, lengths) for k in cell.vectors
    }


def _everywhere(given: Inputs, more: Mapping[str, Mapping[str, Array]] | None = None) -> Values:
    steps, batch = given.wx.shape[:2]
    t, b = np.repeat(np.arange(steps), batch), np.tile(np.arange(batch), steps)
    return Values(given, t, b, more)


def _steps(values: Values, node: Symbol, given: Inputs, lengths: Array | None) -> Array:
    """Return the values of a node step by step, (T, B, H)."""
    full = values.full(node).reshape(*given.wx.shape[:2], given.run.hidden_size)
    if lengths is None:
        return full
    alive = np.arange(full.shape[0])[:, None] < lengths
    return np.where(alive[:, :, None], full, np.zeros((), full.dtype))
