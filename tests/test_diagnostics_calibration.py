"""The calibration: verdicts against networks whose truth is known, and its document."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import minirnn
from diagnostics import calibration
from diagnostics.calibration import BAND, MARGINS, NOT_ESTIMATED, by_margin, markdown, table
from diagnostics.rules import RULES
from diagnostics.zoo import CALIBRATED, FAST, Grid, Trial, calibrate
from diagnostics.zoo.foretold import markdown as foretold
from diagnostics.zoo.gates import SPREAD, flat_at, mean_slope, stuck_at
from diagnostics.zoo.rates import median_gain
from diagnostics.zoo.trained import Plan, Run

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "calibration.md"


@pytest.fixture(scope="module")
def trials():
    return calibrate(FAST)


def test_no_verdict_is_wrong_around_any_threshold(trials):
    assert not [trial for trial in trials if trial.wrong]


def test_most_that_is_clear_is_judged_and_one_sequence_says_little(trials):
    rows = {(row.rule, row.batch): row for row in table(trials)}
    for (rule, batch), row in rows.items():
        if batch == 1 and rule in ("R1", "R2", "R3", "R5"):  # one sequence is too little
            assert row.found == 0 and row.far_open == row.far
        elif batch > 1:
            # Fractions of units cannot be far from their threshold, 0.1 or 0.3, on both sides.
            assert rule == "R7" or (row.far_open == 0 and row.found > row.bad / 2), row
        assert row.alarms == 0 and row.far + row.near == row.trials


def test_the_zoo_lies_on_both_sides_of_the_thresholds(trials):
    """Half of the networks around each threshold on each side: 1 of 4 ok, 2 warn, 1 fail.

    Fractions of units end at 1, R6's and R8's limits lie close together, and a peak below 2
    counts as none, which R3's truth jumps over.
    """
    for rule in CALIBRATED:
        truths = Counter(t.truth for t in trials if t.rule == rule)
        quarter = sum(truths.values()) / 4
        if rule in ("R1", "R2", "R5", "R7", "R12"):
            assert truths == {"ok": quarter, "warn": 2 * quarter, "fail": quarter}, rule
        assert truths.keys() == {"ok", "warn", "fail"} and truths["ok"] > 0
        assert {t.near for t in trials if t.rule == rule} == {True, False}


def test_every_rule_is_calibrated_or_the_document_says_why_not():
    assert {*CALIBRATED, *NOT_ESTIMATED, "R14"} == set(RULES)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_limits_of_units_are_those_of_sampled_gates(activation, rng):
    """The formulas of R6's and R7's truth beside a million draws."""
    noise = SPREAD * rng.standard_normal(1_000_000)
    act = np.tanh if activation == "tanh" else lambda a: 1 / (1 + np.exp(-a))
    edge, least = (0.97, 0.2) if activation == "tanh" else (0.9, 0.05)
    # One in a thousand: the spread of such a share, 0.22, over the root of a million is 0.0002.
    assert np.mean(act(noise + stuck_at(activation)) > edge) == pytest.approx(0.95, abs=1e-3)
    a = act(noise + flat_at(activation))
    slopes = 1 - a * a if activation == "tanh" else a * (1 - a)
    assert mean_slope(activation, flat_at(activation)) == pytest.approx(least, abs=1e-9)
    assert np.mean(slopes) == pytest.approx(least, abs=1e-3)


def test_the_median_gain_of_constant_jacobians_is_that_of_matrix_powers(rng):
    w, v = rng.standard_normal((4, 4)), rng.standard_normal((3, 5, 4))
    gain = median_gain(np.broadcast_to(w, (6, 5, 4, 4)), v / np.linalg.norm(v, axis=-1)[..., None])
    power = np.linalg.matrix_power(w, 6)
    expected = np.median(np.linalg.norm(v @ power, axis=-1) / np.linalg.norm(v, axis=-1))
    assert gain[0] == 1.0
    # Six products of 4 x 4: rounding only.
    assert gain[6] == pytest.approx(expected, rel=1e-12)


def test_rows_count_what_happened():
    made = [
        Trial("R1", 8, 1.0, "warn", "warn"),
        Trial("R1", 8, 1.0, "ok", "fail"),
        Trial("R1", 8, 0.1, "fail", "inconclusive"),
        Trial("R1", 8, 0.1, "fail", "warn"),
    ]
    (row,) = table(made)
    assert (row.trials, row.bad, row.found, row.alarms) == (4, 3, 1, 1)
    assert (row.far, row.far_wrong, row.near, row.near_wrong, row.near_open) == (2, 1, 2, 1, 1)


def test_margins_count_every_trial_once():
    made = [
        Trial("R1", 8, 0.0, "warn", "warn"),
        Trial("R1", 8, 0.1, "ok", "inconclusive"),
        Trial("R1", 8, BAND, "fail", "inconclusive"),
        Trial("R1", 8, 0.8, "fail", "warn"),
        Trial("R1", 8, 50.0, "fail", "fail"),
        Trial("R5", 8, 1.5, "ok", "ok"),
    ]
    found = {(rule, high): counts for rule, _, high, *counts in by_margin(made)}
    assert len(found) == 2 * (len(MARGINS) - 1)
    assert {key: counts for key, counts in found.items() if any(counts)} == {
        ("R1", 0.1): [1, 0, 1], ("R1", BAND): [0, 0, 1], ("R1", 1.0): [0, 1, 0],
        ("R1", np.inf): [1, 0, 0], ("R5", 2.0): [1, 0, 0],
    }  # fmt: skip


def test_a_reduced_zoo_makes_a_document_of_the_committed_form(trials):
    """Headings and rules are the same; the numbers are those of another grid."""
    made, kept = markdown(trials, FAST) + foretold([RUN], Plan()), committed()
    heads = [[line for line in text.splitlines() if line.startswith("#")] for text in (made, kept)]
    assert heads[0] == heads[1]
    firsts = [
        [line.split(" | ")[:2] for line in rows(text, "rule | margin")] for text in (made, kept)
    ]
    assert firsts[0] == firsts[1]


def test_the_command_writes_the_half_that_is_asked_for(monkeypatch, capsys):
    """Stand-ins for the work of minutes."""
    monkeypatch.setattr(calibration, "train_zoo", lambda told: told(RUN) or [RUN])
    monkeypatch.setattr(calibration, "calibrate", list)
    monkeypatch.setattr(minirnn, "set_num_threads", lambda count: None)
    calibration.main(["--trained"])
    out, err = capsys.readouterr()
    assert out == "\n" + foretold([RUN], Plan()) and err == "adding T=50 gru: loss 0.500\n"
    calibration.main([])
    assert capsys.readouterr().out == markdown([], Grid())


RUN = Run(
    task="adding", steps=50, updates=1, cell="gru", init="orthogonal", bias="0", lag=49, gain=0.1,
    vanishing="ok", memory=1.0, memory_level="ok", loss=0.1, baseline=0.2,
)  # fmt: skip


def committed():
    return DOCUMENT.read_text(encoding="utf-8")


def rows(text, head):
    """Cut the table that begins with these names of columns out of a document."""
    lines = text[text.index(head) :].splitlines()[2:]
    table = lines[: lines.index("")] if "" in lines else lines
    return [line.strip("| ") for line in table]


def test_the_committed_document_is_of_the_grid_and_seed_that_the_code_has():
    text, grid = committed(), Grid()
    written = markdown([], grid).splitlines()
    told, counted = text.splitlines()[2], text.splitlines()[4]
    assert told == written[2] and "seed 0" in told
    # Each rule with its two thresholds.
    count = len(CALIBRATED) * 2 * grid.networks * len(grid.distances) * len(grid.batches)
    assert re.fullmatch(rf"With minirnn \S+ and NumPy \S+: {count} verdicts\.", counted)


def test_the_committed_document_has_no_wrong_verdict_and_its_tables_agree():
    text, grid = committed(), Grid()
    by_batch = [line.split(" | ") for line in rows(text, "rule | B")]
    assert {(row[0].split()[0], int(row[1])) for row in by_batch} == {
        (rule, batch) for rule in CALIBRATED for batch in grid.batches
    }
    for row in by_batch:
        assert row[5].startswith("0 of ") and row[7].startswith("0 of "), row
    margins = [line.split(" | ") for line in rows(text, "rule | margin")]
    for rule in CALIBRATED:
        own = [[int(n) for n in row[2:]] for row in margins if row[0].split()[0] == rule]
        total = sum(int(row[2]) for row in by_batch if row[0].split()[0] == rule)
        assert sum(map(sum, own)) == total
        assert not any(wrong for _, wrong, _ in own)
        assert sum(open_ for _, _, open_ in own) == sum(
            int(row[k].split()[0]) for row in by_batch if row[0].split()[0] == rule for k in (6, 8)
        )
