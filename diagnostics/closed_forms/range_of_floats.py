"""Beyond the tables: where powers of a half leave the range of float32, exactly."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import minirnn
from diagnostics.closed_forms.networks import linear
from diagnostics.closed_forms.outcome import Outcome
from diagnostics.quantities.loss_scaling import underflow_horizon
from diagnostics.quantities.numeric_health import numeric_health


def powers_of_a_half(rng: Any) -> Iterator[Outcome]:
    """0.5^k is subnormal from k = 127 on and 0 from 150 on."""
    layer = minirnn.Recurrent(linear, 1, 1, seed=0)
    for parameter in layer.parameters():
        parameter.assign(np.zeros(parameter.shape, np.float32))
    layer.weight_hh_l0.assign(np.full((1, 1), 0.5, np.float32))
    d_output = np.zeros((200, 1, 1), np.float32)
    d_output[-1] = 1
    health = numeric_health(layer, np.zeros((200, 1, 1), np.float32), d_output)
    counts = [np.nansum(health.zero), np.nansum(health.subnormal)]
    yield Outcome("0.5^k in float32: zeros, subnormals", counts, [51, 23], 0.0, "exact")
    horizons = [underflow_horizon(0.5, np.float32, scale=2.0**k) for k in (0, 10)]
    yield Outcome("its horizon, and by a scale of 2^10", horizons, [149, 159], 0.0, "exact")
