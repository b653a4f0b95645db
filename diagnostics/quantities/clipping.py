"""What gradient clipping did over a run: how often, how hard, and what it could not touch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.arguments import whole_number
from diagnostics.quantities.base import Quantity
from diagnostics.quantities.statistics import Floats

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True)
class Clipping(Quantity):
    """Clipping statistics of N training steps.

    value: fraction of the last `window` steps that were clipped; counted, so it has no interval.
    overall: the same over all steps.  pre, post: (N,), gradient norm before and after.
    clipped: (N,).  nonfinite: (N,), non-finite entries per step; those steps are not clipped and
    stay out of the percentiles.  percentiles: (3,), P50, P90, P99 of pre.  max_norm: the
    threshold, None without clipping.
    """

    overall: float
    window: int
    pre: Floats
    post: Floats
    clipped: NDArray[np.bool_]
    nonfinite: NDArray[np.int64]
    percentiles: Floats
    max_norm: float | None

    @property
    def nonfinite_steps(self) -> int:
        """Number of steps with a non-finite gradient."""
        return int(np.count_nonzero(self.nonfinite))


def clipping_statistics(
    infos: Sequence[Any], max_norm: float | None = None, window: int | None = None
) -> Clipping:
    """Summarise what `minirnn.clip_grad_norm` returned at each step of a run.

    Parameters
    ----------
    infos : one ClipInfo per step: ``norm``, ``post``, ``clipped``, ``nonfinite``
    max_norm : the threshold, None if the run only measured its norms
    window : judge the last so many steps, default all of them
    """
    if window is not None:
        window = whole_number("clipping_statistics", "window", window, 1)
    pre = np.asarray([info.norm for info in infos], dtype=np.float64)
    clipped = np.asarray([info.clipped for info in infos], dtype=bool)
    finite = pre[np.isfinite(pre)]
    window = len(infos) if window is None else min(window, len(infos))
    return Clipping(
        value=_fraction(clipped[len(infos) - window :]),
        overall=_fraction(clipped),
        window=window,
        pre=pre,
        post=np.asarray([info.post for info in infos], dtype=np.float64),
        clipped=clipped,
        nonfinite=np.asarray([info.nonfinite for info in infos], dtype=np.int64),
        percentiles=np.percentile(finite, PERCENTILES) if len(finite) else np.full(3, np.nan),
        max_norm=max_norm,
        how=(
            f"norm of all parameters' gradients together at each of {len(infos)} steps, before "
            f"and after clipping; fraction counted over the last {window}"
        ),
    )


def _fraction(clipped: NDArray[np.bool_]) -> float:
    return float(np.mean(clipped)) if len(clipped) else float("nan")
