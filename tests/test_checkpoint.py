"""Checkpoints: round trips, runs that are killed and resumed, files that are no checkpoints."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from minirnn.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minirnn.engine import Tensor, manual_seed
from minirnn.engine.random import generator
from minirnn.layers.linear import Linear
from minirnn.layers.optim import SGD, Adam
from minirnn.layers.sequential import Sequential
from tests import killed_run


def net(seed=0):
    return Sequential(Linear(3, 4, seed=seed), Linear(4, 2, seed=seed + 1))


def trained(steps=3):
    model = net()
    optimizer = Adam(model.parameters(), 0.1, betas=(0.8, 0.9), amsgrad=True)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(np.ones((2, 3), np.float32)) ** 2).sum().backward()
        optimizer.step()
    return model, optimizer


def everything(model, optimizer=None):
    """Return all that a failed load must leave alone, in a form that can be compared."""
    state = None if optimizer is None else optimizer.state_dict()
    arrays = {name: array.tolist() for name, array in model.state_dict().items()}
    return repr((arrays, state, generator().bit_generator.state))


# ---------------------------------------------------------------- round trips


def test_parameters_optimizer_step_and_extra_come_back(tmp_path):
    model, optimizer = trained()
    extra = {
        "state": (Tensor([[1.0, 2.0]]), (np.arange(3), None)),
        "losses": [1.5, math.inf, 1e-300, 0.1 + 0.2],
        "nested": {"name": "größer", "$array": 1, "$$x": {"$tuple": [True, False, None]}},
        "big": 2**100,
        "flags": np.array([[True], [False]]),
        "scalar": np.float32(0.1),
        "empty": np.zeros((0, 3)),
        "nothing": [],
    }
    path = tmp_path / "run.safetensors"
    save_checkpoint(path, model, optimizer, step=7, extra=extra)
    twin = net(5)
    fresh = Adam(twin.parameters())
    step, got = load_checkpoint(path, twin, fresh)
    assert step == 7
    assert everything(twin, fresh) == everything(model, optimizer)
    state = got.pop("state")
    assert isinstance(state, tuple) and isinstance(state[1], tuple) and state[1][1] is None
    np.testing.assert_array_equal(state[0], [[1.0, 2.0]])
    assert state[1][0].dtype == np.int64
    assert got.pop("flags").tolist() == [[True], [False]]
    assert got.pop("empty").shape == (0, 3)
    assert got.pop("scalar") == float(np.float32(0.1))
    assert got == {k: extra[k] for k in ("losses", "nested", "big", "nothing")}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3],
        np.broadcast_to(np.arange(3), (2, 3)),
        np.arange(3, dtype=">f8"),
        np.array(5.0),
    ],
    ids=["transposed", "fortran", "strided", "broadcast", "big-endian", "zero-dimensional"],
)
def test_an_array_in_any_memory_layout_comes_back_as_it_was(tmp_path, array):
    """safetensors 0.8 itself saves what is not C-contiguous wrongly and says nothing."""
    save_checkpoint(tmp_path / "c", net(), extra={"a": array})
    _, extra = load_checkpoint(tmp_path / "c")
    assert extra["a"].shape == array.shape
    np.testing.assert_array_equal(extra["a"], array)


def test_arrays_whose_dotted_names_are_alike_stay_apart(tmp_path):
    extra = {"a.b": np.ones(1), "a": {"b": np.zeros(2)}}
    save_checkpoint(tmp_path / "c", net(), extra=extra)
    _, got = load_checkpoint(tmp_path / "c")
    assert got["a.b"].tolist() == [1.0] and got["a"]["b"].tolist() == [0.0, 0.0]


def test_the_arrays_can_be_read_by_safetensors_alone(tmp_path):
    model, _ = trained()
    save_checkpoint(tmp_path / "c", model)
    arrays = safetensors.numpy.load_file(tmp_path / "c")
    np.testing.assert_array_equal(arrays["model.0.weight"], model[0].weight.numpy())


def test_the_global_generator_and_the_given_ones_go_on(tmp_path):
    manual_seed(11)
    named = {"data": np.random.default_rng(1), "noise": np.random.Generator(np.random.MT19937(2))}
    for g in (generator(), *named.values()):
        g.standard_normal(5)
    save_checkpoint(tmp_path / "c", net(), rng=named)
    expected = [g.standard_normal(4).tolist() for g in (generator(), *named.values())]
    manual_seed(99)
    fresh = {"data": np.random.default_rng(), "noise": np.random.Generator(np.random.MT19937())}
    load_checkpoint(tmp_path / "c", rng=fresh)
    assert [g.standard_normal(4).tolist() for g in (generator(), *fresh.values())] == expected


def test_one_generator_needs_no_name(tmp_path):
    rng = np.random.default_rng(3)
    save_checkpoint(tmp_path / "c", net(), rng=rng)
    expected = rng.random()
    twin = np.random.default_rng(4)
    load_checkpoint(tmp_path / "c", rng=twin)
    assert twin.random() == expected


def test_what_is_not_asked_for_is_passed_over(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "c", model, optimizer, step=2, rng=np.random.default_rng())
    assert load_checkpoint(tmp_path / "c") == (2, {})
    load_checkpoint(tmp_path / "c", net())


# ---------------------------------------------------------------- the file


def test_saving_replaces_the_older_file_and_leaves_nothing_else(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path / "c", net(), step=step)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert load_checkpoint(tmp_path / "c")[0] == 2
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o666 & ~umask


def test_file_and_folder_are_synced_before_and_after_the_renaming(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor):
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def seen_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    save_checkpoint(tmp_path / "c", net())
    assert calls == ["file", "replace", "folder"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_older_file_and_no_other(tmp_path, monkeypatch, failing):
    save_checkpoint(tmp_path / "c", net(), step=1)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path / "c", net(), step=2)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert load_checkpoint(tmp_path / "c")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"extra": {"f": print}}, r"extra\.f must be an array or a JSON value, got builtin"),
        ({"extra": {"a": {"b": [1, {2: 3}]}}}, r"extra\.a\.b\.1 has a key 2 that is no string"),
        ({"extra": {"a": np.array(["x"])}}, r"extra\.a has dtype"),
        ({"extra": {"a": np.array([None])}}, r"extra\.a has dtype object"),
        ({"rng": 5}, "rng must be a NumPy Generator or a dict"),
        ({"rng": {"a": np.random}}, "rng must be a NumPy Generator"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_a_file_is_touched(tmp_path, arguments, words):
    with pytest.raises(TypeError, match=words):
        save_checkpoint(tmp_path / "c", net(), **arguments)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        save_checkpoint(tmp_path / "nowhere" / "c", net())


# ---------------------------------------------------------------- files that do not fit


def test_every_cut_of_a_file_is_an_error(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "c", model, optimizer)
    content = (tmp_path / "c").read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut: is no checkpoint, or was cut off"):
            load_checkpoint(tmp_path / "cut", model, optimizer)
    (tmp_path / "long").write_bytes(content + b"x")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "long")


def test_every_flipped_bit_is_an_error(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "c", model, optimizer, extra={"a": np.zeros(3)})
    content = (tmp_path / "c").read_bytes()
    before = everything(model, optimizer)
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 300, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        (tmp_path / "bad").write_bytes(flipped)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "bad", model, optimizer)
    assert everything(model, optimizer) == before


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Bomb()),
        b"PK\x03\x04 a zip, as PyTorch writes",
        b"\xff" * 64,
        b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
        "text".encode("utf-16") * 100,
    ],
    ids=["pickle", "zip", "huge-header", "empty-header", "text"],
)
def test_a_foreign_file_is_an_error_and_runs_nothing(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("c").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^c: is "):
        load_checkpoint("c", net())
    assert not Path("exploded").exists()


def test_a_safetensors_file_of_someone_else_is_named_as_such(tmp_path):
    safetensors.numpy.save_file({"w": np.ones(3)}, tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"no checkpoint of minirnn; load its arrays with"):
        load_checkpoint(tmp_path / "c")


def rewritten(path, change):
    """Change the record of a checkpoint as a forger would, with a good digest."""
    from minirnn import container

    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["minirnn"])
    text = change if isinstance(change, str) else json.dumps(record | change)
    metadata = {"minirnn": text, "digest": container._digest(text, arrays)}
    safetensors.numpy.save_file(arrays, path, metadata)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "has format 99, this version of minirnn reads 1"),
        ({"step": "soon"}, "format"),
        ({"model": {"$array": "nowhere"}}, "not that of a checkpoint"),
        ({"model": [1, 2]}, "does not fit"),
        ({"optimizer": {"class": "Adam"}}, "does not fit"),
        ({"optimizer": {"class": "Adam", "state": {"x": {}}, "param_groups": []}}, "does not fit"),
        ({"global": {"bit_generator": "os.system"}}, "does not fit"),
        ({"global": 5}, "does not fit"),
        ({"generators": [3]}, "does not fit"),
        ("[]", "not that of a checkpoint"),
        ("[" * 100_000, "not that of a checkpoint"),
        ("1" * 5000, "not that of a checkpoint"),
        ("{", "not that of a checkpoint"),
    ],
)
def test_a_forged_record_is_an_error_and_changes_nothing(tmp_path, change, words):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "c", model, optimizer, rng=np.random.default_rng(0))
    rewritten(tmp_path / "c", change)
    before = everything(model, optimizer)
    rng = np.random.default_rng(1)
    place = repr(rng.bit_generator.state)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "c", model, optimizer, rng)
    assert everything(model, optimizer) == before
    assert repr(rng.bit_generator.state) == place


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: (Sequential(Linear(3, 4)),), r"unexpected \['1\.weight', '1\.bias'\]"),
        (lambda: (Sequential(Linear(3, 5), Linear(5, 2)),), r"0\.weight: must have shape \(5, 3\)"),
        (lambda: (m := net(), SGD(m.parameters(), 0.1)), "holds the state of Adam, not of SGD"),
        (lambda: (m := net(), Adam(m[0].parameters())), r"must have \[2\] parameters, got \[4\]"),
        (lambda: (net(), None, np.random.default_rng()), r"rng names the generators \[''\]"),
        (lambda: (net(), None, {"b": np.random.default_rng()}), r"\['b'\], the file holds \['a'\]"),
        (
            lambda: (net(), None, {"a": np.random.Generator(np.random.MT19937())}),
            "does not fit.*MT19937",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(tmp_path, arguments, words):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "c", model, optimizer, rng={"a": np.random.default_rng()})
    other = arguments()
    before = everything(*other[:2])
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "c", *other)
    assert everything(*other[:2]) == before


def test_a_file_without_an_optimizer_cannot_give_one(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "c", model)
    with pytest.raises(CheckpointError, match="holds no optimizer"):
        load_checkpoint(tmp_path / "c", model, optimizer)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match="is a folder, not a checkpoint"):
        load_checkpoint(tmp_path)


# ---------------------------------------------------------------- runs that are killed


def launched(path, *arguments):
    return subprocess.Popen([sys.executable, killed_run.__file__, str(path), *arguments])


def final_parameters(path):
    model = killed_run.model()
    step, _ = load_checkpoint(path, model)
    return step, {name: array.tolist() for name, array in model.state_dict().items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    killed_run.run(path, 40)
    return final_parameters(path)


def test_a_run_killed_at_any_moment_and_resumed_ends_as_if_it_had_not_been(tmp_path, uninterrupted):
    path = tmp_path / "run"
    for wanted in (3, 15, 29):
        process = launched(path, "40", "--slowly")
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if path.exists() and load_checkpoint(path)[0] >= wanted:
                break
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    killed_run.run(path, 40)
    assert final_parameters(path) == uninterrupted


@pytest.mark.parametrize("moment", ["write", "fsync", "replace", "replaced"])
def test_a_run_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path, moment, uninterrupted):
    path = tmp_path / "run"
    process = launched(path, "40", "--die-in", moment)
    assert process.wait() == -signal.SIGKILL
    assert load_checkpoint(path)[0] == (5 if moment == "replaced" else 4)
    killed_run.run(path, 40)
    assert final_parameters(path) == uninterrupted
