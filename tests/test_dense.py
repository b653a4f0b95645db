"""Linear through the kernels: any layout of rows, any sizes, against the recorded operations."""

import contextlib

import numpy as np
import pytest

from minirnn.engine import grad
from minirnn.engine.tape import constant
from minirnn.layers.linear import Linear
from minirnn.layers.reference import use_reference


def wide(x):
    """Show x as the first columns of wider rows that hold NaN behind them."""
    rows = np.full((*x.shape[:-1], x.shape[-1] + 37), np.nan, x.dtype)
    rows[..., : x.shape[-1]] = x
    return rows[..., : x.shape[-1]]


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "part of wider rows": wide,
    "batch before time": lambda x: x.swapaxes(0, 1).copy().swapaxes(0, 1),
    "every other column": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "one row for all": lambda x: np.broadcast_to(x[:1, :1], x.shape),
}


def leaf(array):
    """Make a leaf around this very memory."""
    made = constant(array)
    made.requires_grad = True
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (16, 16), (37, 65), (5, 33)])
def test_rows_and_gradients_may_lie_in_memory_in_any_way(rng, inputs, outputs, dtype, layout):
    layer = Linear(inputs, outputs, dtype=dtype, seed=0)
    x = LAYOUTS[layout](rng.standard_normal((3, 4, inputs)).astype(dtype))
    dy = LAYOUTS[layout](rng.standard_normal((3, 4, outputs)).astype(dtype))
    results = []
    for context in (contextlib.nullcontext, use_reference):
        with context():
            read = leaf(x)
            y = layer(read)
            found = grad(y, [read, *layer.parameters()], constant(dy))
        results.append([y.numpy(), *(g.numpy() for g in found)])
    for fused, plain in zip(*results, strict=True):
        assert fused.shape == plain.shape and fused.dtype == dtype
        # Sums of at most 65 products of size 1 in another order.
        np.testing.assert_allclose(fused, plain, rtol=0, atol=60 * np.finfo(dtype).eps)


def test_no_rows_give_no_output_and_gradients_of_zero():
    layer = Linear(3, 2, seed=0)
    x = leaf(np.zeros((0, 5, 3), np.float32))
    y = layer(x)
    assert y.shape == (0, 5, 2)
    dx, dw, db = grad(y.sum(), [x, *layer.parameters()])
    assert dx.shape == x.shape
    assert not dw.numpy().any() and not db.numpy().any()
