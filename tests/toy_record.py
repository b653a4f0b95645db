"""A stand-in for a `minirnn.watch` record: a recurrence given by its Jacobians, in plain NumPy."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np


@dataclass
class ToyRecord:
    """Step t carries delta_{t-1} = J_t^T delta_t, with all states side by side.

    jacobians: (T, S, S), S the sizes of all states together.  sizes: units of each state.
    """

    jacobians: np.ndarray
    batch: int
    sizes: dict
    dtype: type = np.float64
    gates: dict = field(default_factory=dict)
    lengths: np.ndarray | None = None

    @property
    def states(self):
        rows = len(self.jacobians) + 1
        return {k: np.zeros((rows, self.batch, n), self.dtype) for k, n in self.sizes.items()}

    def pullback(self, d_output=None, d_state=None, clip=None):
        given = {k: np.array(a, np.float64) for k, a in self.states.items()}
        for name, rows in (d_state or {}).items():
            given[name] += rows
        if d_output is not None:
            given[next(iter(given))][1:] += d_output
        delta = np.concatenate(list(given.values()), axis=-1)
        for t in range(len(self.jacobians), 0, -1):
            carried = delta[t] @ self.jacobians[t - 1]
            if self.lengths is not None:
                carried[np.asarray(self.lengths) < t] = 0.0
            delta[t - 1] += carried
        ends = np.cumsum(list(self.sizes.values()))
        with np.errstate(over="ignore"):  # as a network in float32 would
            rounded = delta.astype(self.dtype)
        split = np.split(rounded, ends[:-1], axis=-1)
        return SimpleNamespace(
            carried_grads=dict(zip(self.sizes, split, strict=True)), gate_grads={}
        )


def orthogonal(size, rng):
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def repeated(matrix, steps):
    """The same Jacobian at every step: (T, S, S)."""
    return np.broadcast_to(matrix, (steps, *matrix.shape))
