"""Singular values of the step Jacobians, and the bound on the gradient that their product gives.

||dL/ds_t|| <= ||dL/ds_T|| prod sigma_max(J_s): where every factor is below 1 the gradient must
vanish (Pascanu et al. 2013). The bound is one-sided; the true norm of the product stands beside it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.arguments import whole_number
from diagnostics.quantities.base import UNSAVED, Quantity
from diagnostics.quantities.jacobian_source import Source, source_of
from diagnostics.quantities.statistics import Floats, medians
from diagnostics.quantities.watching import parameters_of

LEAST_KNOWN = 0.5  # relative: a smallest gain of which rounding may change more is not told


@dataclass(frozen=True, kw_only=True)
class SingularValues(Quantity):
    """Singular values of K steps.

    value: (K,), median over sequences of the largest; ci: (K, 2).  spread: (K, 3), medians of the
    largest, the median and the smallest.  largest: the largest of all steps and sequences.
    n: in how many Jacobians that was looked for, of how many in all, count (0 if it is not known).
    steps: (K,).  sigma: (K, B, S), descending, NaN after
    the length.
    """

    spread: Floats
    largest: float
    n: int
    steps: NDArray[np.int64]
    count: int = 0
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
    smallest gain, of the sequences of which it is known: -inf from a singular Jacobian on; not
    known from one on that is so to rounding; NaN where that is all of them.
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


def values_of_source(
    source: Source, steps: int | None = None, picked: NDArray[np.int64] | None = None
) -> SingularValues:
    """Measure the singular values of Jacobians that come in pieces.

    picked: of these sequences; of the others the largest value alone is looked for.
    """
    if steps is not None:
        steps = whole_number("singular_values", "steps", steps, 1)
    count = source.steps if steps is None else min(steps, source.steps)
    chosen = np.unique(np.round(np.linspace(0, source.steps - 1, count)).astype(np.int64))
    picked = np.arange(source.batch) if picked is None else picked
    others = np.setdiff1d(np.arange(source.batch), picked)
    sigma = np.full((len(chosen), len(picked), source.size), np.nan)
    first, largest = 0, 0.0
    for jacobians, alive in source.pieces(chosen):
        part = slice(first, first + len(jacobians))
        sigma[part] = _sigma(jacobians[:, picked])
        rest = _largest(jacobians[:, others][alive[:, others]])
        largest = float(np.maximum(largest, np.max(rest, initial=0.0)))  # of NaN: NaN
        first += len(jacobians)
    valid = source.inside[chosen][:, picked]
    sigma[~valid] = np.nan
    value, ci = medians(sigma[..., 0], valid)
    middle = sigma[..., source.size // 2]
    return SingularValues(
        value=value,
        ci=ci,
        how=(
            f"singular values of the exact Jacobian of the full state, {source.size} entries, at "
            f"{len(chosen)} of {source.steps} steps; median over {len(picked)} "
            "sequence(s); interval: bootstrap over them"
        ),
        cost=source.cost,
        spread=np.stack([value, medians(middle, valid)[0], medians(sigma[..., -1], valid)[0]], 1),
        largest=float(np.maximum(largest, np.max(sigma[..., 0][valid], initial=0.0))),
        n=int(source.inside[chosen].sum()),
        steps=chosen,
        count=source.count,
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
    matrix = None if weight is None else np.asarray(weight, np.float64)
    walk = _walk_back(source, range(source.steps - 1, first - 1, -1), matrix)
    logs = [_by_lag(gain, walk.alive) for gain in (walk.largest, walk.smallest)]
    hidden = np.isnan(logs[1][0]) & ~np.isnan(logs[0][0])  # by rounding
    logs[1] = logs[1][0], logs[1][1] & ~hidden
    logs.append(_by_lag(_summed(walk.factors), walk.alive))
    bounds: list[Floats | None] = [None, None]
    if walk.slopes is not None and matrix is not None:
        sizes = [np.linalg.norm(matrix, 2), np.abs(matrix).sum(axis=1).max()]
        with np.errstate(divide="ignore"):
            norms = [np.where(walk.alive, walk.slopes + np.log(size), 0.0) for size in sizes]
        starts = (0.0, np.log(source.size))
        bounds = [
            medians(*_by_lag(_summed(each) + start, walk.alive))[0]
            for each, start in zip(norms, starts, strict=True)
        ]
    value, ci = medians(*logs[0])
    return ProductBound(
        value=value,
        ci=ci,
        how=(
            "natural logarithm of the largest singular value of the product of the last k "
            f"Jacobians of each of {source.batch} sequence(s), beside the sum of those of the "
            "factors; median and interval (bootstrap) over them"
        ),
        cost=source.cost,
        bound=medians(*logs[2])[0],
        smallest=medians(*logs[1])[0],
        weight_bound=bounds[0],
        entry_bound=bounds[1],
    )


@dataclass(frozen=True)
class _Walk:
    """Logarithms from the last of K steps back to the first.

    largest, smallest: (K+1, B), gains of the product of the last k Jacobians.  factors: (K, B), the
    largest gain of each.  slopes: (K, B), the largest entry of D where every J is diag(D) W, else
    None.  alive: (K, B).
    """

    largest: Floats
    smallest: Floats
    factors: Floats
    slopes: Floats | None
    alive: NDArray[np.bool_]


def _walk_back(source: Source, steps: range, weight: Floats | None) -> _Walk:
    """Multiply Jacobians that come in pieces, the last first."""
    product, inverse = _Product(source.batch, source.size), _Inverse(source.batch, source.size)
    ends, factors, slopes, alive = [np.zeros((2, source.batch))], [], [], []
    size, rest = 0.0, 0.0 if weight is not None and weight.shape == (source.size,) * 2 else np.inf
    with np.errstate(all="ignore"):
        for jacobians, there in source.pieces(steps):
            alive.append(there)
            for jacobian, inside in zip(jacobians, there, strict=True):
                product.take(product.matrix @ jacobian)
                largest = _largest(jacobian)
                inverse.take(jacobian, largest, source.eps)
                ends.append(np.stack([product.log_norm(), inverse.log_smallest()]))
                factors.append(np.log(largest))
                slopes.append(np.zeros(source.batch))
                if weight is not None and rest < np.inf and inside.any():
                    diagonal, left = _diagonal(jacobian[inside], weight)
                    rest = max(rest, left)
                    size = max(size, float(np.abs(jacobian[inside]).max()))
                    slopes[-1][inside] = np.log(np.abs(diagonal).max(axis=-1))
    gains = np.stack(ends, axis=1)
    # Each entry of J is a product of two numbers, rounded a few times.
    exact = rest <= 16 * source.eps * size
    return _Walk(
        largest=gains[0],
        smallest=gains[1],
        factors=np.array(factors),
        slopes=np.array(slopes) if exact else None,
        alive=np.concatenate(alive),
    )


class _Product:
    """A product of matrices, (B, S, S), kept at norm 1 beside the logarithm of what was taken."""

    def __init__(self, batch: int, size: int) -> None:
        self.matrix: Floats = np.broadcast_to(np.eye(size), (batch, size, size))
        self._log = np.zeros(batch)

    def take(self, matrix: Floats, log: Any = 0.0) -> None:
        """Go on with a matrix of the same logarithm, or of one that is larger by so much."""
        norm = np.abs(matrix).max(axis=(1, 2))
        norm = np.where(norm > 0, norm, 1.0)
        self.matrix, self._log = matrix / norm[:, None, None], self._log + np.log(norm) + log

    def log_norm(self) -> Floats:
        """Natural logarithm of the largest singular value, (B,)."""
        return self._log + np.log(_largest(self.matrix))


class _Inverse:
    """The inverse of a product of Jacobians: one over its largest gain is their smallest.

    Of the product itself rounding would leave the smallest to 16 digits of the largest only.
    """

    def __init__(self, batch: int, size: int) -> None:
        self._product = _Product(batch, size)
        self._singular, self._lost, self._broken = np.zeros((3, batch), bool)

    def take(self, jacobians: Floats, largest: Floats, eps: float) -> None:
        """Go on with (B, S, S), entries of which are rounded to a relative eps.

        largest: (B,), their largest singular values.
        """
        inverses = np.empty_like(jacobians)
        scales = np.abs(jacobians).max(axis=(1, 2))
        for b, (matrix, scale) in enumerate(zip(jacobians, scales, strict=True)):
            inverses[b] = np.eye(len(matrix))
            if not np.isfinite(scale):
                self._broken[b] = True
                continue
            try:
                inverse = np.linalg.inv(matrix / scale if scale > 0 else matrix)
            except np.linalg.LinAlgError:
                self._singular[b] = True
                continue
            if largest[b] / scale * np.linalg.norm(inverse) * eps < LEAST_KNOWN:
                inverses[b] = inverse
            else:
                self._lost[b] = True
        self._product.take(inverses @ self._product.matrix, -np.log(scales))

    def log_smallest(self) -> Floats:
        """Natural logarithm of the smallest gain, (B,).

        -inf from a singular Jacobian on, NaN from one on that is so to rounding, or not finite.
        """
        known = np.where(self._lost, np.nan, -self._product.log_norm())
        return np.where(self._broken, np.nan, np.where(self._singular, -np.inf, known))


def _diagonal(jacobian: Floats, weight: Floats) -> tuple[Floats, float]:
    """Return the D for which diag(D) W is nearest to J, and the largest entry of the rest.

    jacobian: (N, S, S), weight: (S, S).  Returns (N, S) and a number.
    """
    rows = (weight**2).sum(axis=1)
    factors = np.where(rows > 0, (jacobian * weight).sum(axis=-1) / rows, 0.0)
    rest = float(np.abs(jacobian - factors[..., None] * weight).max())
    return factors, rest if rest >= 0 else float("inf")  # NaN


def _sigma(jacobians: Floats) -> Floats:
    """Singular values (..., S); NaN where a Jacobian is not finite, where SVD would give up."""
    found = np.full(jacobians.shape[:-1], np.nan)
    finite = np.isfinite(jacobians).all(axis=(-2, -1))
    if finite.any():
        found[finite] = np.linalg.svd(jacobians[finite], compute_uv=False)
    return found


def _largest(jacobians: Floats) -> Floats:
    """Largest singular value (...): by the Gram matrix, which keeps it to the last digit.

    At half the cost of all singular values; the small ones it would lose.
    """
    scale = np.abs(jacobians).max(axis=(-2, -1))
    unit = jacobians / np.where((scale > 0) & np.isfinite(scale), scale, 1.0)[..., None, None]
    found = np.full(scale.shape, np.nan)
    finite = np.isfinite(scale)
    if finite.any():
        gram = unit[finite].swapaxes(-2, -1) @ unit[finite]
        found[finite] = scale[finite] * np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., -1], 0.0))
    return found


def _summed(logs: Floats) -> Floats:
    """Sum over the steps, beginning at 0.  (K, B) to (K+1, B)."""
    return np.cumsum(np.concatenate([np.zeros((1, logs.shape[1])), logs]), axis=0)


def _by_lag(logs: Floats, alive: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Shift every sequence so that lag 0 is its own last step.  logs: (K+1, B), alive: (K, B)."""
    count = alive.sum(axis=0)
    lags = np.arange(len(logs))[:, None] + (len(alive) - count)
    inside = lags < len(logs)
    return np.take_along_axis(logs, np.minimum(lags, len(logs) - 1), axis=0), inside
