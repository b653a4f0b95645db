"""By which factor per step a gradient shrinks or grows on its way back in time."""

import math
from dataclasses import dataclass

import numpy as np

from diagnostics.quantities.base import Quantity
from diagnostics.quantities.lag_gain import LagGain
from diagnostics.quantities.statistics import Floats, interval, theil_slope

HORIZON_GAIN = 1e-3  # the horizon is the lag at which a gradient has shrunk to this part


@dataclass(frozen=True, kw_only=True)
class DecayRate(Quantity):
    """Decay rate per step.

    value: rho.  ci: (2,), bootstrap over sequences.  horizon: lag at which rho^k = 1e-3, inf
    for rho >= 1.  lags: first and last lag of the fit.
    """

    horizon: float
    lags: tuple[int, int]


def rate_of(gain: Floats, floor: float = 0.0) -> float:
    """Decay rate of a lag gain: exp of the robust slope of log G over the second half of lags.

    gain: (K+1,), G(0) to G(K).  Lags where the gain is at or below floor (it has left the range
    of the dtype) or not finite are left out; if fewer than two remain, the rate is 0 where
    everything vanished, inf where it overflowed, and NaN where there is nothing to judge.
    """
    first = first_lag(len(gain) - 1)
    tail = gain[first:]
    usable = np.isfinite(tail) & (tail > floor)
    if usable.sum() >= 2:
        lags = np.arange(first, len(gain), dtype=np.float64)[usable]
        return math.exp(theil_slope(lags, np.log(tail[usable])))
    if len(tail) < 2 or np.isnan(tail[-1]):
        return float("nan")
    return 0.0 if tail[-1] <= floor else float("inf")


def decay_rate(gain: LagGain) -> DecayRate:
    """Measure the decay rate of a lag gain, with a bootstrap interval over its sequences."""
    floor = float(np.finfo(gain.dtype).tiny)
    rho = rate_of(gain.value, floor)
    ci = None
    if gain.replicates is not None:
        ci = interval(np.asarray([rate_of(replicate, floor) for replicate in gain.replicates]))
    last = len(gain.value) - 1
    return DecayRate(
        value=rho,
        ci=ci,
        horizon=horizon_of(rho),
        lags=(first_lag(last), last),
        how=(
            f"exp of the slope of log G over lags {first_lag(last)} to {last} (median of the "
            "slopes between lags half that range apart); interval: bootstrap over sequences"
        ),
        cost=gain.cost,
    )


def first_lag(last: int) -> int:
    """Return the first lag of the fit: the second half of the lags, but at least two of them."""
    return max(0, min((last + 1) // 2, last - 1))


def horizon_of(rho: float) -> float:
    """Return the lag at which rho^k = 1e-3: inf for rho >= 1, 0 for 0, NaN for NaN."""
    if 0 < rho < 1:
        return math.log(HORIZON_GAIN) / math.log(rho)
    return 0.0 if rho == 0 else float("inf") if rho >= 1 else float("nan")
