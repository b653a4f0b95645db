"""sigmoid and tanh of the kernels, in units of the last place, over the whole range of a dtype."""

import numba
import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from minirnn.kernels.vector import Vector
from tests.matrix import FULL_MATRIX

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="the JIT is switched off: no kernels"
)
ULP = 4  # the bound of the project
LONG = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant


def compiled(function, dtype):
    """Make a function that maps a 1-d array through the vector code of ``function``."""

    @intrinsic
    def one_vector(context, source, target):
        def emit(_context, builder, _signature, arguments):
            vector = Vector(builder, dtype)
            address, destination = arguments
            vector.store(getattr(vector, function)(vector.load(address)), destination)

        return types.void(types.uint64, types.uint64), emit

    @njit
    def loop(source, target, count, width):
        for j in range(count):
            one_vector(np.uint64(source + j * width), np.uint64(target + j * width))

    def apply(x):
        padded = np.zeros(-(-x.size // 64) * 64, dtype)
        padded[: x.size] = x
        out = np.empty_like(padded)
        lanes = Vector(None, dtype).lanes
        width = lanes * padded.itemsize
        loop(padded.ctypes.data, out.ctypes.data, padded.size // lanes, width)
        return out[: x.size]

    return apply


def exactly(function, x):
    """Value in the next wider type; sigmoid without overflow."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    if function == "tanh":
        return np.tanh(wide)
    e = np.exp(-abs(wide))
    return np.where(wide < 0, e, 1) / (1 + e)


def every_part_of_the_range(dtype):
    """Bit patterns at equal distances, both signs, subnormal numbers included; finite ones."""
    bits = np.uint32 if dtype == "float32" else np.uint64
    count = 40_000_000 if FULL_MATRIX else 2_000_000
    step = (2 ** (8 * np.dtype(bits).itemsize) - 1) // count
    patterns = np.arange(count, dtype=bits) * bits(step) + bits(step // 3)
    x = patterns.view(dtype)
    return x[np.isfinite(x)]


def units_in_the_last_place(actual, exact, dtype):
    """Distance in units of the last place of the exact value; one chunk of the range."""
    spacing = np.spacing(np.abs(exact).astype(dtype)).astype(exact.dtype)
    return np.abs(actual.astype(exact.dtype) - exact) / spacing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_values_are_within_four_units_of_the_last_place(function, dtype):
    if dtype == "float64" and not LONG:
        pytest.skip("this machine has no floating-point type wider than float64")
    apply = compiled(function, dtype)
    # Where the function bends, bit patterns are too far apart: add a fine linear grid.
    near = np.linspace(-110, 110, 400_001).astype(dtype)
    for x in (near, *np.array_split(every_part_of_the_range(dtype), 8)):
        error = units_in_the_last_place(apply(x), exactly(function, x), dtype)
        worst = error.argmax()
        assert error[worst] <= ULP, f"{function}({x[worst]!r}) is off by {error[worst]:.1f} ulp"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_nan_stays_nan_and_infinities_saturate(function, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0], dtype)
    least = 0.0 if function == "sigmoid" else -1.0
    middle = 0.5 if function == "sigmoid" else 0.0
    expected = np.array([np.nan, 1, least, 1, least, middle, middle], dtype)
    np.testing.assert_array_equal(compiled(function, dtype)(x), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh_is_odd_bit_for_bit(dtype):
    x = np.linspace(0, 30, 100_001).astype(dtype)
    tanh = compiled("tanh", dtype)
    np.testing.assert_array_equal(tanh(-x), -tanh(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["exp", "log", "sqrt", "rsqrt"])
def test_the_other_functions_agree_with_numpy(function, dtype):
    x = np.geomspace(1e-30, 80, 50_001).astype(dtype)
    wide = x.astype(np.longdouble if dtype == "float64" else np.float64)
    exact = 1 / np.sqrt(wide) if function == "rsqrt" else getattr(np, function)(wide)
    error = units_in_the_last_place(compiled(function, dtype)(x), exact, dtype)
    assert error.max() <= ULP
