"""The monitor's file: one JSON line per measured step, readable whatever happened to the run."""

import builtins
import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.__main__ import main
from tests.monitored import Net, monitored, train

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a file with rows at steps 0, 2, 4, 6, and steps to 7."""
    path = tmp_path_factory.mktemp("whole") / "run.jsonl"
    monitored(8, every=2, path=path)
    return path.read_bytes()


def strict(text):
    """Parse JSON as every parser does: NaN and Infinity are no JSON."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def steps_of(path):
    return dg.load_report(path)["rnn", "timeline"].steps.tolist()


def test_there_is_a_line_for_every_measured_step_and_each_stands_by_itself(whole):
    lines = [strict(line) for line in whole.splitlines()]
    assert [line["kind"] for line in lines] == ["run", "step", "step", "step", "step", "end"]
    assert {line["schema"] for line in lines} == {"minirnn.monitor"}
    assert [line["step"] for line in lines[1:-1]] == [0, 2, 4, 6]
    for line in lines[1:-1]:
        assert line["layers"]["rnn"]["about"]["layer"] == "Recurrent of lstm, 5 to 8, float32"
        assert line["layers"]["rnn"]["about"]["x"] == "T=12, B=8, I=5"
    assert lines[0]["seed"] == 0 and "BLAS" in lines[0]["machine"]
    assert whole.isascii()


def test_a_file_that_does_not_say_its_seed_and_shapes_is_read_as_before(whole, path):
    path.write_bytes(whole)
    assert dg.load_report(path).settings["seed"] == "0"
    lines = [json.loads(line) for line in whole.splitlines()]
    del lines[0]["seed"]
    for line in lines[1:-1]:
        del line["layers"]["rnn"]["about"]["x"]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    report = dg.load_report(path)
    assert "seed" not in report.settings
    assert "x" not in report.subjects[1].settings and "layer" in report.subjects[1].settings


def test_every_step_is_in_the_file_once_measured_or_not(whole, path):
    path.write_bytes(whole)
    course = dg.load_report(path)["training run", "course"]
    assert course.steps.tolist() == list(range(8)) and np.isfinite(course.loss).all()
    assert len(dg.load_report(path)["training run", "clipping"].pre) == 8


@pytest.mark.parametrize("level", ["cheap", "full"])
def test_the_report_of_the_file_is_that_of_the_monitor(path, level):
    monitor = monitored(7, every=3, path=path, level=level, lengths=True)
    assert dg.load_report(path).json() == monitor.report().json()


def test_numbers_that_are_not_finite_are_strings(path):
    net = Net()
    net.rnn.weight_hh_l0.assign(np.full((32, 8), np.nan, np.float32))
    monitored(2, path=path, net=net)
    lines = [strict(line) for line in path.read_text().splitlines()]
    row = next(line for line in lines if line["kind"] == "step")
    assert row["since"]["loss"] == ["nan"] and row["layers"]["rnn"]["flow"]["joint"][0] == "nan"
    assert next(line for line in lines if line["kind"] == "alarm")["step"] == 0
    report = dg.load_report(path)
    assert np.isnan(report["training run", "course"].loss).all()
    assert report.exit_code("R2") == 1


# ---- a crash -------------------------------------------------------------------------------------


def test_a_torn_last_line_is_skipped_with_a_word_wherever_it_is_torn(whole, path):
    lines = whole.splitlines(keepends=True)
    kept, last = b"".join(lines[:4]), lines[4]
    for cut in (1, 2, 20, len(last) // 2, len(last) - 2):
        path.write_bytes(kept + last[:cut])
        report = dg.load_report(path)
        assert report["rnn", "timeline"].steps.tolist() == [0, 2, 4]
        assert report.settings["skipped"] == (
            "line 5 is torn: the run was stopped while it was written"
        )
    path.write_bytes(kept + last[:-1])  # all but the end of the line
    assert steps_of(path) == [0, 2, 4, 6]


def test_a_damaged_line_costs_that_line_only(whole, path):
    lines = whole.splitlines(keepends=True)
    for damaged in (b"\x00\xff\n", b"{}\n", b"[1]\n", lines[2][: len(lines[2]) // 2] + b"\n"):
        path.write_bytes(lines[0] + lines[1] + damaged + b"".join(lines[3:]))
        report = dg.load_report(path)
        assert report["rnn", "timeline"].steps.tolist() == [0, 4, 6]
        assert report.settings["skipped"] == "line 3 is damaged"


def test_a_file_without_a_row_yet_is_a_report_without_layers(whole, path):
    path.write_bytes(whole.splitlines(keepends=True)[0])
    report = dg.load_report(path)
    assert [subject.name for subject in report.subjects] == ["training run"]
    assert "no verdicts" in str(report)


def test_a_killed_process_leaves_all_that_was_measured(path):
    script = (
        "import os, sys\n"
        "import diagnostics as dg\n"
        "from tests.monitored import Net, train\n"
        "net = Net()\n"
        "train(net, 5, dg.Monitor(net, every=2, path=sys.argv[1]))\n"
        "os._exit(9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=False)
    assert ran.returncode == 9
    assert steps_of(path) == [0, 2, 4] and "ended" not in dg.load_report(path).settings


def test_a_loop_that_raises_says_so_in_the_file(path):
    net = Net()
    with pytest.raises(ZeroDivisionError), dg.Monitor(net, every=2, path=path) as monitor:
        train(net, 4, monitor)
        raise ZeroDivisionError("of the loop")
    settings = dg.load_report(path).settings
    assert settings["ended"] == "stopped by ZeroDivisionError: of the loop"
    assert dg.load_report(path)["training run", "course"].steps.tolist() == [0, 1, 2, 3]


def test_a_full_disk_does_not_stop_training_and_loses_no_line(path, monkeypatch, caplog):
    net = Net()
    monitor = dg.Monitor(net, every=1, path=path)
    real, full = builtins.open, []

    def opened(file, *args, **kwargs):
        if full and str(file) == str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", opened)
    train(net, 1, monitor)
    full.append(True)
    with caplog.at_level(logging.WARNING, "diagnostics"):
        train(net, 2, monitor)
    assert "could not be written (No space left on device); training goes on" in caplog.text
    full.clear()
    train(net, 1, monitor)
    assert steps_of(path) == [0, 1, 2, 3]


# ---- going on ------------------------------------------------------------------------------------


def test_a_file_that_holds_a_run_is_refused_and_left_as_it_was(whole, path):
    path.write_bytes(whole)
    with pytest.raises(FileExistsError, match=r"exists already; pass resume=True .*another path"):
        dg.Monitor(Net(), path=path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("torn", [b"", b'{"schema":"minirnn.mon'])
def test_a_run_that_goes_on_appends_and_counts_on(whole, path, torn):
    ended = b"".join(whole.splitlines(keepends=True)[:-1])
    for begun, first in ((whole, 8), (ended, 7)):  # with the steps after the last row, and without
        path.write_bytes(begun + torn)
        monitor = monitored(4, every=2, path=path, resume=True)
        assert monitor.steps == first + 4
        report = dg.load_report(path)
        assert report["training run", "course"].steps.tolist() == list(range(first + 4))
        assert steps_of(path) == list(range(0, first + 4, 2))
        assert monitor.report().subjects[1].name == "rnn"
        assert path.read_bytes().startswith(begun + torn)
        assert report["rnn", "timeline"].rho.tolist() == (
            monitor.report()["rnn", "timeline"].rho.tolist()
        )


def test_a_run_that_goes_on_from_a_checkpoint_replaces_what_it_repeats(whole, path):
    path.write_bytes(whole)
    monitored(2, every=1, path=path, resume=True, start=3)
    assert steps_of(path) == [0, 2, 3, 4]
    assert dg.load_report(path)["training run", "course"].steps.tolist() == [0, 1, 2, 3, 4]
    assert path.read_bytes().startswith(whole)  # nothing is ever taken out of the file


def test_resume_begins_a_file_that_does_not_exist_or_is_empty(path):
    monitored(1, path=path, resume=True)
    assert steps_of(path) == [0]
    path.write_bytes(b"")
    monitored(1, path=path)
    assert steps_of(path) == [0]


def test_a_file_of_another_model_or_of_no_monitor_is_refused_and_left_as_it_was(whole, path):
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is of another run: its layers"):
        dg.Monitor(Net("gru"), path=path, resume=True)
    with pytest.raises(ValueError, match="is of another run: its model"):
        dg.Monitor(minirnn.Sequential(Net()), path=path, resume=True)
    assert path.read_bytes() == whole
    path.write_text("my notes")
    with pytest.raises(ValueError, match="holds no line that a Monitor"):
        dg.Monitor(Net(), path=path, resume=True)
    assert path.read_text() == "my notes"


@pytest.mark.parametrize("where", ["missing/run.jsonl", "."])
def test_a_path_that_cannot_be_written_is_told_of_before_training(tmp_path, where):
    with pytest.raises(OSError, match=r"does not exist; make it first|is a folder"):
        dg.Monitor(Net(), path=tmp_path / where)
    assert list(tmp_path.iterdir()) == []


# ---- the command line ----------------------------------------------------------------------------


def test_the_command_line_reports_on_a_monitors_file(whole, tmp_path, path, capsys):
    path.write_bytes(whole)
    out, data = tmp_path / "page.html", tmp_path / "run.json"
    assert main(["report", str(path), "--out", str(out), "--json"]) == 0
    data.write_text(capsys.readouterr().out)
    assert dg.load_report(data).json() == dg.load_report(path).json()
    page = out.read_text(encoding="utf-8")
    assert "Timeline of training" in page and "training run" in page
    assert main(["report", str(path), "--out", str(out), "--fail-on", "R11"]) == 0
    assert main(["report", str(path), "--out", str(out), "--fail-on", "R9"]) == 1


def test_a_torn_line_is_told_of_on_the_command_line(whole, tmp_path, path, capsys):
    path.write_bytes(whole[:-20])
    assert main(["report", str(path), "--out", str(tmp_path / "page.html")]) == 0
    assert "line 6 is torn" in capsys.readouterr().err


def test_a_file_of_nothing_known_is_one_line_and_exit_code_2(path, tmp_path, capsys):
    path.write_text('{"schema":"minirnn.monitor","schema_version":99,"kind":"run"}\n')
    assert main(["report", str(path), "--out", str(tmp_path / "page.html")]) == 2
    streams = capsys.readouterr()
    assert "holds no line that a Monitor of schema version 1 wrote" in streams.err
    assert len(streams.err.splitlines()) == 1 and not (tmp_path / "page.html").exists()
