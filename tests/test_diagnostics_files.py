"""A report as Markdown for a pull request, as PNG and as PDF."""

import struct
from dataclasses import replace

import pytest

from diagnostics.__main__ import main
from diagnostics.markdown import MAX_LINES, markdown
from diagnostics.page.pictures import pictures
from diagnostics.rules import RULES, TABLE, Verdict
from tests.full_report import full_report
from tests.toy_report import toy_report


@pytest.fixture(scope="module")
def report():
    return toy_report()


@pytest.fixture(scope="module")
def one_picture(report):
    """Quick to draw: one run and its lag gain."""
    subject = report.subjects[0]
    bare = replace(subject, quantities={"lag_gain": subject.quantities["lag_gain"]})
    return replace(report, subjects=[bare], verdicts=report.verdicts[:3])


def everything_wrong(report, runs):
    """A report on so many runs in which every rule warns and fails."""
    subjects = [replace(report.subjects[0], name=f"run {k}") for k in range(runs)]
    verdicts = [
        Verdict(
            rule, level, 1.0, 0.5, (0.9, 1.1), "the fact | with a bar", TABLE[rule].remedy, s.name
        )
        for rule in RULES
        for level in ("warn", "fail")
        for s in subjects
    ]
    return replace(report, subjects=subjects, verdicts=verdicts)


def test_markdown_begins_with_verdicts_and_their_remedies(report):
    lines = markdown(report).splitlines()
    assert lines[0] == f"## {report.title}" and lines[2].startswith("Verdicts: ")
    assert lines[4].startswith("| verdict | rule | way out |")
    assert lines[6].startswith("| **fail** | R1 vanishing | a gated cell")
    assert "rnn, clipped; rnn, unclipped" in lines[6]


def test_markdown_holds_the_main_numbers_with_their_intervals(report):
    text = markdown(report)
    rows = [row for row in text.splitlines() if row.startswith("| gru, clipped |")]
    gain = report["gru, clipped", "lag_gain"]
    assert len(rows) == 1 and f"at lag {len(gain.value) - 1}" in rows[0] and "[" in rows[0]
    assert "| run | what is left of a gradient |" in text


def test_markdown_tells_the_evidence_of_the_worst_run():
    small = Verdict("R1", "fail", 1e-9, 1e-6, None, "nearly nothing", "do this", "a")
    smaller = replace(small, value=1e-12, evidence="even less", subject="b")
    text = markdown(replace(toy_report(), subjects=[], verdicts=[small, smaller]))
    assert "| a; b | even less |" in text


@pytest.mark.parametrize("runs", [1, 6, 40])
def test_markdown_is_at_most_a_screen_and_its_tables_hold_together(report, runs):
    lines = markdown(everything_wrong(report, runs)).splitlines()
    assert len(lines) <= MAX_LINES
    # A bar in a cell is escaped, so that every row has the five columns of its head.
    assert {row.replace("\\|", "").count("|") for row in lines if row.startswith("| **")} == {6}


@pytest.mark.parametrize("runs", [1, 6, 40])
def test_the_printed_report_has_at_most_25_lines_however_much_is_wrong(report, runs):
    text = str(everything_wrong(report, runs))
    assert len(text.splitlines()) <= 25
    assert all(f"way out of {rule} {title}" in text for rule, title in RULES.items())


def test_markdown_of_a_report_without_anything_is_still_markdown(report):
    text = markdown(replace(report, subjects=[], verdicts=[]))
    assert text.startswith("## Six runs") and "no verdicts" in text


def test_every_picture_becomes_a_png_of_its_name(one_picture, tmp_path):
    paths = one_picture.to_png(tmp_path / "figures")
    assert [path.name for path in paths] == ["lag-gain.png"]
    data = paths[0].read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data.startswith(b"\x89PNG") and width == 4.5 * 160 and height > 400
    one_picture.to_png(tmp_path / "figures")
    assert paths[0].read_bytes() == data  # the same again gives the same bytes


def test_all_pictures_stand_in_one_pdf_a_page_each(report, tmp_path):
    path = tmp_path / "figures.pdf"
    full = full_report()
    full.to_pdf(path)
    data = path.read_bytes()
    assert data.startswith(b"%PDF") and data.rstrip().endswith(b"%%EOF")
    assert data.count(b"/Type /Page ") == len(pictures(full))
    assert b"CreationDate" not in data and b"matplotlib" not in data.lower()


def test_a_pdf_is_the_same_bytes_every_time(one_picture, tmp_path):
    for name in ("one.pdf", "two.pdf"):
        one_picture.to_pdf(tmp_path / name)
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()


@pytest.mark.parametrize(
    ("option", "name", "made"),
    [("--figures", "pictures", "pictures/lag-gain.png"), ("--figures", "all.pdf", "all.pdf"),
     ("--markdown", "run.md", "run.md")],
)  # fmt: skip
def test_the_command_writes_them_too(option, name, made, one_picture, tmp_path, capsys):
    one_picture.to_json(tmp_path / "run.json")
    arguments = ["report", str(tmp_path / "run.json"), "--out", str(tmp_path / "page.html")]
    assert main([*arguments, option, str(tmp_path / name)]) == 0
    assert (tmp_path / made).stat().st_size > 100
    kind = option.removeprefix("--")
    assert f"{kind}: {tmp_path / name}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--figures", "missing/pictures", "does not exist; make it first"),
        ("--figures", "missing/all.pdf", "does not exist; make it first"),
        ("--figures", "run.json", "is a file; pass the name of a folder"),
        ("--markdown", "missing/run.md", "does not exist; make it first"),
    ],
)
def test_a_place_that_cannot_be_written_is_known_before_anything_is(
    option, name, words, one_picture, tmp_path, capsys
):
    one_picture.to_json(tmp_path / "run.json")
    arguments = ["report", str(tmp_path / "run.json"), "--out", str(tmp_path / "page.html")]
    assert main([*arguments, option, str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
