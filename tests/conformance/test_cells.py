"""The conformance suite over the registry: a new cell is in it by being registered."""

import pytest
from hypothesis import given

from minirnn import cells
from minirnn.equations.symbols import postorder
from tests.conformance.checks import CHECKS, fused_forward_and_backward_equal_the_reference
from tests.conformance.numeric import NUMERIC_CHECKS
from tests.conformance.watching import (
    WATCH_CHECKS,
    carried_gradients_obey_the_recurrence_with_the_numeric_jacobian,
)
from tests.strategies import Case, cases

# `make test` compiles every cell in float64 and these in float32; `make conformance` the rest.
ALSO_FLOAT32 = ("rnn", "lstm", "gru")

CELLS_AND_DTYPES = [
    pytest.param(
        name,
        dtype,
        marks=() if dtype == "float64" or name in ALSO_FLOAT32 else pytest.mark.conformance,
    )
    for name in cells.names()
    for dtype in ("float64", "float32")
]


def passes_gradients_everywhere(name):
    """Whether no ``stop`` hides a part of the function from the gradient."""
    return all(node.op != "stop" for node in postorder(cells.get(name).outputs))


@pytest.mark.parametrize("check", CHECKS + WATCH_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "dtype"), CELLS_AND_DTYPES)
@given(case=cases())
def test_a_registered_cell_conforms(name, dtype, check, case):
    check(name, case, dtype)


@pytest.mark.parametrize(
    "check",
    (*NUMERIC_CHECKS, carried_gradients_obey_the_recurrence_with_the_numeric_jacobian),
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("name", [k for k in cells.names() if passes_gradients_everywhere(k)])
@given(case=cases(max_steps=5, max_batch=3, units=(1, 2, 3, 5)))
def test_a_registered_cell_agrees_with_numeric_derivatives(name, check, case):
    check(name, case)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "case",
    [
        Case(T=3, B=70, I=130, H=261),
        Case(T=2, B=1, I=515, H=300),
        Case(T=40, B=33, I=5, H=40, lengths=tuple(range(4, 37))),
        Case(T=1, B=300, I=1, H=1),
        Case(T=300, B=2, I=1, H=2),
    ],
    ids=lambda c: f"T{c.T} B{c.B} I{c.I} H{c.H}",
)
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_sizes_beyond_every_block_equal_the_reference(name, case, dtype):
    """Sizes larger than any tile, panel or chunk, and one of everything."""
    fused_forward_and_backward_equal_the_reference(name, case, dtype)
