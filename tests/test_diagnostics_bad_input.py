"""Input that cannot be used: one line on standard error, exit code 2, nothing half-written."""

import json
import os
import sys

import numpy as np
import pytest

from diagnostics.__main__ import main
from diagnostics.files import check_writable, write_whole
from tests.toy_report import toy_report
from tests.weight_files import layer_of, safetensors_of, write_pt


def changed(document, *path, to):
    """A copy of a JSON document with one place changed."""
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(copy)


def reports(folder, document):
    """RUN.json as it should be, and spoiled in many ways."""
    gain = ("subjects", 0, "quantities", "lag_gain")
    text = json.dumps(document)
    contents = {
        "good": text,
        "empty": "",
        "truncated": text[: len(text) // 2],
        "binary": b"\x93NUMPY\x01\x00",
        "nested": "[" * 100_000,
        "list": "[1, 2]",
        "other": '{"schema": "something else"}',
        "newer": changed(document, "schema_version", to=2),
        "spelled": changed(document, "schema_version", to="1"),
        "untitled": changed(document, "title", to=None),
        "table": changed(document, "settings", to=[1]),
        "machine": changed(document, "machine", "processor", to=3),
        "subjects": changed(document, "subjects", to=None),
        "level": changed(document, "verdicts", 0, "level", to="great"),
        "rule": changed(document, "verdicts", 0, "rule", to="R99"),
        "number": changed(document, "verdicts", 0, "value", to=None),
        "lag": changed(document, "verdicts", 0, "lag", to="far"),
        "quantity": changed(document, "subjects", 0, "quantities", "surprise", to={"cost": {}}),
        "cost": changed(document, *gain, "cost", to={"money": 3}),
        "shape": changed(document, *gain, "value", to=[1.0, 0.5, "x"]),
    }
    for name, content in contents.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / f"{name}.json").write_bytes(raw)


def weights(folder, rng):
    """State dicts as they should be, and spoiled."""
    state = layer_of("lstm", num_layers=2).state_dict()
    whole = safetensors_of(state)
    (folder / "lstm.safetensors").write_bytes(whole)
    (folder / "cut.safetensors").write_bytes(whole[:-100])
    (folder / "empty.safetensors").write_bytes(b"")
    missing = {k: a for k, a in state.items() if k != "bias_hh_l1"}
    (folder / "missing.safetensors").write_bytes(safetensors_of(missing))
    shape = state | {"weight_hh_l1": np.zeros((16, 5), np.float32)}
    (folder / "shape.safetensors").write_bytes(safetensors_of(shape))
    whole_numbers = state | {"weight_hh_l1": np.zeros((16, 4), np.int64)}
    (folder / "int.safetensors").write_bytes(safetensors_of(whole_numbers))
    two = {f"{p}.{k}": a for p in ("encoder", "decoder") for k, a in state.items()}
    two |= {"head.weight": np.zeros((5, 3), np.float32)}
    (folder / "two.safetensors").write_bytes(safetensors_of(two))
    (folder / "none.safetensors").write_bytes(safetensors_of({"conv.weight": state["bias_ih_l0"]}))
    write_pt(folder / "good.pt", state)
    (folder / "cut.pt").write_bytes((folder / "good.pt").read_bytes()[:-200])
    np.savez(folder / "objects.npz", weight_ih_l0=np.array([{}], dtype=object))
    (folder / "notes.txt").write_text("not weights")
    (folder / "broken.html").write_text("before")
    (folder / "link.html").symlink_to(folder / "broken.html")
    np.save(folder / "x.npy", rng.normal(size=(6, 8, 3)))


def arrays(folder, rng):
    """Inputs and targets that do not fit the LSTM of 3 inputs and 4 units."""
    x = rng.normal(size=(6, 8, 3))
    nan = x.copy()
    nan[2, 1, 0] = np.nan
    for name, array in {
        "wide": rng.normal(size=(6, 8, 5)), "flat": rng.normal(size=6), "nan": nan,
        "inf": np.where(x > 2, np.inf, x), "ids": rng.integers(0, 4, (6, 8)),
        "complex": x.astype(complex), "words": np.array([["a", "b"]]), "huge": x * 1e300,
        "nobody": np.zeros((6, 0, 3)), "never": np.zeros((0, 8, 3)),
        "y": rng.normal(size=(6, 8, 4)), "y_short": rng.normal(size=(5, 8, 4)),
        "classes": rng.integers(0, 4, (6, 8)), "many": np.full((6, 8), 4),
        "y_nan": np.full((6, 8, 4), np.nan), "flags": np.ones((6, 8), bool),
        "n_long": np.array([6] * 7 + [7]), "n_none": np.array([6] * 7 + [0]),
        "n_few": np.array([6, 6]), "n_half": np.full(8, 1.5), "single": x[:, 0],
        "nines": np.full((6, 8), 9),
    }.items():  # fmt: skip
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "objects.npy", np.array([None, 1], dtype=object), allow_pickle=True)
    np.savez(folder / "pair.npz", a=x, b=x)
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:-8])
    (folder / "void.npy").write_bytes(b"")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all of it; no test may leave anything there."""
    folder = tmp_path_factory.mktemp("given") / "input"
    folder.mkdir()
    rng = np.random.default_rng(0)
    reports(folder, toy_report().to_dict())
    weights(folder, rng)
    arrays(folder, rng)
    (folder / "empty.txt").write_text("")
    (folder / "constant.txt").write_text("a" * 100_000)
    (folder / "short.txt").write_text("a short text")
    (folder / "latin.txt").write_bytes(b"caf\xe9" * 3000)
    (folder / "folder").mkdir()
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    """The folder as the current one; what is in it before must be in it afterwards."""
    monkeypatch.chdir(made)
    before = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    yield made
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()} == before


LSTM = ["report", "--torch", "lstm.safetensors"]
ON_X = ["--input", "x.npy"]


def run(name):
    return ["report", name]


def on(weights):
    return ["report", "--torch", weights, *ON_X]


def given(x):
    return [*LSTM, "--input", x]


def measured(lengths):
    return [*LSTM, *ON_X, "--lengths", lengths]


def toward(y):
    return [*LSTM, *ON_X, "--target", y]


CASES = {
    # what a text must be
    "empty text": (["demo", "--text", "empty.txt"], "empty.txt: the text is empty"),
    "constant text": (["demo", "--text", "constant.txt"], "the text is 'a' repeated; there"),
    "short text": (["demo", "--text", "short.txt"], "must have at least 6,192 characters, got 12"),
    "text of other bytes": (["demo", "--text", "latin.txt"], "must be UTF-8 text, got"),
    "text that is a folder": (["demo", "--text", "folder"], "must be a file, is a folder"),
    # what RUN.json must be
    "no such run": (run("missing.json"), "missing.json: No such file or directory"),
    "a folder": (["report", "folder"], "folder: Is a directory"),
    "empty run": (run("empty.json"), "empty.json is not JSON"),
    "truncated run": (run("truncated.json"), "truncated.json is not JSON"),
    "binary run": (run("binary.json"), "binary.json is not JSON"),
    "nested run": (run("nested.json"), "nested.json is not JSON"),
    "a list": (run("list.json"), "list.json is not a report; it must be"),
    "another schema": (run("other.json"), "other.json is not a report"),
    "a newer version": (run("newer.json"), "has schema version 2, this version reads 1"),
    "a spelled version": (run("spelled.json"), "has schema version '1', this version"),
    "title": (run("untitled.json"), "is damaged (title must be a text, got None)"),
    "settings": (run("table.json"), "is damaged (settings must be an object, got [1])"),
    "machine": (run("machine.json"), "is damaged (machine: processor must be a text, got 3"),
    "subjects": (run("subjects.json"), "is damaged (subjects must be a list, got None)"),
    "level": (run("level.json"), "verdict's level must be one of ok, info, warn, fail"),
    "rule": (run("rule.json"), "verdict's rule must be one of R1, R2"),
    "value": (run("number.json"), "is damaged (a verdict's value must be a number, got None"),
    "lag": (run("lag.json"), "is damaged (a verdict's lag must be a whole number, got 'far'"),
    "quantity": (run("quantity.json"), "quantity.json is damaged ('surprise' is missing)"),
    "cost": (run("cost.json"), "cost.json is damaged (Cost.__init__() got an unexpected"),
    "shape": (run("shape.json"), "shape.json is damaged, or was changed: its numbers"),
    # where a report can be written
    "out: a folder": (["report", "good.json", "--out", "folder"], "folder is a folder; pass"),
    "out: nowhere": (["report", "good.json", "--out", "a/b.html"], "the folder a does not exist"),
    "out: below a file": (["report", "good.json", "--out", "x.npy/b.html"], "does not exist"),
    "out: empty": (["report", "good.json", "--out", ""], "is a folder; pass the name of a file"),
    "out: too long": (["report", "good.json", "--out", "x" * 300], "File name too long"),
    "out: null": (["report", "good.json", "--out", "a\0b"], "it holds a null character"),
    "demo out": (["demo", "--out", "a/b.html"], "the folder a does not exist; make it first"),
    "torch out": ([*LSTM, *ON_X, "--out", "folder"], "folder is a folder"),
    "out: the run": (["report", "good.json", "--out", "good.json"], "good.json is a file that is"),
    "out: weights": ([*LSTM, *ON_X, "--out", "lstm.safetensors"], "is read, and would be lost"),
    "out: input": ([*LSTM, *ON_X, "--out", "../input/x.npy"], "x.npy is a file that is read"),
    "out: text": (["demo", "--text", "short.txt", "--out", "short.txt"], "would be lost; name"),
    "figure out": (["figure", "D7", "--out", "a/b.html"], "the folder a does not exist"),
    "gallery out": (["gallery", "--out", "folder"], "folder is a folder"),
    "gallery PDF": (["gallery", "--out", "g.pdf"], "must end in .html or .htm, got .pdf; figure C"),
    # what the end of a name promises
    "out: PDF": (["report", "good.json", "--out", "o.pdf"], "got .pdf; --figures writes the fig"),
    "out: PNG": (["demo", "--out", "o.PNG"], "got .png; --figures FOLDER writes them as PNG"),
    "out: JSON": ([*LSTM, *ON_X, "--out", "o.json"], "out: o.json must end in .html or .htm, got"),
    "out: Markdown": (["report", "good.json", "--out", "o.md"], "--markdown writes Markdown"),
    "out: words": (["report", "good.json", "--out", "o.txt"], "the summary as text is what is pri"),
    "compare out": (["compare", "good.json", "good.json", "--out", "o.pdf"], "got .pdf; --figures"),
    "markdown: page": (
        ["report", "good.json", "--markdown", "o.html"], "markdown: o.html must end in .md",
    ),
    # two options, one file
    "one file": (
        ["report", "good.json", "--out", "a.out", "--markdown", "a.out"],
        "markdown: a.out is what --out names too, and one would be lost; name another",
    ),
    "one file, two names": (
        ["demo", "--out", "a.out", "--markdown", "folder/../a.out"], "is what --out names too",
    ),
    "one file, linked": (
        ["report", "good.json", "--markdown", "link.html"], "is what --out names too",
    ),
    "page and figures": (
        ["report", "good.json", "--out", "a.out", "--figures", "a.out"], "figures: a.out is what",
    ),
    "markdown and PDF": (
        ["report", "good.json", "--markdown", "a.pdf", "--figures", "a.pdf"], "markdown names too",
    ),
    "compared": (
        ["compare", "good.json", "good.json", "--out", "a.out", "--markdown", "a.out"],
        "--out names too",
    ),
    # options that do not go together
    "fail-on": (["report", "good.json", "--fail-on", "R77"], "fail_on: 'R77' is none of"),
    "no input": (LSTM, "report: --torch needs --input x.npy"),
    "not of RUN.json": (["report", "good.json", "--cell", "lstm"], "--cell must come with --torch"),
    "no measuring": (["report", "good.json", "--timings"], "--timings must come with --torch"),
    "cell": ([*LSTM, *ON_X, "--cell", "tcn"], "cell must be one of lstm, gru, rnn, got 'tcn'"),
    "another cell": ([*LSTM, *ON_X, "--cell", "gru"], "got (16, 4), the shape of cell lstm"),
    "a function": ([*LSTM, *ON_X, "--nonlinearity", "relu"], "must be left out of lstm"),
    "measuring": ([*LSTM, *ON_X, "--level", "all"], "level must be one of cheap, standard, full"),
    "cheap": ([*LSTM, *ON_X, "--level", "cheap"], "loss and needs --target y.npy"),
    "lag too far": ([*LSTM, *ON_X, "--need-lag", "6"], "need_lag must lie in 0 to 5"),
    # what weights must be
    "no such weights": (on("no.pt"), "no.pt: No such file or directory"),
    "weights: a folder": (on("folder"), "folder is a folder; name the file of weights"),
    "no weights": (on("notes.txt"), "must be a file of safetensors, .npz"),
    "empty weights": (on("empty.safetensors"), "and whole ("),
    "cut weights": (on("cut.safetensors"), "and whole ("),
    "cut pickle": (on("cut.pt"), "cut.pt: was cut off or damaged"),
    "objects": (on("objects.npz"), "weight_ih_l0 cannot be read"),
    "missing": (on("missing.safetensors"), "bias_hh_l1 is missing"),
    "misshapen": (on("shape.safetensors"), "must have shape (16, 4), got"),
    "whole numbers": (on("int.safetensors"), "must hold floats of 16, 32 or 64 bits"),
    "no recurrent": (on("none.safetensors"), "it has conv.weight"),
    "several": (on("two.safetensors"), "prefix: 'decoder', 'encoder'"),
    "prefix": ([*LSTM, *ON_X, "--prefix", "rnn"], "no recurrent module is named 'rnn'; pass one"),
    "readout": ([*LSTM, *ON_X, "--readout", "head"], "there is no head.weight for the readout"),
    # what an input must be
    "no such input": (given("no.npy"), "no.npy: No such file or directory"),
    "input: a folder": (given("folder"), "input: folder is a folder"),
    "input: text": (given("notes.txt"), "numpy.save wrote; it is another file"),
    "input: cut off": (given("cut.npy"), "input: cut.npy must be an array that numpy"),
    "input: nothing": (given("void.npy"), "numpy.save wrote; it is another file"),
    "input: objects": (given("objects.npy"), "input: objects.npy must be an array"),
    "input: two": (given("pair.npz"), "pair.npz must hold one array, got 2: a, b"),
    "input: width": (given("wide.npy"), "(T, B, 3), or (T, 3) without a batch, got (6, 8, 5)"),
    "input: flat": (given("flat.npy"), "must have shape (T, B, 3), or (T, 3) without a batch"),
    "input: NaN": (given("nan.npy"), "got 1 that are not, the first at index (2, 1, 0)"),
    "input: infinite": (given("inf.npy"), "must hold finite numbers, got"),
    "input: ids": (given("ids.npy"), "must hold floats, got dtype int64; ids need"),
    "input: complex": (given("complex.npy"), "must hold real numbers, got dtype complex128"),
    "input: words": (given("words.npy"), "must hold real numbers, got dtype <U1"),
    "input: too large": (given("huge.npy"), "has numbers beyond float32, the dtype of the weights"),
    "input: B = 0": (given("nobody.npy"), "at least one step of one sequence, got (6, 0, 3)"),
    "input: T = 0": (given("never.npy"), "at least one step of one sequence, got (0, 8, 3)"),
    "input: vectors for ids": (
        ["report", "--torch", "two.safetensors", "--prefix", "encoder", *ON_X, "--embedding",
         "head"], "must hold ids beside an embedding, got dtype float64",
    ),
    "input: id too large": (
        ["report", "--torch", "two.safetensors", "--prefix", "encoder", "--input", "nines.npy",
         "--embedding", "head"], "ids must lie in [0, 4], the rows of weight, got 9 to 9",
    ),
    # what lengths must be
    "lengths: too long": (measured("n_long.npy"), "must lie in 1 to T = 6, got 6 to 7"),
    "lengths: nothing": (measured("n_none.npy"), "must lie in 1 to T = 6, got 0 to 6"),
    "lengths: too few": (measured("n_few.npy"), "whole numbers of shape (B,) = (8,), got dtype"),
    "lengths: halves": (measured("n_half.npy"), "whole numbers of shape (B,) = (8,), got dtype"),
    "lengths: no batch": ([*given("single.npy"), "--lengths", "n_few.npy"], "needs a batch; cut"),
    # what targets must be
    "target: shape": (toward("y_short.npy"), "(6, 8, 4) for every step or (8, 4)"),
    "target: NaN": (toward("y_nan.npy"), "target: y_nan.npy must hold finite"),
    "target: class": (toward("many.npy"), "must hold classes below 4, got 4 to 4"),
    "target: flags": (toward("flags.npy"), "must hold real numbers, got dtype bool"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(name, folder, capsys):
    arguments, words = CASES[name]
    if "--out" not in arguments:
        arguments = [*arguments, "--out", "broken.html"]
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert words in streams.err and streams.err.startswith("diagnostics: ")
    assert streams.err.count("\n") == 1 and streams.out == ""


@pytest.mark.parametrize(
    "arguments",
    [["report"], ["report", "a.json", "--torch", "b.pt"], ["report", "--torch"], ["chekc"],
     ["report", "a.json", "--seed", "x"], ["check", "--fast"], ["figure", "D99"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_line_that_makes_no_sense_is_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["page.html", "page.HTM", "page", "run-1.5"])
def test_a_page_may_be_called_anything_that_promises_nothing_else(name, folder, tmp_path):
    out = tmp_path / name
    assert main(["report", "good.json", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.skipif(os.name != "posix", reason="a device of POSIX")
def test_two_outputs_may_both_be_thrown_away(folder):
    arguments = ["report", "good.json", "--out", os.devnull, "--markdown", os.devnull]
    assert main(arguments) == 0


def test_a_device_is_written_to_and_not_replaced():
    write_whole(os.devnull, "gone")
    assert not os.path.isfile(os.devnull)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "there" / "real.html")
    write_whole(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "there" / "real.html").read_text() == "new"


@pytest.mark.skipif(sys.platform != "linux", reason="a full disk is a file of Linux")
def test_a_disk_that_is_full_is_one_line(folder, capsys):
    assert main(["report", "good.json", "--out", "/dev/full"]) == 2
    streams = capsys.readouterr()
    assert (
        "diagnostics: /dev/full: No space left" in streams.err
        and streams.err.count("\n") == 1
        and streams.out == ""
    )


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    path = tmp_path / ("x" * 255)
    check_writable(path)
    assert list(tmp_path.iterdir()) == []
    write_whole(path, "whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]
