"""The calibration: verdicts against networks whose truth is known, and its document."""

from pathlib import Path

import pytest

from diagnostics import calibration
from diagnostics.calibration import FAST, Grid, Trial, calibrate, markdown, table

DOCUMENT = Path(calibration.__file__).with_name("CALIBRATION.md")


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


def test_the_document_is_what_the_calibration_writes_and_holds_no_wrong_verdict():
    text, grid = DOCUMENT.read_text(encoding="utf-8"), Grid()
    head = markdown([], grid).splitlines()
    assert text.splitlines()[: len(head)] == head
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[len(head) :]]
    assert {(row[0][:2], int(row[1])) for row in rows} == {
        (rule, batch) for rule in ("R1", "R2", "R5", "R8") for batch in grid.batches
    }
    for row in rows:
        assert row[5].startswith("0 of ") and row[7].startswith("0 of "), row
