"""The report as data: lookup, JSON there and back, text, Markdown, files."""

import json
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diagnostics
from diagnostics.numbers import short, spelled, with_interval
from diagnostics.quantities.base import Cost, decode, encode, significant
from diagnostics.report import load_report
from tests.toy_report import toy_report


@pytest.fixture(scope="module")
def report():
    return toy_report()


@pytest.fixture(scope="module")
def single(report):
    return replace(report, subjects=report.subjects[:1], verdicts=report.verdicts[:3])


def test_a_quantity_is_found_by_its_name(report, single):
    assert single["lag_gain"].value[0] == 1.0
    assert report["gru, clipped", "lag_gain"].value[-1] == pytest.approx(1.0, rel=0.5)


def test_every_quantity_has_value_interval_how_and_cost(single):
    for quantity in single.subjects[0].quantities.values():
        assert quantity.value is not None and quantity.how
        assert isinstance(quantity.cost, Cost) and str(quantity.cost)
        assert hasattr(quantity, "ci")


def test_a_wrong_name_says_which_there_are(report, single):
    with pytest.raises(KeyError, match="several subjects"):
        report["lag_gain"]
    with pytest.raises(KeyError, match="no subject 'tcn'; it has"):
        report["tcn", "lag_gain"]
    with pytest.raises(KeyError, match="no quantity 'lyapunov'; it has"):
        single["lyapunov"]


def test_json_read_back_is_the_same_report(report, tmp_path):
    report.to_json(tmp_path / "run.json")
    again = load_report(tmp_path / "run.json")
    assert again.json() == report.json()
    assert list(again.verdicts) == list(report.verdicts)
    np.testing.assert_array_equal(
        again["rnn, clipped", "lag_gain"].ci, report["rnn, clipped", "lag_gain"].ci
    )


def test_json_is_strict_and_knows_its_schema(report):
    document = json.loads(report.json(), parse_constant=lambda name: pytest.fail(name))
    assert (document["schema"], document["schema_version"]) == ("minirnn.diagnostics", 1)
    assert "seconds" not in document


def test_seconds_are_there_only_when_asked_for():
    document = json.loads(toy_report(seconds={"train": 1.5}).json())
    assert document["seconds"] == {"train": 1.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is not a report"),
        ('{"schema": "minirnn.diagnostics", "schema_version": 99}', "has schema version 99"),
        ('{"schema": "minirnn.diagnostics", "schema_version": 1}', "is damaged"),
    ],
)
def test_a_file_that_is_no_report_is_refused(text, words, tmp_path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_report(tmp_path / "bad.json")


def test_a_report_with_a_missing_field_is_damaged(report, tmp_path):
    document = json.loads(report.json())
    del document["subjects"][0]["quantities"]["lag_gain"]["band"]
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"bad\.json is damaged"):
        load_report(tmp_path / "bad.json")


def test_numbers_that_json_has_no_word_for_survive():
    values = np.array([1.5, np.nan, np.inf, -np.inf])
    coded = encode(values)
    assert json.loads(json.dumps(coded, allow_nan=False)) == [1.5, "nan", "inf", "-inf"]
    np.testing.assert_array_equal(decode(coded), values)
    assert decode(["a", "b"]) == ["a", "b"]


def test_the_printed_report_has_the_worst_first_and_at_most_25_lines(report):
    lines = str(report).splitlines()
    assert len(lines) <= 25
    assert lines[0] == report.title
    assert lines[2].startswith("FAIL")
    many = replace(report, verdicts=list(report.verdicts) * 3)
    assert len(str(many).splitlines()) == 25
    assert "more: report.verdicts has them all" in str(many)


def test_exit_codes_follow_the_verdicts(report):
    assert report.exit_code("fail") == 1
    assert report.exit_code("R2") == 0
    assert replace(report, verdicts=[]).exit_code("warn") == 0


def test_a_file_is_replaced_whole_or_not_at_all(report, tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("before")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.to_json(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "missing/run.json"])
def test_a_place_that_cannot_be_written_is_an_error(report, tmp_path, name):
    with pytest.raises(OSError, match=r"is a folder|does not exist; make it first"):
        report.to_json(tmp_path / name)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (1.0, "1.0"),
        (0.01234, "0.012"),
        (1234.0, "1234"),
        (123456.0, "1.2×10⁵"),  # noqa: RUF001 - the sign itself is what is tested
        (1e-6, "10⁻⁶"),
        (-1.5e-7, "−1.5×10⁻⁷"),  # noqa: RUF001
        (9.999e-4, "0.0010"),
        (float("nan"), "NaN"),
        (float("-inf"), "−∞"),  # noqa: RUF001
    ],
)
def test_numbers_are_spelled_for_readers(number, text):
    assert short(number) == text


def test_an_interval_stands_behind_its_number():
    assert with_interval(0.5, (0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert with_interval(0.5, None) == with_interval(0.5, (np.nan, np.nan)) == "0.50"


def test_numbers_inside_a_sentence_are_spelled_too():
    assert spelled("1e-06 of 2.5e+20 is left") == "10⁻⁶ of 2.5×10²⁰ is left"  # noqa: RUF001


def test_rounding_keeps_significant_digits_and_what_is_not_finite():
    rounded = significant(np.array([[123456789.0, 1.23456789e-20], [np.nan, np.inf]]), 4)
    np.testing.assert_array_equal(rounded, [[123500000.0, 1.235e-20], [np.nan, np.inf]])


@given(st.lists(st.floats(), max_size=5), st.integers(1, 8))
def test_a_rounded_number_is_the_nearest_with_so_many_digits_and_is_written_with_them(xs, digits):
    for x, rounded in zip(xs, significant(np.array(xs), digits).tolist(), strict=True):
        if not math.isfinite(x) or x == 0:
            assert repr(rounded) == repr(x)
            continue
        exact = Fraction(x)
        unit = Fraction(10) ** (Decimal(x).adjusted() - digits + 1)
        nearest = abs(Fraction(rounded) - exact) <= unit / 2 * (1 + Fraction(1, 10**6))
        largest = math.isinf(float(f"{x:.{digits - 1}e}"))  # rounded up there is none
        assert (nearest and float(f"{rounded:.{digits - 1}e}") == rounded) or (
            largest and rounded == x
        )


def test_every_public_name_of_diagnostics_is_there():
    for name in diagnostics.__all__:
        assert getattr(diagnostics, name) is not None
    with pytest.raises(AttributeError, match="no public name 'torch_report'"):
        diagnostics.torch_report  # noqa: B018 - the access is the test
