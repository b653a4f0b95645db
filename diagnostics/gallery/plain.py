"""Curves on a logarithmic axis, drawn in characters."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 64, 20


def chart(curves: Mapping[str, NDArray[np.float64]], below: str) -> str:
    """Draw positive curves (N,) over 0 to N - 1, a letter each; what comes later lies on top.

    Every line is a decade, or several; the lowest and the highest are labelled with their power.
    """
    values = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in curves.values()])
    high = math.ceil(math.log10(values.max()) - 1e-9)
    low = math.floor(math.log10(values.min()) + 1e-9)
    high = max(high, low + 1)
    field = [[" "] * WIDTH for _ in range(HEIGHT)]
    for letter, curve in zip(_LETTERS, curves.values(), strict=False):
        for column in range(WIDTH):
            value = curve[round(column * (len(curve) - 1) / (WIDTH - 1))]
            if np.isfinite(value) and value > 0:
                row = (high - math.log10(value)) / (high - low) * (HEIGHT - 1)
                field[round(row)][column] = letter
    labels = {0: f"1e{high}", HEIGHT - 1: f"1e{low}"}
    lines = [f"{labels.get(k, ''):>7} |{''.join(row).rstrip()}" for k, row in enumerate(field)]
    last = str(max(len(curve) for curve in curves.values()) - 1)
    lines.append(" " * 8 + "+" + "-" * WIDTH)
    lines.append(" " * 9 + "0" + f"{below} {last}".rjust(WIDTH - 1))
    names = [f"{letter} {name}" for letter, name in zip(_LETTERS, curves, strict=False)]
    return "\n".join([*lines, "", " " * 9 + "   ".join(names)])


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
