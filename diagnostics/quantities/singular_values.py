"""Singular values of the step Jacobians, and the bound on the gradient that their product gives.

||dL/ds_t|| <= ||dL/ds_T|| prod sigma_max(J_s): where every factor is below 1 the gradient must
vanish (Pascanu et al. 2013). The bound is one-sided; the true norm of the product stands beside it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.base import UNSAVED, Quantity
from diagnostics.quantities.jacobian_source import Piece, Source, source_of
from diagnostics.quantities.statistics import Floats, medians
from diagnostics.quantities.watching import parameters_of


@dataclass(frozen=True, kw_only=True)
class SingularValues(Quantity):
    """Singular values of K steps.

    value: (K,), median over sequences of the largest; ci: (K, 2).  spread: (K, 3), medians of the
    largest, the median and the smallest.  largest: the largest of all steps and sequences.
    n: how many Jacobians were looked at.  steps: (K,).  sigma: (K, B, S), descending, NaN after
    the length.
    """

    spread: Floats
    largest: float
    n: int
    steps: NDArray[np.int64]
    sigma: Floats | None = field(default=None, metadata=UNSAVED)


@dataclass(frozen=True, kw_only=True)
class ProductBound(Quantity):
    """The bound of the notes beside what it bounds, over the last K steps of each sequence.

    value: (K+1,), by lag the median over sequences of ln ||J_T ... J_{T-k+1}||, the largest gain
    that any gradient can have; ci: (K+1, 2).  bound: (K+1,), of the sum of ln sigma_max.
    weight_bound: (K+1,), of k ln ||W|| + sum of ln ||D_s|| where J_s = D_s W with a diagonal D_s
    (one state, one product), else None.  entry_bound: (K+1,), for such cells the bound of
    Hochreiter and Schmidhuber 1997 on a single entry of the product, ln S + k ln ||W||_A + the
    sum of ln ||D_s||, with the largest sum over a row for ||W||_A.  smallest: (K+1,), ln of the
    smallest gain.
    """

    bound: Floats
    smallest: Floats
    weight_bound: Floats | None
    entry_bound: Floats | None


def singular_values(
    layer_or_jacobians: Any,
    x: Any = None,
    steps: int | None = None,
    level: int = -1,
    direction: int = 0,
    lengths: Any = None,
) -> SingularValues:
    """Measure the singular values of the Jacobian of every step.

    Parameters
    ----------
    layer_or_jacobians : minirnn.Recurrent, `StepJacobians`, or an array (T, S, S) or (T, B, S, S)
    x : the layer's input, as the layer takes it
    steps : look at so many steps, spread over all; None: every step
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them
    """
    source = source_of("singular_values", layer_or_jacobians, x, level, direction, lengths)
    return values_of_source(source, steps)


def values_of_source(source: Source, steps: int | None = None) -> SingularValues:
    """Measure the singular values of Jacobians that come in pieces."""
    if steps is not None and steps < 1:
        raise ValueError(f"singular_values: steps must be at least 1, got {steps}")
    count = source.steps if steps is None else min(steps, source.steps)
    chosen = np.unique(np.round(np.linspace(0, source.steps - 1, count)).astype(np.int64))
    sigma = np.full((len(chosen), source.batch, source.size), np.nan)
    valid = np.zeros(sigma.shape[:2], bool)
    first = 0
    for jacobians, alive in source.pieces():
        here = (chosen >= first) & (chosen < first + len(jacobians))
        rows = chosen[here] - first
        sigma[here], valid[here] = _sigma(jacobians[rows]), alive[rows]
        first += len(jacobians)
    sigma[~valid] = np.nan
    value, ci = medians(sigma[..., 0], valid)
    middle = sigma[..., source.size // 2]
    return SingularValues(
        value=value,
        ci=ci,
        how=(
            f"singular values of the exact Jacobian of the full state, {source.size} entries, at "
            f"{len(chosen)} of {source.steps} steps; median over sequences; interval: bootstrap "
            "over sequences"
        ),
        cost=source.cost,
        spread=np.stack([value, medians(middle, valid)[0], medians(sigma[..., -1], valid)[0]], 1),
        largest=float(np.max(sigma[..., 0][valid], initial=0.0)),
        n=int(valid.sum()),
        steps=chosen,
        sigma=sigma,
    )


def product_bound(
    layer_or_jacobians: Any,
    x: Any = None,
    weight: Any = None,
    level: int = -1,
    direction: int = 0,
    lengths: Any = None,
) -> ProductBound:
    """Measure the norm of the product of Jacobians by lag, and what bounds it.

    Parameters
    ----------
    layer_or_jacobians : minirnn.Recurrent, `StepJacobians`, or an array (T, S, S) or (T, B, S, S)
    x : the layer's input, as the layer takes it
    weight : (S, S), the recurrent matrix W for `weight_bound`; a layer's own by default
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them
    """
    source = source_of("product_bound", layer_or_jacobians, x, level, direction, lengths)
    if weight is None and hasattr(layer_or_jacobians, "named_parameters"):
        weight = parameters_of(layer_or_jacobians, level, direction)["weight_hh"].numpy()
    return bound_of_source(source, weight)


def bound_of_source(source: Source, weight: Any = None, most: int | None = None) -> ProductBound:
    """Measure the products of Jacobians that come in pieces; of the last `most` steps, if given."""
    first = 0 if most is None else max(0, source.steps - most)
    pieces = _from(source, first)
    steps = np.concatenate([jacobians for jacobians, _ in pieces])[::-1]
    alive = np.concatenate([there for _, there in pieces])[::-1]
    largest, smallest = _products(steps)
    logs = [_by_lag(largest, alive), _by_lag(smallest, alive)]
    with np.errstate(divide="ignore"):
        factors = np.log(_sigma(steps)[..., 0])
    logs.append(_by_lag(_summed(factors), alive))
    matrix = None if weight is None else np.asarray(weight, np.float64)
    scale = None if matrix is None else diagonal_factors(steps, matrix, source.eps)
    bounds: list[Floats | None] = [None, None]
    if scale is not None and matrix is not None:
        with np.errstate(divide="ignore"):
            slopes = np.log(np.abs(scale).max(axis=-1))
            sizes = [np.linalg.norm(matrix, 2), np.abs(matrix).sum(axis=1).max()]
            norms = [np.where(alive, slopes + np.log(size), 0.0) for size in sizes]
        starts = (0.0, np.log(source.size))
        bounds = [
            medians(*_by_lag(_summed(each) + start, alive))[0]
            for each, start in zip(norms, starts, strict=True)
        ]
    value, ci = medians(*logs[0])
    return ProductBound(
        value=value,
        ci=ci,
        how=(
            "natural logarithm of the largest singular value of the product of the last k "
            "Jacobians of each sequence, beside the sum of those of the factors; median over "
            "sequences; interval: bootstrap over sequences"
        ),
        cost=source.cost,
        bound=medians(*logs[2])[0],
        smallest=medians(*logs[1])[0],
        weight_bound=bounds[0],
        entry_bound=bounds[1],
    )


def diagonal_factors(jacobians: Floats, weight: Floats, eps: float) -> Floats | None:
    """Return D (..., S) with J = diag(D) W, or None where a Jacobian is not of this form.

    jacobians: (..., S, S), weight: (S, S).
    """
    if weight.shape != jacobians.shape[-2:]:
        return None
    weight = weight.astype(np.float64)
    rows = (weight**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = np.where(rows > 0, (jacobians * weight).sum(axis=-1) / rows, 0.0)
    rest = jacobians - factors[..., None] * weight
    # Each entry of J is a product of two numbers, rounded a few times.
    return factors if np.abs(rest).max() <= 16 * eps * np.abs(jacobians).max() else None


def _from(source: Source, first: int) -> list[Piece]:
    """Return the pieces from a step on."""
    found, begin = [], 0
    for jacobians, alive in source.pieces():
        if begin + len(jacobians) > first:
            found.append((jacobians[max(0, first - begin) :], alive[max(0, first - begin) :]))
        begin += len(jacobians)
    return found


def _sigma(jacobians: Floats) -> Floats:
    """Singular values (..., S); NaN where a Jacobian is not finite, where SVD would give up."""
    found = np.full(jacobians.shape[:-1], np.nan)
    finite = np.isfinite(jacobians).all(axis=(-2, -1))
    if finite.any():
        found[finite] = np.linalg.svd(jacobians[finite], compute_uv=False)
    return found


def _products(steps: Floats) -> tuple[Floats, Floats]:
    """Logarithms of the largest and smallest singular value of the products, (K+1, B) each.

    steps: (K, B, S, S), the last step first.  The product is kept at norm 1 beside its logarithm.
    """
    count, batch, size = steps.shape[:3]
    product = np.broadcast_to(np.eye(size), (batch, size, size))
    scale = np.zeros(batch)
    ends = np.zeros((2, count + 1, batch))
    with np.errstate(divide="ignore", invalid="ignore"):
        for k, jacobian in enumerate(steps):
            product = product @ jacobian
            norm = np.abs(product).max(axis=(1, 2))
            norm = np.where(norm > 0, norm, 1.0)
            product, scale = product / norm[:, None, None], scale + np.log(norm)
            sigma = _sigma(product)
            ends[:, k + 1] = scale + np.log(sigma[:, [0, -1]].T)
    return ends[0], ends[1]


def _summed(logs: Floats) -> Floats:
    """Sum over the steps, beginning at 0.  (K, B) to (K+1, B)."""
    return np.cumsum(np.concatenate([np.zeros((1, logs.shape[1])), logs]), axis=0)


def _by_lag(logs: Floats, alive: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Shift every sequence so that lag 0 is its own last step.  logs: (K+1, B), alive: (K, B)."""
    count = alive.sum(axis=0)
    lags = np.arange(len(logs))[:, None] + (len(alive) - count)
    inside = lags < len(logs)
    return np.take_along_axis(logs, np.minimum(lags, len(logs) - 1), axis=0), inside
