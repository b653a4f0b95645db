"""Numbers on which a cell's own equations show what a unit keeps of itself.

A cell runs its equations on whatever is given. Given these numbers it tells, with the products
``u.k @ v`` held fixed, two things: which activation every gate passes first (through `Trace`),
and how much of a state's value before the step is in its value after it, unit by unit.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn

Array = NDArray[np.floating]
Tag = tuple[str, str]  # ("wx", gate) or ("u", block)
Parts = list[tuple["Carrying", Any]]


@dataclass
class Trace:
    """What one run of the equations leaves behind.

    held: which activations count as constants, by their place in the order of the run.  stopped:
    whether the equations stop a gradient.  activations: the function and the value of every
    sigmoid, tanh and relu, in order.  first: for each the place of the first one that is equal;
    equations may write the same expression twice.
    """

    held: frozenset[int] = frozenset()
    stopped: bool = False
    activations: list[tuple[str, Array]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def pass_through(self, function: str, value: Array, given: "Carrying", slope: Any) -> Any:
        """Return the value of an activation, and remember it."""
        place = len(self.activations)
        equal = (
            other
            for other, (name, known) in enumerate(self.activations)
            if name == function and np.array_equal(known, value)
        )
        self.first.append(next(equal, place))
        self.activations.append((function, value))
        made = given._made(value, [(given, 0.0 if place in self.held else slope)])
        passed = self.first[place]
        made.passed = {tag: (*before, passed) for tag, before in made.passed.items()}
        return made


class Carrying:
    """A vector of the step: its value, and its derivative by the same unit of each state before.

    value: (N, H).  kept: state -> (N, H).  passed: which activations every path from a gate's or
    block's input to this value has passed.
    """

    __array_ufunc__ = None  # array + Carrying is this class's business

    def __init__(
        self,
        trace: Trace,
        value: Array,
        kept: dict[str, Any] | None = None,
        passed: dict[Tag, tuple[int, ...]] | None = None,
    ) -> None:
        self.trace, self.value = trace, value
        self.kept, self.passed = kept or {}, passed or {}

    def _made(self, value: Any, parts: Parts) -> "Carrying":
        kept: dict[str, Any] = {}
        passed: dict[Tag, tuple[int, ...]] = {}
        for part, slope in parts:
            for state, d in part.kept.items():
                kept[state] = kept.get(state, 0.0) + slope * d
            for tag, places in part.passed.items():
                known = passed.get(tag)
                passed[tag] = places if known is None else tuple(p for p in known if p in places)
        return Carrying(self.trace, value, kept, passed)

    def _with(self, other: Any, value: Any, by_self: Any, by_other: Any) -> "Carrying":
        parts: Parts = [(self, by_self)]
        if isinstance(other, Carrying):
            parts.append((other, by_other))
        return self._made(value, parts)

    def __add__(self, other: Any) -> "Carrying":
        return self._with(other, self.value + _value(other), 1.0, 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> "Carrying":
        return self._with(other, self.value - _value(other), 1.0, -1.0)

    def __rsub__(self, other: Any) -> "Carrying":
        return self._with(other, _value(other) - self.value, -1.0, 1.0)

    def __mul__(self, other: Any) -> "Carrying":
        v = _value(other)
        return self._with(other, self.value * v, v, self.value)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Carrying":
        v = _value(other)
        return self._with(other, self.value / v, 1 / v, -self.value / v**2)

    def __rtruediv__(self, other: Any) -> "Carrying":
        v = _value(other)
        return self._with(other, v / self.value, -v / self.value**2, 1 / self.value)

    def __neg__(self) -> "Carrying":
        return self._made(-self.value, [(self, -1.0)])

    def __pos__(self) -> "Carrying":
        return self

    def __pow__(self, exponent: float) -> "Carrying":
        slope = exponent * self.value ** (exponent - 1)
        return self._made(self.value**exponent, [(self, slope)])

    def __lt__(self, other: Any) -> Any:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value(other)

    # The functions of the cell language call these.

    def sigmoid(self) -> "Carrying":
        """Logistic function, a' = a (1 - a)."""
        a = np.asarray(minirnn.sigmoid(self.value))
        return self.trace.pass_through("sigmoid", a, self, a * (1 - a))

    def tanh(self) -> "Carrying":
        """Hyperbolic tangent, a' = 1 - a^2."""
        a = np.tanh(self.value)
        return self.trace.pass_through("tanh", a, self, 1 - a * a)

    def relu(self) -> "Carrying":
        """max(v, 0)."""
        positive = self.value > 0
        return self.trace.pass_through("relu", np.where(positive, self.value, 0), self, positive)

    def exp(self) -> "Carrying":
        """Exponential function."""
        e = np.exp(self.value)
        return self._made(e, [(self, e)])

    def log(self) -> "Carrying":
        """Natural logarithm."""
        return self._made(np.log(self.value), [(self, 1 / self.value)])

    def sqrt(self) -> "Carrying":
        """Square root."""
        root = np.sqrt(self.value)
        return self._made(root, [(self, 0.5 / root)])

    def rsqrt(self) -> "Carrying":
        """1 / sqrt(v)."""
        inverse = 1 / np.sqrt(self.value)
        return self._made(inverse, [(self, -0.5 * inverse**3)])

    def abs(self) -> "Carrying":
        """Absolute value."""
        return self._made(np.abs(self.value), [(self, np.sign(self.value))])

    def maximum(self, other: Any) -> "Carrying":
        """Greater of two."""
        return self.where_(self > other, self, other)

    def minimum(self, other: Any) -> "Carrying":
        """Smaller of two."""
        return self.where_(self < other, self, other)

    def clip(self, low: float, high: float) -> "Carrying":
        """Between two numbers."""
        inside = (self.value >= low) & (self.value <= high)
        return self._made(np.clip(self.value, low, high), [(self, inside)])

    def stop(self) -> "Carrying":
        """No derivative passes."""
        self.trace.stopped = True
        return Carrying(self.trace, self.value, {}, self.passed)

    def unit_mean(self) -> "Carrying":
        """Mean over the units, of which a unit's own share is 1/H."""
        value = self.value.mean(axis=-1, keepdims=True)
        return self._made(value, [(self, 1 / self.value.shape[-1])])

    @staticmethod
    def where_(condition: Any, a: Any, b: Any) -> "Carrying":
        """Return a where the condition holds, else b."""
        value = np.where(condition, _value(a), _value(b))
        parts: Parts = [
            (side, slope)
            for side, slope in ((a, condition), (b, ~np.asarray(condition)))
            if isinstance(side, Carrying)
        ]
        return parts[0][0]._made(value, parts)


@dataclass(frozen=True)
class Block:
    """A block of the recurrent matrix whose product with the step's vector is known.

    The product counts as a constant; what its operand has passed is on the product's paths too.
    """

    product: Carrying

    def __matmul__(self, other: Any) -> Carrying:
        parts: Parts = [(self.product, 0.0)]
        if isinstance(other, Carrying):
            parts.append((Carrying(other.trace, other.value, passed=other.passed), 0.0))
        return self.product._made(self.product.value, parts)


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Carrying) else operand
