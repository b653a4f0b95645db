"""Packed weights: every number where the tile looks for it, zeros where there is none."""

import numpy as np
import pytest

from minirnn.kernels import spread, threads
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.kernels.pack import lanes_of, pack_plain, pack_transposed

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="packing is for kernels")


def panels(b, first_row, width):
    """Lay B (K, C) out in panels by the definition: a row to start from, then the rows of B."""
    cuts = [slice(c, c + width) for c in range(0, b.shape[1], width)]
    rows = np.concatenate([first_row[None], b])
    return np.concatenate([rows[:, cut].reshape(-1) for cut in cuts])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vectors", [1, 2, 4, 5])
@pytest.mark.parametrize("depth", [0, 1, 15, 16, 37])
def test_panels_of_the_transposed_hold_the_rows_asked_for(rng, depth, vectors, bias, dtype):
    lanes, rows = lanes_of(np.dtype(dtype)), 11
    source = rng.standard_normal((rows, depth)).astype(dtype)
    columns = rng.integers(-1, rows, vectors * lanes)
    given = rng.standard_normal(rows).astype(dtype) if bias else None
    there = columns >= 0
    expected = np.where(there, source[columns].T, 0)
    start = np.where(there, given[columns], 0) if bias else np.zeros(len(columns), dtype)
    packed = pack_transposed(source, columns, given, 4 * lanes)
    np.testing.assert_array_equal(packed, panels(expected, start, 4 * lanes))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 16, 33, 70])
@pytest.mark.parametrize("depth", [0, 1, 9])
def test_panels_of_a_matrix_hold_its_rows_filled_up_with_zeros(rng, depth, columns, dtype):
    lanes = lanes_of(np.dtype(dtype))
    source = rng.standard_normal((5, columns)).astype(dtype)
    rows = rng.integers(-1, 5, depth)
    padded = -(-columns // lanes) * lanes
    expected = np.zeros((depth, padded), dtype)
    expected[:, :columns] = np.where(rows[:, None] >= 0, source[rows], 0)
    packed = pack_plain(source, rows, 2 * lanes)
    np.testing.assert_array_equal(packed, panels(expected, np.zeros(padded, dtype), 2 * lanes))


def test_two_threads_pack_what_one_packs(rng, monkeypatch):
    source = rng.standard_normal((40, 21))
    monkeypatch.setattr(spread, "REGION", 0)
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_threads", count)
        packed = pack_transposed(source, np.arange(40), None, 16)
        found.append((packed, pack_plain(source, np.arange(40), 16)))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
