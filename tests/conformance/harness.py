"""Build a layer for a drawn case, run it forward and backward, compare what comes out.

The numbers of a case come from its seed; all results are one dict of arrays by name.
"""

from dataclasses import dataclass

import numba
import numpy as np

import minirnn
from tests.strategies import Case

# Relative to the largest entry of each array: rounding of some hundred operations a step over at
# most ten steps. test_torch_layers.py holds the bounds that the project promises.
TOLERANCE = {"float64": 1e-11, "float32": 1e-4}
# Gradients are sums of terms of order 1, which may cancel: below this, rounding is absolute.
SMALL = 0.1
KERNELS_OFF = bool(numba.config.DISABLE_JIT)


@dataclass(frozen=True)
class Data:
    """Inputs and cotangents.  x: (T, B, I).  state0, d_state: tuples of (L*D, B, H).  d_output: (T, B, D*H)."""  # noqa: E501

    x: np.ndarray
    state0: tuple[np.ndarray, ...]
    d_output: np.ndarray
    d_state: tuple[np.ndarray, ...]


def build(cell, case: Case, dtype="float64"):
    """Make the layer of a case."""
    return minirnn.Recurrent(
        cell,
        case.I,
        case.H,
        num_layers=case.L,
        bias=case.bias,
        bidirectional=case.bidirectional,
        dtype=dtype,
        seed=case.seed,
    )


def draw(layer, case: Case, dtype="float64"):
    """Draw inputs and cotangents for a case."""
    rng = np.random.default_rng(case.seed)
    directions = 1 + case.bidirectional
    states = len(layer.cell.state)

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    rows = (case.L * directions, case.B, case.H)
    return Data(
        x=normal(case.T, case.B, case.I),
        state0=tuple(0.5 * normal(*rows) for _ in range(states)),
        d_output=normal(case.T, case.B, directions * case.H),
        d_state=tuple(normal(*rows) for _ in range(states)),
    )


def pack(states):
    """Give one array for one state, a tuple for several: what a layer takes."""
    return states[0] if len(states) == 1 else tuple(states)


def unpack(state):
    """Give a tuple, whatever the number of states."""
    return state if isinstance(state, tuple) else (state,)


def leaves(data):
    """Make the inputs of a run, as Tensors that take gradients: x and a tuple of states."""
    x = minirnn.Tensor(data.x, requires_grad=True)
    return x, tuple(minirnn.Tensor(s, requires_grad=True) for s in data.state0)


def weighted(output, states, data):
    """Scalar loss with the cotangents of ``data``."""
    loss = (output * data.d_output).sum()
    for state, d_state in zip(states, data.d_state, strict=True):
        loss = loss + (state * d_state).sum()
    return loss


def gradients(layer, x, state0):
    """Gradients of inputs and parameters by name, zeros where there is none."""
    named = {"x": x, **{f"state0.{k}": s for k, s in zip(layer.cell.state, state0, strict=True)}}
    named |= dict(layer.named_parameters())
    return {
        f"d {name}": np.zeros(t.shape, t.dtype) if t.grad is None else np.array(t.grad)
        for name, t in named.items()
    }


def run(layer, data, lengths=None):
    """Forward and backward; everything that comes out, by name."""
    layer.zero_grad()
    x, state0 = leaves(data)
    output, state = layer(x, pack(state0), lengths=lengths)
    weighted(output, unpack(state), data).backward()
    results = {"output": np.array(output.numpy())}
    for k, value in zip(layer.cell.state, unpack(state), strict=True):
        results[f"state.{k}"] = np.array(value.numpy())
    return results | gradients(layer, x, state0)


def parameters(layer, suffix="_l0"):
    """Parameters of one level and direction as arrays, without the suffix."""
    return {
        name.removesuffix(suffix): np.array(t.numpy())
        for name, t in layer.named_parameters()
        if name.endswith(suffix)
    }


def assert_close(actual, expected, tolerance, name="", small=0.0):
    """Compare arrays relative to the largest entry of ``expected``, or to ``small``."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    if actual.size == 0:
        return
    scale = max(np.abs(expected).max(), small) or 1.0
    error = np.abs(actual - expected).max() / scale
    assert error <= tolerance, f"{name}: relative error {error:.2e} exceeds {tolerance:.0e}"


def assert_all_close(actual, expected, tolerance):
    """Compare two dicts of arrays, name by name."""
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_close(actual[name], value, tolerance, name)


def assert_agrees(actual, expected, dtype, name=""):
    """Compare what two ways of computing give in a dtype."""
    assert_close(actual, expected, TOLERANCE[str(dtype)], name, SMALL)


def assert_all_agree(actual, expected, dtype):
    """The same for two dicts of arrays, name by name."""
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_agrees(actual[name], value, dtype, name)


def assert_same_bits(actual, expected, name=""):
    """Compare arrays bit by bit; +0 and -0 count as equal, NaN equals NaN.

    With the JIT switched off layers run the reference on BLAS, whose sums depend on the shape of
    the whole product: there, up to rounding.
    """
    if KERNELS_OFF:
        return assert_agrees(actual, expected, np.asarray(expected).dtype, name)
    return np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected), err_msg=name)


def assert_all_same_bits(actual, expected):
    """Compare two dicts of arrays bit by bit."""
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_same_bits(actual[name], value, name)
