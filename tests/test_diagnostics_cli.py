"""The command line: exit codes, one-line errors, what goes to which stream."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from diagnostics.__main__ import main
from tests.toy_report import toy_report


@pytest.fixture(scope="module")
def run_json(tmp_path_factory):
    """One run with one picture: quick to draw, and the verdicts of the vanilla network."""
    report = toy_report()
    subject = report.subjects[0]
    bare = replace(subject, quantities={"lag_gain": subject.quantities["lag_gain"]})
    path = tmp_path_factory.mktemp("run") / "run.json"
    replace(report, subjects=[bare], verdicts=report.verdicts[:3]).to_json(path)
    return path


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "diagnostics", *arguments], capture_output=True, text=True
    )


def test_help_imports_nothing_heavy_so_that_it_answers_at_once():
    listing = [sys.executable, "-X", "importtime", "-m", "diagnostics", "--help"]
    result = subprocess.run(listing, capture_output=True, text=True)
    assert result.returncode == 0 and "demo" in result.stdout and "report" in result.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "argparse" in imported
    heavy = {"numpy", "numba", "llvmlite", "matplotlib", "jinja2", "rich", "minirnn"}
    assert not imported & heavy


def test_report_writes_the_page_and_names_it_last(run_json, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run_json), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {out}"


def test_json_alone_goes_to_standard_output(run_json, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run_json), "--out", str(out), "--json"]) == 0
    streams = capsys.readouterr()
    assert streams.out == run_json.read_text(encoding="utf-8")
    assert streams.err.splitlines()[-1] == f"report: {out}"


@pytest.mark.parametrize(
    ("fail_on", "code"), [("warn", 1), ("fail", 1), ("R1", 1), ("R2", 0), ("R2,R9", 1)]
)
def test_fail_on_sets_the_exit_code_after_the_report_is_written(fail_on, code, run_json, tmp_path):
    out = tmp_path / "page.html"
    assert main(["report", str(run_json), "--out", str(out), "--fail-on", fail_on]) == code
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "missing.json"], "missing.json: No such file or directory"),
        (["report", "{run}", "--fail-on", "R77"], "fail_on: 'R77' is none of"),
        (["report", "{run}", "--out", "missing/page.html"], "does not exist; make it first"),
        (["demo", "--text", "missing.txt"], "missing.txt: there is no such file"),
        (["demo", "--training-steps", "0"], "training_steps must be a whole number, 1 or more"),
        (["demo", "--max-norm", "-1"], "max_norm must be finite and above 0, got -1"),
        (["demo", "--learning-rate", "inf"], "learning_rate must be finite and above 0, got inf"),
        (["demo", "--forget-bias", "inf"], "forget_bias must be finite, got inf"),
        (["demo", "--forget-bias", "nan"], "forget_bias must be finite, got nan"),
        (["demo", "--omega", "inf"], "omega must be finite and 0 or more, got inf"),
        (["demo", "--seed", "-1"], "seed must be a whole number, 0 or more, got -1"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    arguments, words, run_json, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main([a.format(run=run_json) for a in arguments]) == 2
    streams = capsys.readouterr()
    assert words in streams.err and len(streams.err.splitlines()) == 1
    assert streams.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--nonsense"], ["report"], ["demo", "--seed", "x"], []])
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_report_survives_a_page_that_cannot_be_drawn(run_json, tmp_path, monkeypatch, capsys):
    """Nothing half-written: the page that was there before is there afterwards."""
    out = tmp_path / "page.html"
    out.write_text("before")

    def fail(*_):
        raise ValueError("no ink")

    monkeypatch.setattr("diagnostics.page.html.pictures", fail)
    assert main(["report", str(run_json), "--out", str(out)]) == 2
    assert out.read_text() == "before"
    assert "no ink" in capsys.readouterr().err


def test_json_of_the_command_line_is_a_report_again(run_json, tmp_path):
    result = command("report", str(run_json), "--out", str(tmp_path / "a.html"), "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["schema"] == "minirnn.diagnostics"
