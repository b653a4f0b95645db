"""Lyapunov exponents: how fast nearby states part, per step, direction by direction.

Tangent vectors of the full state (all states of the cell together) are carried forward through
the step Jacobians; QR keeps them apart, and the logarithms of R's diagonal add up. The Jacobian
of h alone would freeze the cell state of an LSTM and miss its memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diagnostics.quantities.arguments import whole_number
from diagnostics.quantities.base import UNSAVED, Quantity
from diagnostics.quantities.jacobian_source import Source, source_of
from diagnostics.quantities.statistics import Floats, ratio_interval

BLOCKS, BLOCK_STEPS = 8, 16  # of each sequence, taken as independent; shorter ones are fewer
SHOWN = 64  # points of the curve of convergence


@dataclass(frozen=True, kw_only=True)
class LyapunovSpectrum(Quantity):
    """Lyapunov exponents, natural logarithm per step.

    value: (k,), largest first; -inf where the Jacobians are singular to rounding.  ci: (k, 2),
    from blocks of steps and sequences.  size: S, entries of the full state.  steps: how many
    steps of how many sequences were counted together.  log_det: mean log |det J_t|, which the sum
    of all S exponents equals; None for fewer.  convergence: (M, k), the estimate after
    convergence_steps (M,) steps.  blocks: how many the interval rests on, None if not known.
    """

    size: int
    steps: int
    log_det: float | None
    convergence: Floats
    convergence_steps: Floats
    blocks: int | None = field(default=None, metadata=UNSAVED)

    @property
    def residual(self) -> float | None:
        """Sum of the exponents minus the mean log determinant: 0 up to rounding.

        None where there is nothing to compare: fewer than S exponents, or a singular Jacobian.
        """
        if self.log_det is None or not np.isfinite(self.value).all():
            return None
        return float(self.value.sum() - self.log_det)

    @property
    def kaplan_yorke(self) -> float:
        """Kaplan-Yorke dimension: how many directions keep their volume together.

        NaN if all exponents at hand sum to more than 0 but are not the whole spectrum.
        """
        sums = np.cumsum(self.value)
        if np.isnan(sums).any():
            return float("nan")
        below = np.flatnonzero(sums < 0)
        if not len(below):
            return float(self.size) if len(self.value) == self.size else float("nan")
        j = int(below[0])
        before = float(sums[j - 1]) if j else 0.0
        return 0.0 if j == 0 else j + before / abs(float(self.value[j]))

    @property
    def entropy(self) -> float:
        """Sum of the positive exponents: the entropy rate in nats per step."""
        return float(self.value[self.value > 0].sum())

    @property
    def log10_condition(self) -> float:
        """Decades per step by which the first direction leaves the last one behind."""
        return float((self.value[0] - self.value[-1]) / np.log(10))


def lyapunov_spectrum(
    layer_or_jacobians: Any,
    x: Any = None,
    k: int | None = None,
    every: int = 1,
    warmup: int | None = None,
    level: int = -1,
    direction: int = 0,
    lengths: Any = None,
    seed: int = 0,
) -> LyapunovSpectrum:
    """Measure the Lyapunov exponents of a recurrent layer on its input, or of given Jacobians.

    Parameters
    ----------
    layer_or_jacobians : minirnn.Recurrent, `StepJacobians`, or an array (T, S, S) or (T, B, S, S)
    x : the layer's input, as the layer takes it
    k : how many exponents, default all S
    every : steps between two QR decompositions; a block that would lose digits is cut up
    warmup : steps that only turn the vectors and are not counted. By default none are left out:
        the vectors start as a first pass over all steps has turned them
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them; padded steps are not counted
    seed : of the vectors that the first pass starts from

    Returns
    -------
    LyapunovSpectrum
        ``value`` (k,), ``ci`` (k, 2), ``kaplan_yorke``, ``residual``
    """
    source = source_of("lyapunov_spectrum", layer_or_jacobians, x, level, direction, lengths)
    return spectrum_of_source(source, k, every, warmup, seed)


def spectrum_of_source(
    source: Source,
    k: int | None = None,
    every: int = 1,
    warmup: int | None = None,
    seed: int = 0,
) -> LyapunovSpectrum:
    """Measure the exponents of Jacobians that come in pieces."""
    k, every, warmup = _checked(source, k, every, warmup)
    normal = np.random.default_rng(seed).standard_normal((source.batch, source.size, k))
    q = np.linalg.qr(normal)[0]
    if warmup is None:
        for turned, *_ in _intervals(source, q, every):
            q = turned
    walk = _intervals(source, q, every, warmup or 0)
    parts = [found[1:] for found in walk]
    logs, counts, log_dets = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    if not counts.any():
        raise ValueError("lyapunov_spectrum: no sequence has a step to count; pass longer ones")
    return _summarise(source, logs, counts, log_dets, every, warmup)


def _summarise(
    source: Source,
    logs: Floats,
    counts: Floats,
    log_dets: Floats,
    every: int,
    warmup: int | None,
) -> LyapunovSpectrum:
    """Make the spectrum.  logs: (N, B, k), counts, log_dets: (N, B), by interval of steps."""
    total = counts.sum()
    value = logs.sum(axis=(0, 1)) / total
    order = np.argsort(-value, kind="stable")
    logs, value = logs[..., order], value[order]
    blocks = min(len(logs), BLOCKS, max(2, len(logs) * every // BLOCK_STEPS))
    cuts = np.linspace(0, len(logs), blocks + 1).astype(int)[:-1]
    sums = np.add.reduceat(logs, cuts, axis=0).reshape(-1, logs.shape[2])
    held = np.add.reduceat(counts, cuts, axis=0).ravel()
    ends = np.unique(np.linspace(1, len(logs), min(SHOWN, len(logs))).astype(int)) - 1
    steps = np.cumsum(counts.sum(axis=1))[ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        running = np.cumsum(logs.sum(axis=1), axis=0)[ends] / steps[:, None]
    first = "a first pass over the same steps" if warmup is None else f"{warmup} uncounted steps"
    whole = len(value) == source.size
    return LyapunovSpectrum(
        value=value,
        ci=ratio_interval(sums[held > 0], held[held > 0]),
        blocks=int(np.sum(held > 0)),
        how=(
            f"{len(value)} tangent vectors of the full state of {source.size} entries carried "
            f"through the exact step Jacobians, QR every {every} step(s), turned by {first}; "
            f"natural logarithm per step; interval: {blocks} blocks of steps per sequence, taken "
            "as independent"
        ),
        cost=source.cost,
        size=source.size,
        steps=int(total),
        log_det=float(log_dets.sum() / total) if whole else None,
        convergence=running,
        convergence_steps=np.asarray(ends + 1, np.float64) * every,
    )


def _intervals(
    source: Source, q: Floats, every: int, warmup: int = 0
) -> Iterator[tuple[Floats, Floats, Floats, Floats]]:
    """Carry q (B, S, k) on; yield it, logs (B, k), counts (B,) and log determinants (B,).

    The first `warmup` steps turn q, one QR each, and yield nothing.
    """
    whole = q.shape[1] == q.shape[2]
    for jacobians, alive in source.pieces():
        turning = min(warmup, len(jacobians))
        warmup -= turning
        for jacobian in jacobians[:turning]:
            q = _carried(q, jacobian[None], source.eps)[0]
        for first in range(turning, len(jacobians), every):
            steps, there = jacobians[first : first + every], alive[first : first + every]
            q, logs = _carried(q, steps, source.eps)
            log_dets = np.zeros(len(q))
            if whole:
                with np.errstate(divide="ignore", invalid="ignore"):
                    log_dets = np.linalg.slogdet(steps)[1].sum(axis=0, where=there)
            yield q, logs, there.sum(axis=0).astype(np.float64), log_dets


def _carried(q: Floats, steps: Floats, eps: float) -> tuple[Floats, Floats]:
    """Carry q through steps (K, B, S, S) and make it orthonormal again.  Returns q and log |R|."""
    product = q
    for jacobian in steps:
        product = jacobian @ product
    turned, r = np.linalg.qr(product)
    size = np.abs(np.diagonal(r, axis1=1, axis2=2))
    # Below this the diagonal is rounding: the Jacobian is singular, or too many steps were joined.
    lost = size <= eps * q.shape[1] * size.max(axis=1, keepdims=True)
    if lost.any() and len(steps) > 1:
        logs = np.zeros(size.shape)
        for jacobian in steps:
            q, more = _carried(q, jacobian[None], eps)
            logs += more
        return q, logs
    with np.errstate(divide="ignore"):
        return turned, np.log(np.where(lost, 0.0, size))


def _checked(
    source: Source, k: int | None, every: int, warmup: int | None
) -> tuple[int, int, int | None]:
    """Return k, every and warmup as whole numbers in their ranges."""
    place = "lyapunov_spectrum"
    k = source.size if k is None else whole_number(place, "k", k, 1)
    every = whole_number(place, "every", every, 1)
    warmup = None if warmup is None else whole_number(place, "warmup", warmup)
    if k > source.size:
        raise ValueError(
            f"{place}: k must lie in 1 to {source.size}, the entries of the full state, got {k}"
        )
    if warmup is not None and warmup >= source.steps:
        raise ValueError(
            f"{place}: warmup must lie in 0 to {source.steps - 1}, below the number of steps, "
            f"got {warmup}; pass a longer sequence"
        )
    return k, every, warmup
