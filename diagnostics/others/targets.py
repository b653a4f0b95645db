"""Targets of a model of others, and the loss that they are of."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diagnostics.others.halves import Array
from diagnostics.others.inputs import Axes, without_padding
from diagnostics.others.torch_layers import Network
from diagnostics.quantities.losses import loss_for

Loss = Callable[[Any, Any], Any]
IGNORED = -100  # the class that cross-entropy leaves out


def checked_target(
    place: str, y: Array, axes: Axes, model: Any, layer: Any
) -> tuple[Array, Loss | None]:
    """Return targets and their loss, None for that which `diagnose` takes by itself.

    y: classes or floats, for every step, or without the axis of time for the last step of every
    sequence. Padding counts for nothing.
    """
    classes = y.dtype.kind in "iu"
    width = layer.directions * layer.hidden_size
    if isinstance(model, Network) and model.readout is not None:
        width = model.readout.out_features
    each = () if classes else (width,)
    every, end = axes.shape + each, axes.without_time + each
    if y.shape not in (every, end):
        what = "classes" if classes else "floats"
        raise ValueError(
            f"{place} holds {what} and must have shape {every} for every step or {end} for the "
            f"last one, got {y.shape}"
        )
    valid = axes.valid() if y.shape == every else np.ones(axes.without_time, bool)
    y = without_padding(place, y, valid, layer.dtype)
    if classes and (y.min() < IGNORED or y.max() >= width):
        raise ValueError(f"{place} must hold classes below {width}, got {y.min()} to {y.max()}")
    if y.shape == every:
        if classes:
            return np.where(valid, y, IGNORED), None
        return y, None if axes.lengths is None else _squares(valid)

    def loss_at_the_last_step(out: Any, y: Any) -> Any:
        return loss_for(y)(axes.last(out), y)

    return y, loss_at_the_last_step


def _squares(valid: Array) -> Loss:
    """Return the mean squared error over the steps that are no padding."""

    def mean_squared_error(out: Any, y: Any) -> Any:
        weight = (valid[..., None] / (valid.sum() * y.shape[-1])).astype(y.dtype)
        return ((out - y) ** 2 * weight).sum()

    return mean_squared_error
