"""NumPy loops forward and backward, of the kind people write by hand after a lecture."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.chains import NODES, Chain
from bench.work import Arrays, Run, Work

Array = NDArray[np.floating]


def set_threads(n: int) -> None:
    """Nothing to do: the BLAS reads its variable when NumPy is loaded (bench/environment.py)."""


def sigmoid(a: Array) -> Array:
    """Logistic function."""
    return 1 / (1 + np.exp(-a))


def training(work: Work) -> Run:
    """Run forward, keeping what backward needs in lists; then backward, step by step."""
    forward, backward = {
        "rnn": (_rnn, _rnn_backward),
        "gru": (_gru, _gru_backward),
        "lstm": (_lstm, _lstm_backward),
    }[work.cell]
    last: Arrays = {}

    def step() -> None:
        g = work.given
        state = tuple(g[n] for n in work.states)
        outputs, saved = [], []
        for x in g["x"]:
            state, kept = forward(x, state, g)
            outputs.append(state[0])
            saved.append(kept)
        last.update({n: np.zeros_like(g[n]) for n in g})
        carried = [np.zeros_like(s) for s in state]
        for t in reversed(range(len(saved))):
            carried[0] = carried[0] + work.d_output[t]
            carried = backward(t, carried, saved[t], g, last)
        last.update(zip(work.states, carried, strict=True))
        last["output"] = np.stack(outputs)

    return Run(step, lambda: last)


def inference(work: Work) -> Run:
    """Run forward only."""
    forward = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}[work.cell]
    last: Arrays = {}

    def step() -> None:
        g = work.given
        state = tuple(g[n] for n in work.states)
        outputs = []
        for x in g["x"]:
            state, _ = forward(x, state, g)
            outputs.append(state[0])
        last["output"] = np.stack(outputs)

    return Run(step, lambda: last)


# name of an operation -> its value by (y, x), and the derivatives by both from (d, y, x, value)
_CHAINED: dict[str, tuple[Callable[..., Array], Callable[..., tuple[Any, Any]]]] = {
    "add": (lambda y, x: y + x, lambda d, y, x, value: (d, d)),
    "multiply": (lambda y, x: y * x, lambda d, y, x, value: (d * x, d * y)),
    "tanh": (lambda y, x: np.tanh(y), lambda d, y, x, value: (d * (1 - value * value), None)),
    "sigmoid": (lambda y, x: sigmoid(y), lambda d, y, x, value: (d * value * (1 - value), None)),
}


def chain(task: Chain) -> Run:
    """Forward and backward by NumPy's own calls, without a tape: less no tape on NumPy can take."""
    names = ("add", "multiply", "tanh", "sigmoid") if task.operation == "all" else (task.operation,)
    links = [_CHAINED[names[n % len(names)]] for n in range(NODES)]
    last: Arrays = {}

    def step() -> None:
        x, values = task.x, [task.x]
        for forward, _ in links:
            values.append(forward(values[-1], x))
        d, dx = task.d_output, np.zeros_like(x)
        for number in range(NODES - 1, -1, -1):
            d, more = links[number][1](d, values[number], x, values[number + 1])
            if more is not None:
                dx = dx + more
        last.update({"output": values[-1], "x": dx + d})

    return Run(step, lambda: last)


# Each forward returns the states and what its backward needs; each backward adds to the gradients
# and returns what goes to the step before. g: what is given, d: gradients, both by name.


def _rnn(x: Array, state: tuple, g: Arrays) -> tuple:
    (h,) = state
    new = np.tanh(x @ g["weight_ih"].T + g["bias_ih"] + h @ g["weight_hh"].T + g["bias_hh"])
    return (new,), (x, h, new)


def _rnn_backward(t: int, carried: list, kept: tuple, g: Arrays, d: Arrays) -> list:
    x, h, new = kept
    da = carried[0] * (1 - new * new)
    return [_products_backward(t, da, da, x, h, g, d)]


def _gru(x: Array, state: tuple, g: Arrays) -> tuple:
    (h,) = state
    a_r, a_z, a_n = np.split(x @ g["weight_ih"].T + g["bias_ih"], 3, axis=1)
    u_r, u_z, u_n = np.split(h @ g["weight_hh"].T + g["bias_hh"], 3, axis=1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    return (n + z * (h - n),), (x, h, r, z, n, u_n)


def _gru_backward(t: int, carried: list, kept: tuple, g: Arrays, d: Arrays) -> list:
    x, h, r, z, n, u_n = kept
    dh = carried[0]
    dn = dh * (1 - z) * (1 - n * n)
    dz = dh * (h - n) * z * (1 - z)
    dr = dn * u_n * r * (1 - r)
    da, du = np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dn * r], axis=1)
    return [dh * z + _products_backward(t, da, du, x, h, g, d)]


def _lstm(x: Array, state: tuple, g: Arrays) -> tuple:
    h, c = state
    a = x @ g["weight_ih"].T + g["bias_ih"] + h @ g["weight_hh"].T + g["bias_hh"]
    i, f, n, o = np.split(a, 4, axis=1)
    i, f, n, o = sigmoid(i), sigmoid(f), np.tanh(n), sigmoid(o)
    new = f * c + i * n
    tanh_c = np.tanh(new)
    return (o * tanh_c, new), (x, h, c, i, f, n, o, tanh_c)


def _lstm_backward(t: int, carried: list, kept: tuple, g: Arrays, d: Arrays) -> list:
    x, h, c, i, f, n, o, tanh_c = kept
    dh, dc = carried
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    parts = [
        dc * n * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - n * n), dh * tanh_c * o * (1 - o),
    ]  # fmt: skip
    da = np.concatenate(parts, axis=1)
    return [_products_backward(t, da, da, x, h, g, d), dc * f]


def _products_backward(
    t: int, da: Array, du: Array, x: Array, h: Array, g: Arrays, d: Arrays
) -> Array:
    d["weight_ih"] += da.T @ x
    d["weight_hh"] += du.T @ h
    d["bias_ih"] += da.sum(axis=0)
    d["bias_hh"] += du.sum(axis=0)
    d["x"][t] = da @ g["weight_ih"]
    return du @ g["weight_hh"]
