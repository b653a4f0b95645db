"""Omega, the regulariser of the vanilla network: Pascanu, Mikolov and Bengio (ICML 2013)."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor
from minirnn.equations.symbols import Symbol, postorder
from minirnn.layers.recurrent import Recurrent
from minirnn.layers.views import View

FLOOR = 1e-20  # of a squared norm: below it a gradient has no direction to speak of


def omega(layer: Recurrent, seen: Any, squared: bool = True) -> Tensor:
    """Return Pascanu's Omega of the last backward pass: how far gradients are from keeping norm.

    With g_t the derivative of the loss by h_t, of one sequence, and J_t of h_t by h_{t-1}, the term
    of step t is ``(||g_t J_t||^2 / ||g_t||^2 - 1)^2``, averaged over the batch and over the steps
    where there is a gradient: ``||g_t||^2 >= 1e-20``. Only ``weight_hh`` gets a derivative of it,
    the immediate one: g and the states are held fixed, as in the paper and in its code::

        with minirnn.watch(layer) as seen:
            output, state = layer(x)
            loss(output).backward()
        (alpha * minirnn.regularise.omega(layer, seen)).backward()  # adds to weight_hh.grad
        minirnn.clip_grad_norm(layer.parameters(), threshold)

    Parameters
    ----------
    layer
        A `Recurrent` whose cell has one state that is read by one product alone, such as the RNN;
        of several levels and directions the terms are added.
    seen
        What `minirnn.watch` gave, after ``backward``.
    squared
        True: the ratio of squared norms, as the code has it. False: of norms, as in equation 9.
    """
    block = _vanilla_block(layer)
    total = Tensor(np.zeros((), layer.dtype))
    for level in range(layer.num_layers):
        for direction in range(layer.directions):
            suffix = f"l{level}" + ("_reverse" if direction else "")
            weight = getattr(layer, f"weight_hh_{suffix}")
            total = total + _omega_of_view(weight, seen[level, direction], block, squared)
    return total


def _omega_of_view(weight: Tensor, view: View, block: str, squared: bool) -> Tensor:
    (state,) = view.cell.state
    g = view.state_grads[state][1:]  # (T, B, H), of h_1 to h_T
    u = view.recurrent_gate_grads[block]  # (T, B, H): g_t times the slope of the activation
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.sqrt((g.astype(np.float64) ** 2).sum(axis=2))
        kept = norm >= FLOOR**0.5  # (T, B)
        unit = np.where(kept[..., None], u / np.where(kept, norm, 1.0)[..., None], 0.0)
    if not kept.any():
        return Tensor(np.zeros((), weight.dtype))
    ratio = (Tensor(unit.astype(weight.dtype)) @ weight) ** 2
    ratio = ratio.sum(dim=2)
    if not squared:  # where nothing is kept the ratio is 0 and has no slope: the root is of 1
        ratio = (ratio + (~kept).astype(weight.dtype)).sqrt()
    terms = (ratio - 1.0) ** 2 * kept.astype(weight.dtype)
    # The code: mean over the batch, sum over t, divided by the sum over t of the fraction kept.
    return terms.sum() / float(kept.sum())


def _vanilla_block(layer: Any) -> str:
    """Return the one block of a vanilla network's recurrent matrix."""
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"omega: layer must be a Recurrent (RNN ...), got {type(layer).__name__}; "
            "give the recurrent layer inside the model"
        )
    readers = [n for n in postorder(layer.cell.outputs) if any(map(_is_state, n.operands))]
    if len(layer.cell.state) != 1 or len(readers) != 1 or readers[0].op != "product":
        raise ValueError(
            "omega: the cell must have one state that one product alone reads, as the vanilla "
            f"network has, got cell {layer.cell.name!r}; flossing does it for any cell"
        )
    if layer.cell.upper:
        raise ValueError(
            f"omega: cell {layer.cell.name!r} has entries of weight_hh that must stay 0; "
            "flossing leaves them alone"
        )
    block: str = readers[0].args[0]
    return block


def _is_state(node: Symbol) -> bool:
    return node.op == "leaf" and node.args[0] == "prev"
