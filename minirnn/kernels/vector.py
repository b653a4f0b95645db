"""LLVM vector values: load, store, arithmetic and the elementary functions on whole vectors.

`Vector` wraps an LLVM builder, for one dtype at the width of `MACHINE`. Nothing here may assume
anything about NaN or infinity: NaN comes out as NaN, sigmoid and tanh saturate.
"""

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from minirnn.kernels.machine import MACHINE

I64 = ir.IntType(64)
I32 = ir.IntType(32)
ITEMSIZE = {"float32": 4, "float64": 8}


class Vector:
    """Emit vector code for a dtype ("float32" or "float64") through an LLVM builder.

    A value holds ``rows`` machine vectors side by side. Two of them that take the same way through
    long chains of dependent operations take little more time than one.
    """

    def __init__(self, builder: Any, dtype: str, rows: int = 1, width: int = 0) -> None:
        self.b = builder
        self.dtype = dtype
        self.rows = rows
        self.size = ITEMSIZE[dtype]
        self.width = width or MACHINE.lanes(self.size)  # of one row; by default a machine vector
        self.lanes = rows * self.width
        self.scalar = ir.FloatType() if dtype == "float32" else ir.DoubleType()
        self.bits = ir.IntType(8 * self.size)
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.ints = ir.VectorType(self.bits, self.lanes)
        self.bytes = self.size * self.lanes

    # Memory. Addresses are 64-bit integers; strides are bytes.

    def pointer(self, address: Any, kind: Any = None) -> Any:
        return self.b.inttoptr(address, (kind or self.type).as_pointer())

    def load(self, address: Any) -> Any:
        return self.b.load(self.pointer(address), align=self.size)

    def store(self, value: Any, address: Any) -> None:
        self.b.store(value, self.pointer(address), align=self.size)

    def load_rows(self, addresses: Sequence[Any]) -> Any:
        """Return the machine vectors at ``rows`` addresses side by side."""
        one = Vector(self.b, self.dtype, width=self.width)
        value = one.load(addresses[0])
        for n, address in enumerate(addresses[1:], 2):
            value = self._join(value, one.load(address), (n - 1) * self.width)
        return value

    def store_rows(self, value: Any, addresses: Sequence[Any], past_caches: bool = False) -> None:
        """Write each machine vector of a value to an address.

        past_caches: whole cache lines, which begin at these addresses, are sent to memory without
        being fetched first.
        """
        one = Vector(self.b, self.dtype, width=self.width)
        for n, address in enumerate(addresses):
            if past_caches:
                kept = self.b.store(self._part(value, n), one.pointer(address), align=one.bytes)
                kept.set_metadata("nontemporal", self.b.module.add_metadata([I32(1)]))
            else:
                one.store(self._part(value, n), address)

    def _join(self, left: Any, right: Any, count: int) -> Any:
        """Put a machine vector behind ``count`` lanes."""
        if count > self.width:  # operands of a shuffle have one type
            right = self._shuffle(right, [min(i, self.width - 1) for i in range(count)])
        return self._shuffle(left, range(count + self.width), right)

    def _part(self, value: Any, n: int) -> Any:
        if self.rows == 1:
            return value
        return self._shuffle(value, range(n * self.width, (n + 1) * self.width))

    def _shuffle(self, left: Any, order: Sequence[int], right: Any = None) -> Any:
        right = ir.Constant(left.type, ir.Undefined) if right is None else right
        mask = ir.Constant(ir.VectorType(I32, len(order)), list(order))
        return self.b.shuffle_vector(left, right, mask)

    def widen(self, value: Any) -> Any:
        """Return a value of one number a row, each in all lanes of its row."""
        return self._shuffle(value, [n for n in range(self.rows) for _ in range(self.width)])

    def load_scalar(self, address: Any) -> Any:
        return self.b.load(self.pointer(address, self.scalar), align=self.size)

    # Values

    def const(self, value: float) -> Any:
        return ir.Constant(self.type, [float(value)] * self.lanes)

    def int_const(self, value: int) -> Any:
        return ir.Constant(self.ints, [value] * self.lanes)

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(first, undefined, zeros)

    def intrinsic(self, name: str, *args: Any) -> Any:
        kind = ir.FunctionType(self.type, [self.type] * len(args))
        full = f"llvm.{name}.v{self.lanes}f{8 * self.size}"
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, full), args)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return ``a * b + c``, fused where the machine can."""
        if MACHINE.fma:
            return self.intrinsic("fma", a, b, c)
        return self.b.fadd(self.b.fmul(a, b), c)

    def keep_lanes(self, value: Any, count: Any) -> Any:
        """Return each row's first ``count`` lanes (a 64-bit integer, any sign), 0 in the rest."""
        lane = ir.Constant(self.ints, list(range(self.width)) * self.rows)
        limit = self.b.trunc(count, self.bits) if self.size == 4 else count
        first = self.b.insert_element(ir.Constant(self.ints, ir.Undefined), limit, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        limits = self.b.shuffle_vector(first, ir.Constant(self.ints, ir.Undefined), zeros)
        return self.b.select(self.b.icmp_signed("<", lane, limits), value, self.const(0.0))

    def sum_lanes(self, x: Any) -> Any:
        """Return the sum over the lanes, by halves: always in the same order."""
        width = self.lanes
        undefined = ir.Constant(self.type, ir.Undefined)
        while width > 1:
            width //= 2
            order = [i + width if i < width else 0 for i in range(self.lanes)]
            moved = self.b.shuffle_vector(
                x, undefined, ir.Constant(ir.VectorType(I32, self.lanes), order)
            )
            x = self.b.fadd(x, moved)
        return self.b.extract_element(x, I32(0))

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return self.b.select(condition, a, b)

    def less(self, a: Any, b: Any) -> Any:
        return self.b.fcmp_ordered("<", a, b)

    def less_equal(self, a: Any, b: Any) -> Any:
        return self.b.fcmp_ordered("<=", a, b)

    def prefetch(self, address: Any, write: bool = False, level: int = 1) -> None:
        """Ask for the line at an address, to be read or written, in a cache of this level."""
        line = self.b.inttoptr(address, ir.IntType(8).as_pointer())
        flags = [I32(int(write)), I32(4 - level), I32(1)]
        kind = ir.FunctionType(ir.VoidType(), [line.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        self.b.call(function, [line, *flags])

    def abs(self, x: Any) -> Any:
        return self.intrinsic("fabs", x)

    def clamp_low(self, x: Any, low: float) -> Any:
        """Return max(x, low); NaN stays NaN."""
        bound = self.const(low)
        return self.where(self.less(x, bound), bound, x)

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        """Evaluate by Horner's rule; the coefficient of the highest power first."""
        value = self.const(coefficients[0])
        for c in coefficients[1:]:
            value = self.fma(value, x, self.const(c))
        return value

    # Exponentials. x = n ln 2 + r with |r| <= ln(2)/2; exp(x) = 2^n (1 + p(r)).

    def _reduce(self, x: Any) -> tuple[Any, Any, Any]:
        """Return n as the low bits of an integer vector, n as floats, and p(r) = exp(r) - 1."""
        fraction = 23 if self.size == 4 else 52
        magic = self.const(1.5 * 2.0**fraction)  # adding it rounds to a whole number
        shifted = self.fma(x, self.const(1 / math.log(2)), magic)
        n = self.b.fsub(shifted, magic)
        # ln 2 in two parts; the first has so few digits that n times it is exact.
        high, low = (0.693359375, -2.12194440e-4) if self.size == 4 else (
            6.93147180369123816490e-01, 1.90821492927058770002e-10)  # fmt: skip
        r = self.fma(n, self.const(-low), self.fma(n, self.const(-high), x))
        # Taylor: the first term left out is below a quarter ulp, r^7/8! and r^13/14! of r.
        last = 7 if self.size == 4 else 13
        tail = self.polynomial(r, [1 / math.factorial(k) for k in range(last, 1, -1)])
        p = self.fma(self.b.fmul(r, r), tail, r)
        return self.b.bitcast(shifted, self.ints), n, p

    def _power_of_two(self, n: Any) -> Any:
        """Return 2^n, -126 <= n <= 127 (float32), for whole n in the low bits of an integer."""
        bias, fraction = (127, 23) if self.size == 4 else (1023, 52)
        moved = self.b.shl(self.b.add(n, self.int_const(bias)), self.int_const(fraction))
        return self.b.bitcast(moved, self.type)

    def exp(self, x: Any) -> Any:
        """Exponential, gradual underflow and overflow to infinity included."""
        least, most = (-104.5, 89.0) if self.size == 4 else (-746.0, 710.0)
        x = self.clamp_low(x, least)
        top = self.const(most)
        x = self.where(self.less(top, x), top, x)
        bits, _, p = self._reduce(x)
        # n in two halves, since 2^n alone may not be a normal number.
        fraction = 23 if self.size == 4 else 52
        n = self.b.sub(bits, self.b.bitcast(self.const(1.5 * 2.0**fraction), self.ints))
        half = self.b.ashr(n, self.int_const(1))
        first, second = self._power_of_two(half), self._power_of_two(self.b.sub(n, half))
        return self.b.fmul(self.fma(p, first, first), second)

    def sigmoid(self, x: Any) -> Any:
        """Logistic function, accurate for negative x too: e = exp(-|x|), then e or 1 over 1 + e."""
        e = self.exp(self.b.fneg(self.abs(x)))
        one = self.const(1.0)
        numerator = self.where(self.less(x, self.const(0.0)), e, one)
        return self.b.fdiv(numerator, self.b.fadd(one, e))

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent: m = exp(-2|x|) - 1 without cancellation, then -m / (2 + m)."""
        y = self.b.fmul(self.abs(x), self.const(-2.0))
        y = self.clamp_low(y, -19.0 if self.size == 4 else -40.0)  # tanh is 1 beyond
        bits, _, p = self._reduce(y)
        scale = self._power_of_two(bits)
        m = self.fma(p, scale, self.b.fsub(scale, self.const(1.0)))
        t = self.b.fdiv(m, self.b.fadd(self.const(2.0), m))  # -tanh|x|
        return self.intrinsic("copysign", t, x)

    # The rest of the cell language

    def log(self, x: Any) -> Any:
        return self.intrinsic("log", x)

    def sqrt(self, x: Any) -> Any:
        return self.intrinsic("sqrt", x)

    def rsqrt(self, x: Any) -> Any:
        return self.b.fdiv(self.const(1.0), self.sqrt(x))

    def relu(self, x: Any) -> Any:
        return self.where(self.less_equal(x, self.const(0.0)), self.const(0.0), x)

    def maximum(self, a: Any, b: Any) -> Any:
        """Greater of two; NaN if either is NaN."""
        picked = self.where(self.less(a, b), b, a)
        return self.where(self.b.fcmp_unordered("uno", b, b), b, picked)

    def minimum(self, a: Any, b: Any) -> Any:
        """Smaller of two; NaN if either is NaN."""
        picked = self.where(self.less(b, a), b, a)
        return self.where(self.b.fcmp_unordered("uno", b, b), b, picked)

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        x = self.where(self.less(x, low), low, x)
        return self.where(self.less(high, x), high, x)

    def power(self, x: Any, exponent: float) -> Any:
        """Constant power: by products for small whole exponents, else by the C library's pow."""
        whole = abs(exponent)
        if whole == int(whole) and whole <= 16:
            value, square, n = None, x, int(whole)
            while n:
                if n & 1:
                    value = square if value is None else self.b.fmul(value, square)
                n >>= 1
                if n:
                    square = self.b.fmul(square, square)
            return value if exponent > 0 else self.b.fdiv(self.const(1.0), value)
        return self.intrinsic("pow", x, self.const(exponent))
