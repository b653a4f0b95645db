"""The calibration: verdicts against networks whose truth is known, and its document."""

import re
from pathlib import Path

import numpy as np
import pytest

from diagnostics.calibration import BAND, MARGINS, by_margin, markdown, table
from diagnostics.zoo import FAST, Grid, Trial, calibrate

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "calibration.md"


@pytest.fixture(scope="module")
def trials():
    return calibrate(FAST)


def test_no_verdict_is_wrong_around_any_threshold(trials):
    assert not [trial for trial in trials if trial.wrong]


def test_most_that_is_clear_is_judged_and_one_sequence_says_little(trials):
    rows = {(row.rule, row.batch): row for row in table(trials)}
    for (rule, batch), row in rows.items():
        if batch == 1 and rule in ("R1", "R2"):  # one sample at the judged lag
            assert row.found == 0 and row.far_open == row.far
        elif batch > 1:
            assert row.far_open == 0 and row.found > row.bad / 2, row
        assert row.alarms == 0 and row.far + row.near == row.trials


def test_the_zoo_lies_on_both_sides_of_the_thresholds(trials):
    for rule in ("R1", "R2", "R5", "R8"):
        truths = {t.truth for t in trials if t.rule == rule}
        assert truths == {"ok", "warn", "fail"}, rule
        assert {t.near for t in trials if t.rule == rule} == {True, False}


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
    made, kept = markdown(trials, FAST), DOCUMENT.read_text(encoding="utf-8")
    heads = [[line for line in text.splitlines() if line.startswith("#")] for text in (made, kept)]
    assert heads[0] == heads[1]
    firsts = [
        [line.split(" | ")[:2] for line in rows(text, "rule | margin")] for text in (made, kept)
    ]
    assert firsts[0] == firsts[1]


def rows(text, head):
    """Cut the table that begins with these names of columns out of a document."""
    lines = text[text.index(head) :].splitlines()[2:]
    table = lines[: lines.index("")] if "" in lines else lines
    return [line.strip("| ") for line in table]


def test_the_committed_document_is_of_the_grid_and_seed_that_the_code_has():
    text, grid = DOCUMENT.read_text(encoding="utf-8"), Grid()
    written = markdown([], grid).splitlines()
    told, counted = text.splitlines()[2], text.splitlines()[4]
    assert told == written[2] and "seed 0" in told
    # R1, R2, R5 and R8, each with two thresholds.
    count = 4 * 2 * grid.networks * len(grid.distances) * len(grid.batches)
    assert re.fullmatch(rf"With minirnn \S+ and NumPy \S+: {count} verdicts\.", counted)


def test_the_committed_document_has_no_wrong_verdict_and_its_tables_agree():
    text, grid = DOCUMENT.read_text(encoding="utf-8"), Grid()
    by_batch = [line.split(" | ") for line in rows(text, "rule | B")]
    assert {(row[0][:2], int(row[1])) for row in by_batch} == {
        (rule, batch) for rule in ("R1", "R2", "R5", "R8") for batch in grid.batches
    }
    for row in by_batch:
        assert row[5].startswith("0 of ") and row[7].startswith("0 of "), row
    margins = [line.split(" | ") for line in rows(text, "rule | margin")]
    for rule in ("R1", "R2", "R5", "R8"):
        own = [[int(n) for n in row[2:]] for row in margins if row[0][:2] == rule]
        assert sum(map(sum, own)) == sum(int(row[2]) for row in by_batch if row[0][:2] == rule)
        assert not any(wrong for _, wrong, _ in own)
        assert sum(open_ for _, _, open_ in own) == sum(
            int(row[k].split()[0]) for row in by_batch if row[0][:2] == rule for k in (6, 8)
        )
