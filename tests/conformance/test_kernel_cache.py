"""Compiled kernels on disk: never stale, and not needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import minirnn

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="the JIT is switched off: no kernels"
)
PACKAGE = Path(minirnn.__file__).parent
PROGRAM = """
import numpy as np, minirnn
layer = minirnn.RNN(1, 1, dtype="float64")
for parameter in layer.parameters():
    parameter.assign(np.full(parameter.shape, 0.5))
x = minirnn.Tensor(np.ones((2, 1, 1)), requires_grad=True)
output, _ = layer(x)
output[1].sum().backward()
print(output[1].item(), x.grad[1].item())
"""


def run(home, cache, **variables):
    """Run the program on the package in ``home``; returns h_2 and dh_2/dx_2."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "NUMBA_"))}
    environment |= {"MINIRNN_CACHE_DIR": str(cache), "HOME": os.devnull, "PYTHONPATH": str(home)}
    environment |= variables
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(float(word) for word in done.stdout.split())


def expected():
    """The program by hand: h = tanh(0.5 x + 0.5 h + 1)."""
    from math import tanh

    h = tanh(0.5 + 0.5 * tanh(1.5) + 1)
    return pytest.approx((h, 0.5 * (1 - h * h)), rel=1e-12)


@pytest.fixture
def home(tmp_path):
    """Give a copy of the package that can be edited."""
    shutil.copytree(PACKAGE, tmp_path / "minirnn", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_layer_works_where_nothing_can_be_written(home, tmp_path):
    # A folder below a file cannot be made, not even by root.
    (tmp_path / "file").write_text("")
    assert run(home, tmp_path / "file" / "kernels") == expected()


def test_layers_run_the_reference_where_the_jit_is_switched_off(home, tmp_path):
    cache = tmp_path / "kernels"
    assert run(home, cache, NUMBA_DISABLE_JIT="1") == expected()
    assert not list(cache.rglob("*.nb?"))


def test_kernels_come_from_the_cache_until_a_source_is_edited(home, tmp_path):
    cache = tmp_path / "kernels"
    assert run(home, cache) == expected()
    compiled = {p: p.stat().st_mtime_ns for p in cache.rglob("*.nbc")}
    assert compiled
    assert run(home, cache) == expected()
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.nbc")} == compiled

    # Not a file that defines a kernel: it emits the code of one.
    append(home / "minirnn/kernels/vector.py", "Vector.tanh = Vector.relu")
    h = 0.5 + 0.5 * 1.5 + 1
    value, _ = run(home, cache)
    assert value == pytest.approx(h, rel=1e-12)

    # Pure Python, two floors below: the rule of a derivative.
    append(home / "minirnn/equations/derive.py", 'RULES["tanh"] = lambda n, g: (neg(g),)')
    assert run(home, cache) == pytest.approx((h, -0.5), rel=1e-12)


def append(file, line):
    file.write_text(file.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
