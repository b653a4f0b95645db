"""What the model's own number format costs: its gradient against the same one in float64."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.losses import loss_of_model
from diagnostics.quantities.statistics import Floats, joint_norm
from diagnostics.quantities.watching import evaluating


@dataclass(frozen=True, kw_only=True)
class Precision(Quantity):
    """Difference of a gradient from that of a float64 copy.

    value: ||g - g64|| / ||g64|| over all parameters, NaN where nothing is finite.
    parameters[name]: the same of one parameter, inf where only the gradient in float64 is 0.
    dtype: the model's own.
    """

    parameters: dict[str, float]
    dtype: str


def precision(
    model: Any, x: Any, y: Any, loss: Callable[[Any, Any], Any] | None = None
) -> Precision:
    """Compare a model's gradient with that of its copy in float64, parameter by parameter.

    Parameters
    ----------
    model : a Recurrent, or a Module that returns ``out`` or ``(out, ...)``
    x, y : its input and the targets
    loss : callable (out, y); None is cross-entropy for integer y, mean squared error for floats
    """
    exact = copy.deepcopy(model).to(np.float64)
    given = _gradients(model, x, y, loss)
    truth = _gradients(exact, _wide(x), _wide(y), loss)
    rest = {k: (given[k] - truth[k]).ravel() for k in truth}
    dtypes = sorted({p.dtype.name for p in model.parameters()})
    return Precision(
        value=_ratio(_flat(rest), _flat(truth)),
        how=(
            "one forward and backward pass in the model's own format, one of a copy in float64; "
            "norm of the difference over the norm in float64"
        ),
        cost=Cost(sweeps=4, bytes=sum(g.nbytes for g in truth.values())),
        parameters={k: _ratio(rest[k], g.ravel()) for k, g in truth.items()},
        dtype=", ".join(dtypes),
    )


def _gradients(model: Any, x: Any, y: Any, loss: Any) -> dict[str, Floats]:
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    with evaluating(model):
        value = loss_of_model("precision", model, x, y, loss)
        grads = minirnn.grad(value, list(named.values()), allow_unused=True)
    return {
        k: np.zeros(p.shape) if g is None else g.numpy().astype(np.float64)
        for (k, p), g in zip(named.items(), grads, strict=True)
    }


def _wide(given: Any) -> Any:
    array = given.numpy() if isinstance(given, minirnn.Tensor) else np.asarray(given)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _flat(arrays: dict[str, Floats]) -> Floats:
    return np.concatenate([a.ravel() for a in arrays.values()])


def _ratio(rest: Floats, whole: Floats) -> float:
    """Relative size of a difference; between two zeros there is none."""
    error, size = float(joint_norm([rest])), float(joint_norm([whole]))
    return error / size if size else (0.0 if error == 0 else float("inf"))
