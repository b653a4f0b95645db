"""Cells that Hypothesis makes up pass what the registry's cells pass.

Every new cell is compiled, which takes seconds: few examples, and no shrinking.
"""

import pytest
from hypothesis import Phase, given, settings

from tests.conformance.checks import CHECKS, one_and_two_threads_agree_bit_for_bit
from tests.conformance.numeric import NUMERIC_CHECKS, the_reference_passes_gradcheck
from tests.conformance.watching import WATCH_CHECKS
from tests.matrix import FULL_MATRIX
from tests.strategies import cases, programs, smooth_programs

# Two threads want a large layer, which is another compilation.
THREADS = (one_and_two_threads_agree_bit_for_bit,) if FULL_MATRIX else ()
CHECKS_HERE = CHECKS + WATCH_CHECKS + THREADS

few = settings(max_examples=10 if FULL_MATRIX else 4, phases=(Phase.explicit, Phase.generate))


@pytest.mark.parametrize(
    "dtype", ["float64", pytest.param("float32", marks=pytest.mark.conformance)]
)
@few
@given(program=programs(), case=cases())
def test_a_cell_made_up_from_the_grammar_conforms(dtype, program, case):
    cell = program.cell()
    for check in CHECKS_HERE:
        check(cell, case, dtype)


@few
@given(program=smooth_programs(), case=cases(max_steps=5, max_batch=3, units=(1, 2, 3, 5)))
def test_a_smooth_cell_made_up_from_the_grammar_agrees_with_numeric_derivatives(program, case):
    cell = program.cell()
    for check in (*NUMERIC_CHECKS, the_reference_passes_gradcheck):
        check(cell, case)
