"""Expression nodes: what a cell's function computes with while it is traced.

Every value of a traced cell is one vector over the hidden units of one sequence at one step.
Nodes are hash-consed: two equal expressions are one object, so that ``r * h`` written twice is one
operand and identity is structural equality.
"""

import weakref
from typing import Any, ClassVar, NoReturn

Number = int | float
_NO_EQUALITY = " on a quantity of the step is not in the cell language; use where(a < b, x, y)"
_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "lt": "<",
    "le": "<=",
    "mod": "%",
}


class CellError(ValueError):
    """A cell's equations break a rule of the cell language."""


class Symbol:
    """A node of an expression graph.

    ``op`` names the operation; ``args`` holds Symbols, and for some operations plain data:
    ``leaf`` (kind, name), ``const`` (value,), ``pow`` (base, exponent),
    ``product`` (block, operand), ``pull`` (blocks, du...), ``mod`` (t, divisor).
    """

    __slots__ = ("__weakref__", "args", "op")
    _interned: ClassVar["weakref.WeakValueDictionary[Any, Symbol]"] = weakref.WeakValueDictionary()

    op: str
    args: tuple[Any, ...]

    def __new__(cls, op: str, *args: Any) -> "Symbol":
        key = (op, *(("#", id(a)) if isinstance(a, Symbol) else _data_key(a) for a in args))
        node = cls._interned.get(key)
        if node is None:
            node = super().__new__(cls)
            node.op, node.args = op, args
            cls._interned[key] = node
        return node

    @property
    def operands(self) -> tuple["Symbol", ...]:
        """The Symbols among the arguments."""
        return tuple(a for a in self.args if isinstance(a, Symbol))

    def __repr__(self) -> str:
        return self._text(depth=4)

    def _text(self, depth: int) -> str:
        """Write the expression, cut below some depth: shared parts would grow exponentially."""
        if self.op == "leaf":
            return self.args[1] if self.args[0] == "time" else f"{self.args[0]}.{self.args[1]}"
        if self.op == "const":
            return f"{self.args[0]:g}"
        if depth == 0:
            return "..."
        parts = [a._text(depth - 1) if isinstance(a, Symbol) else str(a) for a in self.args]
        if self.op == "product":
            return f"u.{parts[0]} @ {parts[1]}"
        if self.op in _INFIX:
            return f"({f' {_INFIX[self.op]} '.join(parts)})"
        return f"{self.op}({', '.join(parts)})"

    # Arithmetic. Trivial cases are simplified here, so that derived graphs stay small.

    def __add__(self, other: Any) -> "Symbol":
        return add(self, lift(other))

    def __radd__(self, other: Any) -> "Symbol":
        return add(lift(other), self)

    def __sub__(self, other: Any) -> "Symbol":
        return sub(self, lift(other))

    def __rsub__(self, other: Any) -> "Symbol":
        return sub(lift(other), self)

    def __mul__(self, other: Any) -> "Symbol":
        return mul(self, lift(other))

    def __rmul__(self, other: Any) -> "Symbol":
        return mul(lift(other), self)

    def __truediv__(self, other: Any) -> "Symbol":
        return div(self, lift(other))

    def __rtruediv__(self, other: Any) -> "Symbol":
        return div(lift(other), self)

    def __neg__(self) -> "Symbol":
        return neg(self)

    def __pos__(self) -> "Symbol":
        return self

    def __pow__(self, exponent: Any) -> "Symbol":
        if isinstance(exponent, Symbol):
            raise CellError(
                "the exponent of ** must be a number; write exp(b * log(a)) for a power of vectors"
            )
        return power(self, _number(exponent))

    def __rpow__(self, base: Any) -> NoReturn:
        raise CellError(
            f"{base} ** v is not in the cell language; write exp(c * v) with the number "
            f"c = log({base})"
        )

    def __mod__(self, divisor: Any) -> "Symbol":
        if not (self.op == "leaf" and self.args[0] == "time"):
            raise CellError("% works on the index of the step only, with t on its left: t % c")
        return Symbol("mod", self, lift(divisor))

    def __lt__(self, other: Any) -> "Symbol":
        return Symbol("lt", self, lift(other))

    def __le__(self, other: Any) -> "Symbol":
        return Symbol("le", self, lift(other))

    def __gt__(self, other: Any) -> "Symbol":
        return Symbol("lt", lift(other), self)

    def __ge__(self, other: Any) -> "Symbol":
        return Symbol("le", lift(other), self)

    # The grammar's functions call these methods of their operand.

    def sigmoid(self) -> "Symbol":
        return Symbol("sigmoid", self)

    def tanh(self) -> "Symbol":
        return Symbol("tanh", self)

    def relu(self) -> "Symbol":
        return Symbol("relu", self)

    def exp(self) -> "Symbol":
        return Symbol("exp", self)

    def log(self) -> "Symbol":
        return Symbol("log", self)

    def sqrt(self) -> "Symbol":
        return Symbol("sqrt", self)

    def rsqrt(self) -> "Symbol":
        return Symbol("rsqrt", self)

    def abs(self) -> "Symbol":
        return Symbol("abs", self)

    __abs__ = abs

    def maximum(self, other: Any) -> "Symbol":
        return Symbol("maximum", self, lift(other))

    def minimum(self, other: Any) -> "Symbol":
        return Symbol("minimum", self, lift(other))

    def clip(self, low: Number, high: Number) -> "Symbol":
        return Symbol("clip", self, const(_number(low)), const(_number(high)))

    def stop(self) -> "Symbol":
        return Symbol("stop", self)

    def unit_mean(self) -> "Symbol":
        return Symbol("mean", self)

    @staticmethod
    def where_(condition: Any, a: Any, b: Any) -> "Symbol":
        if isinstance(condition, bool):
            return lift(a) if condition else lift(b)
        if not isinstance(condition, Symbol) or condition.op not in ("lt", "le"):
            raise CellError(
                f"the condition of where must be a comparison such as a < b, got {condition}"
            )
        return where_(condition, lift(a), lift(b))

    # What a symbol cannot do, each with the way out.

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise CellError("==" + _NO_EQUALITY)

    def __ne__(self, other: object) -> bool:
        raise CellError("!=" + _NO_EQUALITY)

    def __bool__(self) -> NoReturn:
        raise CellError(
            f"Python's if, and, or, not, min and max cannot ask for the value of {self}: it is not "
            "known when the equations are read; use where(a < b, x, y), maximum or minimum"
        )

    def __float__(self) -> NoReturn:
        raise CellError(
            f"{self} cannot be turned into a number; functions of the math module are not in the "
            "cell language, use those of minirnn: sigmoid, tanh, exp, log, sqrt ..."
        )

    __int__ = __float__
    __index__ = __float__

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> NoReturn:
        raise CellError(
            f"numpy.{ufunc.__name__} is not in the cell language; use minirnn's functions "
            "(sigmoid tanh relu exp log sqrt rsqrt abs maximum minimum clip stop where mean) "
            "with plain numbers"
        )

    def __getitem__(self, index: Any) -> NoReturn:
        raise CellError(
            f"{self}[...] is not in the cell language: a quantity is a whole vector over the units"
        )

    def __iter__(self) -> NoReturn:
        raise CellError(
            f"{self} cannot be iterated over: a quantity is a whole vector over the units"
        )

    def __matmul__(self, other: Any) -> NoReturn:
        raise CellError("the matrix stands on the left of @: write u.k @ v")

    __rmatmul__ = __matmul__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # protocol look-ups of Python and NumPy
            raise AttributeError(name)
        raise CellError(
            f"{self} has no attribute {name!r}: the operation is not in the cell language"
        )


def _data_key(value: Any) -> Any:
    """Tell 1.0 from True, and 0.0 from -0.0, which are equal as dictionary keys."""
    return (type(value).__name__, repr(value)) if isinstance(value, float) else value


def _number(value: Any) -> float:
    if isinstance(value, (bool, int, float)):
        return float(value)
    raise CellError(f"expected a Python number, got {type(value).__name__}")


def lift(value: Any) -> Symbol:
    """Turn a number into a constant; leave a Symbol as it is."""
    if isinstance(value, Symbol):
        return value
    if isinstance(value, (int, float)):
        return const(float(value))
    if isinstance(value, Block):
        value.refuse()
    raise CellError(
        f"{type(value).__name__} cannot take part in a cell's equations; use numbers, wx.k, "
        "prev.k, p.k and u.k @ v"
    )


def const(value: float) -> Symbol:
    """Return a constant, the same for every unit."""
    return Symbol("const", float(value))


def leaf(kind: str, name: str) -> Symbol:
    """Return a quantity given to the step: kinds are wx, prev, p, below, time, d."""
    return Symbol("leaf", kind, name)


def is_const(node: Symbol, value: float | None = None) -> bool:
    """Whether the node is a constant (of that value)."""
    return node.op == "const" and (value is None or node.args[0] == value)


def add(a: Symbol, b: Symbol) -> Symbol:
    """Return the sum, simplified."""
    if is_const(a) and is_const(b):
        return const(a.args[0] + b.args[0])
    if is_const(a, 0.0):
        return b
    if is_const(b, 0.0):
        return a
    if b.op == "neg":
        return sub(a, b.args[0])
    return Symbol("add", a, b)


def sub(a: Symbol, b: Symbol) -> Symbol:
    """Return the difference, simplified."""
    if is_const(a) and is_const(b):
        return const(a.args[0] - b.args[0])
    if is_const(b, 0.0):
        return a
    if is_const(a, 0.0):
        return neg(b)
    if b.op == "neg":
        return add(a, b.args[0])
    return Symbol("sub", a, b)


def neg(a: Symbol) -> Symbol:
    """Return the negative, simplified."""
    if is_const(a):
        return const(-a.args[0])
    return a.args[0] if a.op == "neg" else Symbol("neg", a)


def mul(a: Symbol, b: Symbol) -> Symbol:
    """Return the product, simplified; a constant 0 is an absent path, whatever it multiplies."""
    if is_const(a) and is_const(b):
        return const(a.args[0] * b.args[0])
    for one, other in ((a, b), (b, a)):
        if is_const(one, 0.0):
            return one
        if is_const(one, 1.0):
            return other
        if is_const(one, -1.0):
            return neg(other)
    return Symbol("mul", a, b)


def div(a: Symbol, b: Symbol) -> Symbol:
    """Return the quotient, simplified."""
    if is_const(b, 0.0):
        raise CellError("division by the constant 0")
    if is_const(a) and is_const(b):
        return const(a.args[0] / b.args[0])
    if is_const(b, 1.0) or is_const(a, 0.0):
        return a
    return Symbol("div", a, b)


def power(a: Symbol, exponent: float) -> Symbol:
    """Return a constant power; small whole powers become products."""
    if exponent == 0.0:
        return const(1.0)
    if exponent == 1.0:
        return a
    if exponent == 2.0:
        return mul(a, a)
    if is_const(a):
        return const(a.args[0] ** exponent)
    return Symbol("pow", a, float(exponent))


def where_(condition: Symbol, a: Symbol, b: Symbol) -> Symbol:
    """Return a choice by a comparison, simplified."""
    return a if a is b else Symbol("where", condition, a, b)


class Block:
    """A block of the recurrent matrix; ``u.k @ v`` is its product with a vector of the step."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __matmul__(self, operand: Any) -> Symbol:
        return Symbol("product", self._name, lift(operand))

    def refuse(self, *_: Any) -> NoReturn:
        """Raise: a block is a matrix, not a vector."""
        raise CellError(f"u.{self._name} is a matrix: write u.{self._name} @ v")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = refuse
    __truediv__ = __rtruediv__ = __pow__ = __lt__ = __le__ = __gt__ = __ge__ = refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.refuse()


def postorder(roots: list[Symbol] | tuple[Symbol, ...]) -> list[Symbol]:
    """Return every node below the roots, operands before their users."""
    order: list[Symbol] = []
    seen: set[Symbol] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((a, False) for a in reversed(node.operands) if a not in seen)
    return order
