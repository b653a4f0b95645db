"""How far an optimizer's step moves each parameter, relative to the parameter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.statistics import blocks_of, joint_norm


@dataclass(frozen=True, kw_only=True)
class UpdateRatio(Quantity):
    """One update.

    value: (P,), ||change|| / ||value before|| by parameter, NaN for a parameter of zeros.
    names: of the P parameters.
    """

    names: list[str]


def update_ratio(before: Mapping[str, Any], after: Mapping[str, Any]) -> UpdateRatio:
    """Compare parameters before and after an update; names as in ``state_dict``.

    before, after: arrays or Tensors by name.
    """
    if set(before) != set(after):
        raise ValueError(
            "update_ratio: before and after must hold the same names, got "
            f"{sorted(set(before) ^ set(after))} in one of them only"
        )
    ratios, size = [], 0
    for name in before:
        old, new = _array(before[name]), _array(after[name])
        size += old.nbytes
        norm, change = float(joint_norm([old.ravel()])), _distance(old.ravel(), new.ravel())
        ratios.append(change / norm if norm > 0 else float("nan"))
    return UpdateRatio(
        value=np.asarray(ratios),
        how="norm of an update over the norm of the parameter before it, parameter by parameter",
        cost=Cost(bytes=2 * size),
        names=list(before),
    )


def worst_ratio(ratio: UpdateRatio, low: float, high: float) -> tuple[str, float]:
    """Return the parameter whose ratio lies farthest outside [low, high], in decades."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.maximum(np.log10(ratio.value / high), np.log10(low / ratio.value))
    distance = np.where(np.isnan(distance), -np.inf, distance)
    place = int(np.argmax(distance))
    return ratio.names[place], float(ratio.value[place])


def _distance(old: Any, new: Any) -> float:
    """Norm of a difference, in double precision.  old, new: (N,)."""
    parts = [
        joint_norm([np.subtract(new[part], old[part], dtype=np.float64)]) for part in blocks_of(old)
    ]
    return float(parts[0] if len(parts) == 1 else joint_norm([np.array(parts)]))


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, minirnn.Tensor) else np.asarray(value)
