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

    value: (P,), ||change|| / ||value before|| by parameter, NaN for a parameter of zeros, inf
    where the change is not finite.
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
    if not before:
        raise ValueError(
            "update_ratio: before and after must hold at least one parameter, got none; "
            "pass the model's state_dict() of before and after the step"
        )
    ratios, size = [], 0
    for name in before:
        old, new = _array(before[name]), _array(after[name])
        if old.shape != new.shape:
            raise ValueError(
                f"update_ratio: {name} must have one shape, got {old.shape} before and "
                f"{new.shape} after; pass two states of one model"
            )
        size += old.nbytes
        ratios.append(_ratio(old.ravel(), new.ravel()))
    return UpdateRatio(
        value=np.asarray(ratios),
        how="norm of an update over the norm of the parameter before it, parameter by parameter",
        cost=Cost(bytes=2 * size),
        names=list(before),
    )


def _ratio(old: Any, new: Any) -> float:
    with np.errstate(invalid="ignore"):  # inf - inf
        change = _distance(old, new)
    if not np.isfinite(change):
        return float("inf")
    norm = float(joint_norm([old]))
    return change / norm if norm > 0 else float("nan")


def worst_ratio(ratio: UpdateRatio, low: float, high: float) -> tuple[str, float]:
    """Return the parameter whose ratio lies farthest outside [low, high], in decades.

    One that is not finite comes before one that did not move at all.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.maximum(np.log10(ratio.value / high), np.log10(low / ratio.value))
    distance = np.where(np.isnan(distance), -np.inf, distance)
    broken = np.flatnonzero(np.isinf(ratio.value))
    place = int(broken[0]) if len(broken) else int(np.argmax(distance))
    return ratio.names[place], float(ratio.value[place])


def _distance(old: Any, new: Any) -> float:
    """Norm of a difference, in double precision.  old, new: (N,)."""
    parts = [
        joint_norm([np.subtract(new[part], old[part], dtype=np.float64)]) for part in blocks_of(old)
    ]
    return float(parts[0] if len(parts) == 1 else joint_norm([np.array(parts)]))


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, minirnn.Tensor) else np.asarray(value)
