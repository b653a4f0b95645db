"""The closed forms that a user can run: all hold, and a wrong number is a miss."""

import json

import numpy as np
import pytest

from diagnostics import closed_forms
from diagnostics.__main__ import main
from diagnostics.closed_forms import ROWS, Outcome, matrices, outcomes

# The rows of the two tables of closed forms, and two that are no rows there.
GRADIENT_FLOW = {
    "orthogonal matrix", "normal matrix", "permutation, Householder, rotation",
    "rho times orthogonal", "non-normal matrix", "Jordan block", "LSTM without recurrent weights",
    "LSTM at the zero fixed point", "GRU at the zero fixed point", "GRU without recurrent weights",
    "ReLU with positive weights", "identity ReLU network", "a loss at every step",
    "TBPTT of a linear scalar", "TBPTT of any cell", "clipping by norm", "scale of the loss",
    "steps after the last loss, padding", "permuted and duplicated batch",
    "clipping inside the graph", "range of float32",
}  # fmt: skip
LYAPUNOV = {
    "constant matrix", "orthogonal", "cat map", "logistic map", "Henon map",
    "products of random matrices", "sum of all exponents", "scalar tanh",
    "tanh network without input", "LSTM and GRU at the zero fixed point",
    "LSTM with its cell state left out", "the first k of all", "QR every q steps",
    "coverage of the intervals",
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return list(outcomes())


def test_every_closed_form_holds(found):
    misses = [(o.row, o.name, o.error, o.tolerance) for o in found if not o.holds]
    assert not misses
    assert len({o.name for o in found}) == len(found)


def test_every_row_of_both_tables_is_run(found):
    assert {table: set(rows) for table, rows in ROWS.items()} == {
        closed_forms.GRADIENTS: GRADIENT_FLOW, closed_forms.EXPONENTS: LYAPUNOV,
    }  # fmt: skip
    assert {o.row for o in found} == {f"{t}: {row}" for t, rows in ROWS.items() for row in rows}


def test_a_tolerance_of_rounding_is_tight_and_every_other_has_its_reason(found):
    for o in found:
        assert o.reason
        if o.reason in ("rounding", closed_forms.outcome.ROUNDED):
            assert o.tolerance <= 1e-10
        if o.reason == "exact":
            assert o.tolerance == 0.0


def off(real):
    """A quantity whose last number is wrong by a millionth."""

    def changed(*arguments, **options):
        gain = real(*arguments, **options)
        gain.value[-1] *= 1 + 1e-6
        return gain

    return changed


def only(monkeypatch, *rows):
    """Leave just these rows of the first table."""
    table = ROWS[closed_forms.GRADIENTS]
    kept = {closed_forms.GRADIENTS: {row: table[row] for row in rows}}
    monkeypatch.setattr(closed_forms, "ROWS", kept)


def test_a_quantity_that_is_off_is_a_miss(monkeypatch):
    only(monkeypatch, "rho times orthogonal", "identity ReLU network")
    monkeypatch.setattr(matrices, "lag_gain", off(matrices.lag_gain))
    missed = {o.name for o in outcomes() if not o.holds}
    assert {"0.8 times orthogonal: G(k) = rho^k", "identity ReLU network: G(k) = 1"} <= missed


def test_the_command_counts_and_exits_with_0(monkeypatch, capsys):
    only(monkeypatch, "normal matrix", "identity ReLU network")
    assert main(["check"]) == 0
    streams = capsys.readouterr()
    assert streams.out.splitlines() == [
        "holds  gradient flow: normal matrix (1)",
        "holds  gradient flow: identity ReLU network (1)",
        "2 closed forms in 2 rows: all hold",
    ]
    assert streams.err == ""


def test_a_miss_is_named_and_the_command_exits_with_1(monkeypatch, capsys):
    only(monkeypatch, "normal matrix", "identity ReLU network")
    monkeypatch.setattr(matrices, "lag_gain", off(matrices.lag_gain))
    assert main(["check", "--json"]) == 1
    streams = capsys.readouterr()
    assert "MISS   gradient flow: identity ReLU network (1)" in streams.err
    assert "G(k) = 1: off by 1e-06, 1e-12 allowed (rounding, grown" in streams.err
    assert streams.err.splitlines()[-1] == "2 closed forms in 2 rows: 1 miss"
    document = json.loads(streams.out, parse_constant=lambda name: pytest.fail(name))
    assert (document["schema"], document["holds"]) == ("minirnn.diagnostics.check", False)
    assert [o["holds"] for o in document["outcomes"]] == [True, False]


def test_an_error_that_is_not_finite_is_a_miss_and_json_all_the_same(monkeypatch, capsys):
    def broken(rng):
        yield Outcome("nothing", np.nan, 1.0, 1e-12, "rounding")

    monkeypatch.setattr(closed_forms, "ROWS", {"table": {"row": broken}})
    assert main(["check", "--json"]) == 1
    (outcome,) = json.loads(capsys.readouterr().out)["outcomes"]
    assert outcome["error"] == "nan" and outcome["holds"] is False


@pytest.mark.parametrize(
    ("found", "truth", "holds"),
    [
        (1.0, 1.0, True),
        ([1.0, 2.0 + 1e-9], [1.0, 2.0], True),
        ([1.0, 2.0 + 1e-7], [1.0, 2.0], False),
        (np.nan, 1.0, False),
        ([-np.inf, 1e-9], [-np.inf, 0.0], True),
        ([-np.inf], [0.0], False),
        ("warn", "warn", True),
        ("warn", "ok", False),
    ],
)
def test_an_outcome_holds_within_its_tolerance(found, truth, holds):
    assert Outcome("", found, truth, 1e-8, "").holds is holds
