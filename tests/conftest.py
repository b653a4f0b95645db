"""Settings of the whole suite: Hypothesis profiles, the seeded generator, the full matrix."""

import os

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.matrix import FULL_MATRIX

# No deadline: the first call of a kernel compiles it. Derandomized: a run says the same everywhere;
# `--hypothesis-profile=explore` draws anew each time.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, database=None, max_examples=12, **_COMMON)
settings.register_profile("full", derandomize=True, database=None, max_examples=16, **_COMMON)
settings.register_profile("explore", max_examples=120, **_COMMON)
settings.load_profile("full" if FULL_MATRIX else "ci")


def pytest_configure(config):
    """Let layers overflow in silence where they run the reference: NumPy warns, kernels do not."""
    if numba.config.DISABLE_JIT:
        what = "(overflow|invalid value) encountered in"
        config.addinivalue_line("filterwarnings", f"ignore:{what}:RuntimeWarning")


def pytest_collection_modifyitems(config, items):
    """Leave out what has a target of its own, unless its variable asks for it.

    That is the conformance matrix (MINIRNN_CONFORMANCE=1) and the pages in a browser
    (MINIRNN_BROWSER=1).
    """
    asked = {"conformance": FULL_MATRIX, "browser": os.environ.get("MINIRNN_BROWSER") == "1"}
    marks = [mark for mark, wanted in asked.items() if not wanted]
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def rng():
    """Give the random numbers of one test: the same on every run."""
    return np.random.default_rng(20261120)


@pytest.fixture(scope="session")
def torch():
    """PyTorch: a visible skip where it is missing, an error where the full matrix needs it."""
    if FULL_MATRIX:
        import torch
    else:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed: make conformance")
    torch.set_num_threads(1)
    return torch
