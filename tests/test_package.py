"""The package as a whole: what importing it costs, what it says of itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import minirnn

ROOT = Path(__file__).resolve().parents[1]


def test_importing_minirnn_imports_neither_numpy_nor_numba():
    program = "import sys, minirnn; print([m for m in ('numpy', 'numba') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_version_is_written_the_same_in_both_places():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == minirnn.__version__


def test_a_name_that_is_not_public_is_an_attribute_error():
    assert not hasattr(minirnn, "Recurent")
    assert set(dir(minirnn)) == set(minirnn.__all__)


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line
