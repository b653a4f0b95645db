"""The loss that a model's output is judged by, as `diagnose` chooses it."""

from collections.abc import Callable
from typing import Any

import numpy as np

import minirnn

Loss = Callable[[Any, Any], Any]


def loss_of_model(place: str, model: Any, x: Any, y: Any, loss: Loss | None = None) -> Any:
    """Run a model and return its loss; the model returns ``out`` or ``(out, ...)``.

    place: the function that was called, for its errors.
    """
    if loss is not None and not callable(loss):
        raise TypeError(
            f"{place}: loss must be a callable (out, y), got {type(loss).__name__}; "
            "leave it out for cross-entropy or the squared error, as y is"
        )
    out = model(x)
    value = (loss or loss_for(y))(out[0] if isinstance(out, tuple) else out, y)
    if not isinstance(value, minirnn.Tensor):
        raise TypeError(
            f"{place}: loss must return a Tensor, got {type(value).__name__}; "
            "compute it with minirnn's functions"
        )
    if value.numpy().size != 1:
        raise ValueError(
            f"{place}: loss must return one number, got shape {value.shape}; "
            "take its mean() or sum()"
        )
    return value


def loss_for(y: Any) -> Loss:
    """Return cross-entropy for integer targets, mean squared error for floats."""
    array = y.numpy() if isinstance(y, minirnn.Tensor) else y
    whole = y is not None and np.asarray(array).dtype.kind in "iu"
    return minirnn.cross_entropy if whole else minirnn.mse_loss
