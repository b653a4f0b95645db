"""Norms of gradients that are sums of outer products, without forming the sums.

A gradient is the sum over rows r of d_r v_r^T: its squared norm is the sum over pairs of rows of
(d_r . d_s)(v_r . v_s), the product of two Gram matrices, entry by entry. For one row alone it is
|d|^2 |v|^2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.statistics import Floats, joint_norm

Array = NDArray[np.floating]
_ROWS = 512  # of a Gram matrix at a time: long sequences need no T x T array


@dataclass(frozen=True)
class OuterProducts:
    """A gradient as its factors.

    d: (T, B, M), derivatives by the rows of a matrix; v: (T, B, K), what they are multiplied
    with, or None for a vector parameter, whose gradient is the sum of d.
    """

    d: Array
    v: Array | None = None

    def of_sequences(self) -> Floats:
        """Norm of each sequence's sum over the steps: a T x T Gram.  (B,)."""
        if self.v is None:
            return joint_norm([self.d.sum(axis=0, dtype=np.float64)])
        pairs = zip(self.d.swapaxes(0, 1), self.v.swapaxes(0, 1), strict=True)
        return np.array([_norm_of_sum(d, v) for d, v in pairs], np.float64)

    def of_steps(self) -> Floats:
        """Norm of each step of each sequence: a product of rank 1.  (T, B)."""
        norm = joint_norm([self.d])
        return norm if self.v is None else norm * joint_norm([self.v])

    def of_steps_of_batch(self) -> Floats:
        """Norm of each step's sum over the sequences: a B x B Gram.  (T,)."""
        if self.v is None:
            return joint_norm([self.d.sum(axis=1, dtype=np.float64)])
        pairs = zip(self.d, self.v, strict=True)
        return np.array([_norm_of_sum(d, v) for d, v in pairs], np.float64)

    def of_whole(self) -> float:
        """Norm of the sum over all steps and sequences, which is formed."""
        d, d_scale = _scaled(self.d.reshape(-1, self.d.shape[2]))
        if self.v is None:
            return float(joint_norm([d.sum(axis=0)])) * d_scale
        v, v_scale = _scaled(self.v.reshape(-1, self.v.shape[2]))
        return float(joint_norm([(d.T @ v).ravel()])) * d_scale * v_scale

    @property
    def flops(self) -> int:
        """Of the Grams of all sequences."""
        if self.v is None:
            return 0
        steps, batch = self.d.shape[:2]
        return 2 * batch * steps * steps * (self.d.shape[2] + self.v.shape[2])


def _norm_of_sum(d: Array, v: Array) -> float:
    """Norm of d^T v.  d: (R, M).  v: (R, K)."""
    d, d_scale = _scaled(d)
    v, v_scale = _scaled(v)
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(d), _ROWS):
            rows = slice(first, first + _ROWS)
            total += float(np.sum((d[rows] @ d.T) * (v[rows] @ v.T)))
        # A sum that cancels to nothing may come out a rounding below 0; NaN stays NaN.
        return float(np.sqrt(total if not total < 0 else 0.0)) * d_scale * v_scale


def _scaled(a: Array) -> tuple[Floats, float]:
    """Return the array with largest entry 1 and that entry, so that squares stay in range."""
    exact = np.asarray(a, np.float64)
    largest = float(np.max(np.abs(exact), initial=0.0))
    scale = largest if largest > 0 and np.isfinite(largest) else 1.0
    return np.asarray(exact / scale), scale


def joined(norms: list[Floats]) -> Floats:
    """Norm of several gradients side by side, from the norm of each."""
    return joint_norm([np.stack(norms, axis=-1)])
