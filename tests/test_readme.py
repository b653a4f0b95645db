"""The README's code runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

from minirnn import cells

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def names():
    """What the blocks define, one after the other, as in one session."""
    return {}


@pytest.mark.parametrize("block", BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_a_block_of_the_readme_runs_and_prints(block, names, capsys):
    exec(compile(block, str(README), "exec"), names)
    assert capsys.readouterr().out.strip()


def test_the_first_block_has_ten_lines_and_prints_a_gradient(capsys):
    names = {}
    exec(compile(BLOCKS[0], str(README), "exec"), names)
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 10
    assert np.abs(names["lstm"].weight_hh_l0.grad).max() > 0
    assert capsys.readouterr().out.splitlines()[0] == "(128, 32)"


def test_every_file_that_the_readme_names_exists():
    for name in re.findall(r"`((?:minirnn|diagnostics|tests)/[\w./]+)`", TEXT):
        assert (README.parent / name).exists(), name


def test_every_target_that_the_readme_names_is_in_the_makefile():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_cell_that_the_readme_names_is_registered():
    table = TEXT[TEXT.index("## Cells") : TEXT.index("## Comparing")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"_write"}
    assert len(named) > 30 and named <= set(cells.names())
