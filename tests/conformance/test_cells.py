"""The conformance suite over the registry: a new cell is in it by being registered.

Every cell passes every check on fixed cases: in `make test` in float64, in `make conformance` in
both dtypes and three vector widths. Cases are drawn for the cells that between them have all that a
kernel can do, and in one of the widths for every cell.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from minirnn import cells
from minirnn.equations.symbols import postorder
from tests.conformance.checks import (
    CHECKS,
    fused_forward_and_backward_equal_the_reference,
    one_and_two_threads_agree_bit_for_bit,
)
from tests.conformance.numeric import NUMERIC_CHECKS, the_reference_passes_gradcheck
from tests.conformance.watching import WATCH_CHECKS
from tests.matrix import DRAW_EVERY_CELL, FULL_MATRIX
from tests.strategies import Case, cases

# Cells whose cases are drawn in `make test` too, and those of them that are compiled in float32.
ALSO_DRAWN = ("rnn", "rnn_relu", "rnn_logistic", "lstm", "lstm_peephole", "gru", "gru_before")
ALSO_FLOAT32 = ("rnn", "lstm", "gru")


def cells_and_dtypes(of, in_float64, in_float32):
    """Parameters (name, dtype), marked ``conformance`` where they stay out of `make test`."""
    return [
        pytest.param(name, dtype, marks=() if name in quick else pytest.mark.conformance)
        for name in of
        for dtype, quick in (("float64", in_float64), ("float32", in_float32))
    ]


EVERY_CELL = cells_and_dtypes(cells.names(), set(cells.names()) - set(ALSO_DRAWN), ())
DRAWN = cells_and_dtypes(cells.names() if DRAW_EVERY_CELL else ALSO_DRAWN, ALSO_DRAWN, ALSO_FLOAT32)
FIXED = [
    Case(T=5, B=4, I=3, H=9, L=2, bidirectional=True, seed=7),
    Case(T=6, B=5, I=2, H=17, L=1, lengths=(6, 0, 3, 5, 1), seed=8),
]


def passes_gradients_everywhere(name):
    """Whether no ``stop`` hides a part of the function from the gradient."""
    return "stop" not in operations(name)


def operations(name):
    """Operations of a cell's equations."""
    return {node.op for node in postorder(cells.get(name).outputs)}


def well_posed(name, case):
    """Give a cell that normalises three units where two were drawn.

    Two normalised units are +1 and -1 whatever their input: the derivative is rounding.
    """
    return replace(case, H=3) if case.H == 2 and "mean" in operations(name) else case


@pytest.mark.parametrize(("name", "dtype"), EVERY_CELL)
def test_a_registered_cell_conforms_in_fixed_cases(name, dtype):
    for case in FIXED:
        for check in CHECKS + WATCH_CHECKS:
            check(name, case, dtype)
    if FULL_MATRIX:  # large, hence other tiles and another compilation
        one_and_two_threads_agree_bit_for_bit(name, FIXED[0], dtype)
    if dtype == "float64" and passes_gradients_everywhere(name):
        for check in (*NUMERIC_CHECKS, the_reference_passes_gradcheck):
            check(name, Case(T=4, B=2, I=3, H=5, seed=9))


@pytest.mark.parametrize("check", CHECKS + WATCH_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "dtype"), DRAWN)
@given(case=cases())
def test_a_registered_cell_conforms(name, dtype, check, case):
    check(name, well_posed(name, case), dtype)


@pytest.mark.parametrize(("name", "dtype"), DRAWN)
@settings(max_examples=1)  # the sizes are fixed, and large
@given(case=cases())
def test_a_registered_cell_gives_the_same_bits_on_two_threads(name, dtype, case):
    one_and_two_threads_agree_bit_for_bit(name, case, dtype)


@pytest.mark.parametrize("name", ALSO_DRAWN)
@settings(max_examples=3)  # two forward passes for every number: slow
@given(case=cases(max_steps=3, max_batch=2, units=(2, 3)))
def test_the_reference_of_a_registered_cell_passes_gradcheck(name, case):
    the_reference_passes_gradcheck(name, case)


@pytest.mark.parametrize("check", NUMERIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ALSO_DRAWN)
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


@pytest.mark.conformance
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru_before"])
def test_every_count_of_vectors_of_units_equals_the_reference(name, dtype):
    """Tiles grow with the hidden size: from one vector, and a part of one, to many."""
    for units in (*range(1, 36), *range(39, 150, 8)):
        case = Case(T=3, B=7, I=5, H=units, seed=units)
        fused_forward_and_backward_equal_the_reference(name, case, dtype)
