"""What every quantity carries: its value, its interval, how it was computed, and its cost."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Cost:
    """What a quantity took, in counts: they are the same on every run, seconds are not.

    sweeps: passes over the sequence, forward or backward.  flops: of the recurrent and input
    products in those passes.  bytes: of the arrays that the quantity was computed from.
    """

    sweeps: int = 0
    flops: int = 0
    bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.sweeps + other.sweeps, self.flops + other.flops, self.bytes + other.bytes)

    def __str__(self) -> str:
        if self == Cost():
            return "no extra work: recorded while training"
        passes = "sweep" if self.sweeps == 1 else "sweeps"
        parts = [f"{self.sweeps} {passes} over the sequence"] if self.sweeps else []
        parts += [f"{_si(self.flops)}flop"] if self.flops else []
        parts += [f"{_si(self.bytes)}byte"] if self.bytes else []
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A measured thing.

    value: float or array.  ci: its 95% interval, one more trailing axis of length 2, or None
    where nothing was estimated.  how: one sentence.  cost: counts.
    """

    value: Any
    ci: Any = None
    how: str = ""
    cost: Cost = field(default_factory=Cost)


_TENS = np.array([float(f"1e{power}") for power in range(23)])  # exact in double precision
UNSAVED = {"unsaved": True}  # metadata of a field that JSON leaves out: large arrays


def encode(value: Any) -> Any:
    """Turn a quantity's field into what strict JSON holds; non-finite floats become strings."""
    kind = type(value)
    if kind is str or kind is int or value is None or (kind is float and math.isfinite(value)):
        return value  # most of what is written
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in saved_fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        plain = value.dtype.kind in "iub" or (value.dtype.kind == "f" and np.isfinite(value).all())
        if not plain and value.dtype.kind == "f" and value.ndim == 1:
            return [v if math.isfinite(v) else str(v) for v in value.tolist()]  # many and long
        return value.tolist() if plain else encode(value.tolist())
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def saved_fields(value: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a quantity that JSON holds."""
    return [f for f in dataclasses.fields(value) if "unsaved" not in f.metadata]


def decode(value: Any) -> Any:
    """Undo `encode`: lists of numbers become arrays, "nan", "inf" and "-inf" floats."""
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [decode(item) for item in value]
        numbers = all(isinstance(item, bool | int | float | np.ndarray) for item in items)
        return np.asarray(items) if numbers else items
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return value


def _si(number: float) -> str:
    """Spell a count with a decimal prefix: 1.2e9 -> '1.2 G'."""
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:.3g} T"


def significant(values: np.ndarray, digits: int = 6) -> np.ndarray:
    """Round to so many significant digits, to keep files small; not finite stays as it is.

    Each is the double nearest to its decimal, which is what makes it short when written: a whole
    number times or over a power of ten that a double holds exactly (Clinger 1990).
    """
    x = np.ravel(values).astype(np.float64, copy=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(x)))  # after the point
        exact = np.abs(places) < len(_TENS)  # not so for 0, NaN and infinities
        shift = np.where(exact, places, 0).astype(np.int64)
        up, down = _TENS[np.maximum(shift, 0)], _TENS[np.maximum(-shift, 0)]
        found = np.where(exact, np.rint(x * up / down) * down / up, x)
    for place in np.flatnonzero(~exact & np.isfinite(x) & (x != 0)):
        short = float(f"{x[place]:.{digits - 1}e}")
        found[place] = short if math.isfinite(short) else x[place]  # next to the largest double
    return found.reshape(np.shape(values))
