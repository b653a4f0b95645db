"""The temporal order task of Pascanu, Mikolov and Bengio (2013), and training on it with a record.

Six symbols: A, B and four distractors.  Two of the symbols, early and in the middle, are A or B;
at the end the network says which came in which order: four classes, chance 75% wrong, log 4.
"""

import math
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn

Floats = NDArray[np.float64]
SYMBOLS, CLASSES = 6, 4
HIDDEN, BATCH, LENGTHS = 50, 20, (10, 20)
RATE, THRESHOLD, ALPHA, SPREAD = 0.03, 1.0, 2.0, 0.1
UPDATES, EVERY, UNSEEN = 1500, 25, 1000
METHODS = {
    "SGD": (math.inf, 0.0),
    "SGD + clipping": (THRESHOLD, 0.0),
    "SGD + clipping + Omega": (THRESHOLD, ALPHA),
}


def batch_of(
    rng: np.random.Generator, size: int, length: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw sequences: x one-hot (T, B, 6), y (B,), the first symbol plus twice the second.

    The first lies in [T/10, 2T/10), the second in [5T/10, 6T/10), as in the published code.
    """
    tenth = max(1, length // 10)
    symbols = rng.integers(2, SYMBOLS, (length, size))
    columns, said = np.arange(size), rng.integers(0, 2, (2, size))
    symbols[int(0.1 * length) + rng.integers(0, tenth, size), columns] = said[0]
    symbols[int(0.5 * length) + rng.integers(0, tenth, size), columns] = said[1]
    x = np.zeros((length, size, SYMBOLS), np.float32)
    x[np.arange(length)[:, None], columns, symbols] = 1.0
    return x, (said[0] + 2 * said[1]).astype(np.int64)


class Network(minirnn.Module):
    """A tanh layer and a readout of its last state, as "basic tanh": all weights N(0, 0.1^2)."""

    def __init__(self, seed: int) -> None:
        weights = minirnn.init.normal(0.0, SPREAD)
        init = {"weight_hh": weights, "weight_ih": weights, "bias": minirnn.init.zeros()}
        self.recurrent = minirnn.RNN(SYMBOLS, HIDDEN, seed=seed, init=init)
        self.readout = minirnn.Linear(HIDDEN, CLASSES, seed=seed + 1)
        rng = np.random.default_rng(seed)
        self.readout.weight.assign(weights((CLASSES, HIDDEN), rng, np.float32))
        self.readout.bias.assign(np.zeros(CLASSES, np.float32))

    def forward(self, x: Any) -> Any:
        """Scores (B, 4) of the classes, from x (T, B, 6)."""
        return self.readout(self.recurrent(x)[1][0])


@dataclass(frozen=True)
class Steepest:
    """Where the gradient was largest: parameters by name, and the batch."""

    update: int
    norm: float
    parameters: dict[str, NDArray[np.float32]]
    x: NDArray[np.float32]
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Record:
    """A run, in the words of the published code.

    train_nll, gradient_norm, Omega: (N,), of every update.  valid_error (percent), rho_Whh,
    sigma_Whh (largest singular value), open_units (mean of 1 - |h|): (M,), every 25 updates.
    norm_by_step: (M, T + 1), median norm of dE/dh_t, of unseen sequences of length T.
    """

    train_nll: Floats
    gradient_norm: Floats
    Omega: Floats
    valid_error: Floats
    rho_Whh: Floats
    sigma_Whh: Floats
    open_units: Floats
    norm_by_step: Floats

    def save(self, path: str | Path) -> None:
        """Write the arrays into a NumPy archive (.npz) under their names."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @property
    def solved(self) -> float:
        """Updates until fewer than 1% of unseen sequences are wrong; inf if that never was."""
        right = np.flatnonzero(self.valid_error < 1.0)
        return float((right[0] + 1) * EVERY) if len(right) else math.inf


@cache
def train(method: str, seed: int = 0, updates: int = UPDATES) -> tuple[Record, Steepest]:
    """Train by one of the methods.  The same arguments give the same numbers.

    The clipping is the paper's Algorithm 1.  The published code also replaces a gradient whose norm
    is not finite or above 1e10, by 0.02 W_hh and zeros.  The largest norm of these runs is 84, so
    that guard is not here; `clip_grad_norm` would leave such a gradient as it is.
    """
    threshold, alpha = METHODS[method]
    rng, network = np.random.default_rng(seed), Network(seed)
    sgd = minirnn.SGD(network.parameters(), lr=RATE)
    unseen = batch_of(np.random.default_rng(seed + 1000), UNSEEN, LENGTHS[1] - 1)
    each: dict[str, list[float]] = {"train_nll": [], "gradient_norm": [], "Omega": []}
    some: dict[str, list[Any]] = {}
    steepest = None
    for update in range(updates):
        x, y = batch_of(rng, BATCH, int(rng.integers(*LENGTHS)))
        sgd.zero_grad()
        with minirnn.watch(network.recurrent) as seen:
            loss = minirnn.cross_entropy(network(x), y)
            loss.backward()
        omega = minirnn.regularise.omega(network.recurrent, seen)
        if alpha:
            (alpha * omega).backward()
        norm = float(minirnn.clip_grad_norm(network.parameters(), threshold))
        if steepest is None or norm > steepest.norm:
            steepest = Steepest(update, norm, network.state_dict(), x, y)
        for name, value in (("train_nll", loss), ("Omega", omega)):
            each[name].append(value.item())
        each["gradient_norm"].append(norm)
        sgd.step()
        if (update + 1) % EVERY == 0:
            for name, value in _state_of(network, *unseen).items():
                some.setdefault(name, []).append(value)
    assert steepest is not None
    arrays = {name: np.asarray(values) for name, values in (each | some).items()}
    return Record(**arrays), steepest


def _state_of(network: Network, x: Any, y: Any) -> dict[str, Any]:
    """Measure a network on unseen sequences."""
    weight = network.recurrent.weight_hh_l0.numpy().astype(np.float64)
    few = x[:, :50]
    with minirnn.no_grad():
        wrong = network(x).numpy().argmax(axis=1) != y
    with minirnn.watch(network.recurrent) as seen:
        minirnn.cross_entropy(network(few), y[:50]).backward()
    network.zero_grad()
    norms = np.linalg.norm(seen.state_grads["h"].astype(np.float64), axis=2)
    return {
        "valid_error": 100.0 * float(wrong.mean()),
        "rho_Whh": float(np.abs(np.linalg.eigvals(weight)).max()),
        "sigma_Whh": float(np.linalg.norm(weight, 2)),
        "open_units": float((1 - np.abs(seen.states["h"][1:])).mean()),
        "norm_by_step": np.median(norms, axis=1),
    }
