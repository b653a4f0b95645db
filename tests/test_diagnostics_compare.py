"""compare: which subjects stand side by side, what is said to differ, what is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import diagnostics
from diagnostics.__main__ import main
from diagnostics.comparing.changes import Cell, change, compared
from diagnostics.comparing.pictures import look_of, pictures
from diagnostics.page.svg import canvas
from tests.test_diagnostics_page import Outline
from tests.toy_report import toy_report


@pytest.fixture(scope="module")
def report():
    return toy_report()


def only(report, place, name="", **settings):
    """A report with one subject, for instance of another name."""
    subject = report.subjects[place]
    verdicts = [v for v in report.verdicts if v.subject == subject.name]
    called = name or subject.name
    return replace(
        report,
        subjects=[replace(subject, name=called)],
        verdicts=[replace(v, subject=called) for v in verdicts],
        settings=dict(report.settings) | settings,
    )


@pytest.fixture(scope="module")
def three(report):
    """The vanilla network, LSTM and GRU, clipped: gains of 0.4, 0.9 and 1.0 per step."""
    runs = [only(report, 2 * k, start=start) for k, start in enumerate(("a", "b", "b"))]
    return diagnostics.compare(runs, names=["rnn", "lstm", "gru"])


@pytest.fixture(scope="module")
def files(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for place, name in ((0, "rnn"), (2, "lstm"), (4, "gru")):
        only(report, place).to_json(folder / f"{name}.json")
    report.to_json(folder / "six.json")
    return folder


def test_runs_of_one_subject_each_share_one_axes_whatever_they_are_called(three):
    (group,) = three.groups
    assert [s.name for s in group.members] == ["rnn, clipped", "lstm, clipped", "gru, clipped"]
    picture = next(p for p in pictures(three) if p.name == "lag-gain")
    with canvas(picture.height) as figure:
        picture.paint(figure)
        (axes,) = figure.axes
        for name, subject in zip(("rnn", "lstm", "gru"), group.members, strict=True):
            (line,) = [one for one in axes.get_lines() if one.get_label() == name]
            np.testing.assert_array_equal(line.get_ydata(), subject.quantities["lag_gain"].value)


def test_runs_of_several_subjects_are_compared_name_by_name(report):
    found = diagnostics.compare([report, report], names=["one", "two"])
    assert [g.title for g in found.groups] == [s.name for s in report.subjects]
    assert all(None not in group.members for group in found.groups)
    with pytest.raises(ValueError, match="must have a subject of one name in common"):
        other = replace(report, subjects=[replace(s, name=f"{s.name}!") for s in report.subjects])
        diagnostics.compare([report, other])


def test_one_subject_can_be_picked(report):
    found = diagnostics.compare([report, report], ["one", "two"], subject="gru, clipped")
    assert [s.name for s in found.groups[0].members] == ["gru, clipped"] * 2
    with pytest.raises(ValueError, match=r"run 1 has no subject 'tcn'; it has 'rnn, clipped'"):
        diagnostics.compare([report, report], subject="tcn")


def test_numbers_are_those_of_the_reports_at_one_lag(three):
    (group,), (lines,) = three.groups, three.numbers
    gain = lines[0]
    assert gain.name == f"G({group.lag}), left of a gradient"
    for cell, subject in zip(gain.cells, group.members, strict=True):
        assert cell.value == subject.quantities["lag_gain"].value[group.lag]
        assert cell.ci == tuple(subject.quantities["lag_gain"].ci[group.lag])


def test_gains_are_compared_at_the_smallest_lag_that_was_judged(report):
    early = only(report, 2)
    early = replace(early, verdicts=[replace(v, lag=v.lag and 5) for v in early.verdicts])
    found = diagnostics.compare([only(report, 0), early])
    assert found.groups[0].lag == 5


def test_higher_and_lower_are_said_only_where_the_intervals_do_not_meet(three):
    # The gains shrink by 0.4, 0.9 and 1.0 a step: 23 steps leave 7e-10, 0.09 and 1.
    assert [cell.change for cell in three.numbers[0][0].cells] == ["", "higher", "higher"]

    def cell(value, *ci):
        return Cell(value, ci or None, "")

    first = cell(1.0, 0.9, 1.1)
    assert change(first, cell(1.3, 1.2, 1.4)) == "higher"
    assert change(first, cell(0.5, 0.4, 0.6)) == "lower"
    assert change(first, cell(1.15, 1.1, 1.2)) == "no difference shown"  # they touch
    assert change(first, cell(9.0)) == ""  # counted or computed: no interval, nothing claimed
    cells = compared([None, first, cell(1.3, 1.2, 1.4)])
    assert cells[0] is None and [c.change for c in cells[1:]] == ["", "higher"]


def test_a_run_beside_itself_shows_no_difference(report):
    found = diagnostics.compare([report, report], names=["one", "again"])
    words = {
        cell.change for lines in found.numbers for line in lines for cell in line.cells if cell
    }
    assert words <= {"", "no difference shown"}
    assert found.settings == []


def test_settings_that_differ_are_shown_and_others_are_not(three):
    assert three.settings[0] == ("start", ["a", "b", "b"])
    assert ("cell", ["rnn", "lstm", "gru"]) in three.settings
    assert "seed" not in dict(three.settings)


def test_every_run_has_a_look_of_its_own(report):
    runs = [only(report, 0, start=str(k)) for k in range(7)]
    found = diagnostics.compare(runs)
    looks = [look_of(found, place) for place in range(7)]
    assert len({look.colour for look in looks}) == 7
    assert len({str(look.dashes) for look in looks}) > 3  # colour is not the only difference


@pytest.mark.parametrize("count", [0, 1, 8])
def test_only_two_to_seven_runs_fit(report, count):
    with pytest.raises(ValueError, match=f"runs must be two to 7, .* got {count}; "):
        diagnostics.compare([report] * count)


def test_what_cannot_be_compared_is_an_error(report):
    bare = replace(report, subjects=[replace(s, quantities={}) for s in report.subjects])
    with pytest.raises(ValueError, match="run 2 must hold a lag gain, it has none"):
        diagnostics.compare([report, bare])
    with pytest.raises(ValueError, match="names must be one per run, got 1 for 2"):
        diagnostics.compare([report, report], names=["one"])
    with pytest.raises(ValueError, match="names must differ, got a, a"):
        diagnostics.compare([report, report], names=["a", "a"])


def test_files_are_called_by_their_names_and_by_their_folders_where_those_are_the_same(
    files, tmp_path, report
):
    found = diagnostics.compare([files / "rnn.json", files / "gru.json"])
    assert [run.name for run in found.runs] == ["rnn", "gru"]
    (tmp_path / "b").mkdir()
    only(report, 0).to_json(tmp_path / "b" / "rnn.json")
    found = diagnostics.compare([files / "rnn.json", tmp_path / "b" / "rnn.json"])
    assert [run.name.endswith("/rnn") for run in found.runs] == [True, True]
    assert found.runs[0].name != found.runs[1].name


def test_the_page_has_everything_and_needs_nothing(three, tmp_path):
    three.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.open == [] and len(outline.ids) == len(set(outline.ids))
    inside = {link[1:] for link in outline.links if link.startswith("#")}
    assert inside | set(re.findall(r"url\(#([^)]+)\)", page)) <= set(outline.ids)
    assert page.index('id="verdicts"') < page.index("<svg")
    assert page.count("How: ") == page.count("<figure ") == 3
    assert "Way" in page and "Ways out" in page
    assert json.loads(outline.data) == json.loads(three.json())
    three.to_html(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_the_json_is_strict_and_has_a_schema_of_its_own(three):
    document = json.loads(three.json(), parse_constant=lambda name: pytest.fail(name))
    assert document["schema"] == "minirnn.diagnostics.comparison"
    assert document["schema_version"] == 1
    numbers = document["groups"][0]["numbers"]
    assert next(iter(numbers.values()))["lstm"]["change"] == "higher"
    assert document["groups"][0]["verdicts"]["R1"] == {"rnn": "fail", "lstm": "ok", "gru": "ok"}


def test_the_summary_has_at_most_25_lines(report):
    many = [replace(report.subjects[0], name=f"run {k}") for k in range(20)]
    large = replace(report, subjects=many)
    found = diagnostics.compare([large, large], names=["one", "two"])
    assert len(str(found).splitlines()) == 25
    assert str(found).splitlines()[-1].startswith("... and ")
    short = str(diagnostics.compare([only(report, 0), only(report, 2)]))
    assert "R1 vanishing: fail | ok" in short and len(short.splitlines()) < 25


def test_markdown_has_a_column_per_run(three, tmp_path):
    three.to_markdown(tmp_path / "runs.md")
    text = (tmp_path / "runs.md").read_text(encoding="utf-8")
    assert "|  | rnn | lstm | gru |" in text and "| R1 vanishing | fail | ok | ok |" in text
    assert "Way out of R1 vanishing: a gated cell" in text


def test_the_command_writes_page_markdown_and_figures(files, tmp_path, capsys):
    out, md, png = (tmp_path / name for name in ("page.html", "runs.md", "figures"))
    paths = [str(files / f"{name}.json") for name in ("rnn", "lstm")]
    code = main(["compare", *paths, "--out", str(out), "--markdown", str(md),
                 "--figures", str(png), "--fail-on", "R1"])  # fmt: skip
    assert code == 1  # rnn vanishes
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {out}"
    assert out.exists() and md.exists()
    assert sorted(p.name for p in png.iterdir()) == ["clipping.png", "lag-gain.png", "loss.png"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["rnn"], "runs must be two to 7"),
        (["rnn"] * 8, "runs must be two to 7, as many lines as can be told apart"),
        (["rnn", "rnn"], "names must differ"),
        (["rnn", "missing"], "missing.json: No such file or directory"),
        (["rnn", "text"], "text.json is not JSON"),
        (["rnn", "other"], "other.json is not a report"),
        (["rnn", "six"], "must have a subject of one name in common"),
    ],
)
def test_files_that_do_not_fit_are_one_line_and_nothing_is_written(
    names, words, report, tmp_path, capsys
):
    only(report, 0, name="alone").to_json(tmp_path / "rnn.json")
    report.to_json(tmp_path / "six.json")
    (tmp_path / "text.json").write_text("no")
    (tmp_path / "other.json").write_text("{}")
    before = sorted(tmp_path.iterdir())
    paths = [str(tmp_path / f"{name}.json") for name in names]
    assert main(["compare", *paths, "--out", str(tmp_path / "page.html")]) == 2
    streams = capsys.readouterr()
    assert words in streams.err and len(streams.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
