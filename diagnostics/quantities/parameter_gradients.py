"""Gradients of a level's parameters, put together step by step from a record."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.statistics import Floats


def gradients_of_record(cell: Any, record: Any, bias: bool = True) -> dict[str, Floats]:
    """Sum every step's share, g_t, over steps and sequences, in float64.

    record: of `minirnn.watch` after a backward pass, or of a pullback.  Returns the gradient by
    kind of parameter: "weight_ih" (G*H, I), "weight_hh" (P*H, H), "bias_ih", "bias_hh", vectors.
    """
    wx, du, operands = record.gate_grads, record.recurrent_gate_grads, record.operands
    units = next(iter(record.states.values())).shape[2]
    inputs = record.inputs
    dwx = _wide([wx[k] for k in cell.gates], units, inputs)
    found = {"weight_ih": _outer(dwx, inputs)}
    blocks = []
    for k in cell.products:
        block = _outer(du[k], operands[k]) if k in operands else np.zeros((units, units))
        if k in cell.upper:  # entries below the modules' diagonal are no parameters
            (count,) = {len(numbers) for numbers in cell.constants.values()}
            module = np.arange(units) * count // units
            block = np.where(module[:, None] <= module, block, 0.0)
        blocks.append(block)
    found["weight_hh"] = np.concatenate(blocks) if blocks else np.zeros((0, units))
    if bias:
        found["bias_ih"] = dwx.sum(axis=(0, 1), dtype=np.float64)
        biased = [
            du[k].sum(axis=(0, 1), dtype=np.float64) if k in operands else np.zeros(units)
            for k in cell.biased
        ]
        found["bias_hh"] = np.concatenate(biased) if biased else np.zeros(0)
    for name, d in record.vector_grads.items() if cell.vectors else ():
        found[f"vector_{name}"] = d.sum(axis=(0, 1), dtype=np.float64)
    return found


def _wide(parts: list[NDArray], units: int, inputs: NDArray) -> NDArray:
    return np.concatenate(parts, axis=2) if parts else np.zeros((*inputs.shape[:2], 0))


def _outer(d: NDArray, v: NDArray) -> Floats:
    """Sum of outer products over steps and sequences.  d: (T, B, M), v: (T, B, K)."""
    left = d.reshape(-1, d.shape[2]).astype(np.float64)
    return np.asarray(left.T @ v.reshape(-1, v.shape[2]).astype(np.float64))
