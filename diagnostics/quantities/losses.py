"""The loss that a model's output is judged by, as `diagnose` chooses it."""

from collections.abc import Callable
from typing import Any

import numpy as np

import minirnn

Loss = Callable[[Any, Any], Any]


def loss_of_model(model: Any, x: Any, y: Any, loss: Loss | None = None) -> Any:
    """Run a model and return its loss; the model returns ``out`` or ``(out, ...)``."""
    out = model(x)
    return (loss or loss_for(y))(out[0] if isinstance(out, tuple) else out, y)


def loss_for(y: Any) -> Loss:
    """Return cross-entropy for integer targets, mean squared error for floats."""
    array = y.numpy() if isinstance(y, minirnn.Tensor) else y
    whole = y is not None and np.asarray(array).dtype.kind in "iu"
    return minirnn.cross_entropy if whole else minirnn.mse_loss
