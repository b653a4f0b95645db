"""Run a cell's own function on NumPy arrays, complex ones too: no tape, no kernel."""

from types import SimpleNamespace

import numpy as np


class Block:
    """One block of weight_hh (H, H) with its part of bias_hh: ``u.k @ v`` is v U^T + b."""

    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def __matmul__(self, v):
        return v @ self.weight.T + self.bias


def blocks_of(names, array):
    """Cut the first axis (len(names) * H) into one array per name."""
    parts = np.split(array, len(names)) if names else []
    return dict(zip(names, parts, strict=True))


def triangle(cell, units):
    """Give 1 where a unit reads one of its own module or of a later one, else 0: (H, H)."""
    count = len(next(iter(cell.constants.values())))
    module = np.array([j * count // units for j in range(units)])
    return np.where(module[:, None] <= module, 1.0, 0.0)


def step(cell, w, x, state, t=0):
    """Compute one step by the cell's function.

    w: dict "weight_ih" "weight_hh" "bias_ih" "bias_hh" "vector_<name>", dtype float or complex.
    x: (B, I).  state: tuple of (B, H).  Returns the new states, a tuple of (B, H).
    """
    units = state[0].shape[-1]
    weight = blocks_of(cell.products, w["weight_hh"])
    weight |= {k: weight[k] * triangle(cell, units) for k in cell.upper}
    bias = blocks_of(cell.biased, w["bias_hh"]) if "bias_hh" in w else {}
    wx = x @ w["weight_ih"].T + w.get("bias_ih", 0.0)
    wx = dict(zip(cell.gates, np.split(wx, len(cell.gates), axis=-1), strict=True))
    p = {name: w[f"vector_{name}"] for name in cell.vectors}
    for name, values in cell.constants.items():
        p[name] = np.array([values[j * len(values) // units] for j in range(units)])
    optional = {
        "p": SimpleNamespace(**p),
        "below": SimpleNamespace(**{k: np.zeros_like(state[0]) for k in cell.state}),
        "t": t,
    }
    return cell(
        SimpleNamespace(**wx),
        SimpleNamespace(**{k: Block(weight[k], bias.get(k, 0.0)) for k in cell.products}),
        SimpleNamespace(**dict(zip(cell.state, state, strict=True))),
        **optional,
    )


def run(cell, w, x, state0):
    """Run a sequence.  x: (T, B, I).  Returns a tuple of (T+1, B, H), state0 in row 0."""
    rows = [tuple(state0)]
    for t, x_t in enumerate(x):
        rows.append(step(cell, w, x_t, rows[-1], t))
    return tuple(np.stack(values) for values in zip(*rows, strict=True))
