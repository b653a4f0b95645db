"""The machine itself: what bounds every row of the tables."""

import numpy as np
import pytest

from bench import bounds, entry, environment, measure, peers, surroundings
from bench.peak import CHAINS, peak
from bench.turns import spread, take_turns
from minirnn.kernels.tile import HEIGHTS

SIZE = 1024  # of the large product
TILES = [(HEIGHTS[nv], nv) for nv in HEIGHTS if nv in (max(HEIGHTS), max(HEIGHTS) - 1)]


def record(benchmark, what, durations, amount, unit, **info):
    """Make an entry of a rate: so much of a unit per second."""
    rate = amount / spread(durations).median / 1e9
    entry.record(
        benchmark, f"machine, {measure.threads_label()}", durations, kind="machine", what=what,
        rate=round(rate, 1), unit=unit, best=round(amount / min(durations) / 1e9, 1),
        threads=environment.threads(), **info, **surroundings.describe(),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chains", CHAINS)
@pytest.mark.parametrize("threads", [measure.threads_label()])
@pytest.mark.benchmark(timer=entry.clock)
def test_multiply_and_add_in_independent_chains(benchmark, dtype, chains, threads):
    limit = peak(dtype, environment.threads())
    durations, amount = limit.rounds[chains]
    record(benchmark, f"peak, {chains} chains, {dtype}", durations, amount, "GF/s")


@pytest.mark.parametrize("rows, nv", TILES)
@pytest.mark.parametrize("level", ["L1", "L2"])
@pytest.mark.parametrize("threads", [measure.threads_label()])
@pytest.mark.benchmark(timer=entry.clock)
def test_the_register_tile_on_data_in_a_cache(benchmark, level, rows, nv, threads):
    durations, amount = bounds.tile_rate(level, environment.threads(), rows, nv)
    record(benchmark, f"tile {rows}x{nv}, panels in {level}", durations, amount, "GF/s")


@pytest.mark.parametrize("level", bounds.LEVELS)
@pytest.mark.parametrize("threads", [measure.threads_label()])
@pytest.mark.benchmark(timer=entry.clock)
def test_reading_from_a_cache(benchmark, level, threads):
    durations, amount = bounds.bandwidth(level, environment.threads())
    record(benchmark, f"read from {level}", durations, amount, "GB/s", **bounds.cache_bytes(level))


def product(library):
    """Return a large product of a library, results on its own kind of array."""
    a = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    if library == "torch":
        import torch

        peers.load(library, environment.threads())
        t = torch.tensor(a)
        return lambda: torch.mm(t, t)
    if library == "jax":
        import jax

        peers.load(library, environment.threads())
        j, mm = jax.numpy.asarray(a), jax.jit(lambda x: x @ x)
        return lambda: mm(j).block_until_ready()
    return lambda: a @ a


@pytest.mark.parametrize("library", ["torch", "jax", "numpy"])
@pytest.mark.parametrize("threads", [measure.threads_label()])
@pytest.mark.benchmark(timer=entry.clock)
def test_the_large_product_of_a_library(benchmark, library, threads):
    measure.need(library)
    (durations,) = take_turns({library: product(library)}, measure.budget(0.5)).values()
    record(benchmark, f"{library}: product of {SIZE} x {SIZE}", durations, 2 * SIZE**3, "GF/s")
