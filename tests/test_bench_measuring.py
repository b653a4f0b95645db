"""The benchmark measures what it says: shapes, counts, turns; with or without the peers."""

import hashlib
import importlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import agreement, cells, entry, environment, peers, shapes, turns
from bench.peers import loop, ours
from bench.shapes import SHAPES, Shape
from bench.work import Work
from minirnn.cells import names

ROOT = Path(__file__).resolve().parents[1]
SMALL = Shape(5, 3, 4, 7, "small")


# Shapes


def test_the_shapes_cover_the_promised_ranges():
    assert 22 <= len(SHAPES) <= 28
    for letter, least, most in (("B", 1, 256), ("T", 10, 1000), ("I", 16, 1024), ("H", 16, 1024)):
        sizes = [getattr(s, letter) for s in SHAPES]
        assert (min(sizes), max(sizes)) == (least, most), letter


def test_the_odd_shapes_that_were_asked_for_are_there():
    sizes = {(s.T, s.B, s.H) for s in SHAPES}
    assert (100, 20, 50) in sizes
    assert any((s.B, s.I, s.H) == (3, 37, 96) for s in SHAPES)
    assert any((s.B, s.H) == (7, 200) for s in SHAPES)


def test_every_shape_is_measured_once_and_for_a_reason_of_its_own():
    assert len({s.label for s in SHAPES}) == len(SHAPES)
    assert len({s.reason for s in SHAPES}) == len(SHAPES)
    assert all(s.reason for s in SHAPES)


def test_the_three_cells_of_pytorch_run_everywhere_in_float32():
    for shape in SHAPES:
        assert set(shapes.TORCH_CELLS) <= set(shape.cells) <= set(shapes.ALL)
        assert shapes.FLOAT32 in shape.dtypes


def test_the_other_cells_float64_and_inference_run_on_a_few():
    assert 3 <= sum(set(s.cells) == set(shapes.ALL) for s in SHAPES) <= 10
    assert 2 <= sum(shapes.FLOAT64 in s.dtypes for s in SHAPES) <= 6
    assert 4 <= sum(s.inference for s in SHAPES) <= 12
    assert 2 <= sum(s.quick for s in SHAPES) <= 6


def test_the_users_cell_is_not_in_the_registry_and_the_two_stage_cell_is():
    assert shapes.USERS not in names()
    assert shapes.TWO_STAGE in names()
    assert cells.get(shapes.USERS).vectors == ("p_i", "p_f", "p_o")


# Counts


@pytest.mark.parametrize("name, blocks", [("rnn", 1), ("gru", 3), ("lstm", 4), ("mgu", 2)])
def test_a_training_step_counts_three_products_of_each_weight_with_every_row(name, blocks):
    s = Shape(7, 3, 5, 11, "")
    by_hand = 6 * s.T * s.B * s.H * blocks * (s.I + s.H)
    assert cells.flops(cells.get(name), s) == by_hand
    assert cells.flops(cells.get(name), s, training=False) == by_hand // 3


def test_vectors_of_a_cell_and_zeros_of_triangular_blocks_do_not_count():
    s = Shape(7, 3, 5, 16, "")
    assert cells.flops(cells.get(shapes.USERS), s) == cells.flops(cells.get("lstm"), s)
    assert cells.flops(cells.get("clockwork"), s) < cells.flops(cells.get("rnn"), s)


# Turns


def test_in_every_round_each_step_has_one_turn_and_the_order_is_reversed_in_the_next():
    calls = []
    steps = {name: lambda name=name: (calls.append(name), time.sleep(0.005)) for name in "abc"}
    durations = turns.take_turns(steps, budget=60.0, most=4)
    assert {name: len(found) for name, found in durations.items()} == dict.fromkeys("abc", 4)
    # One call to warm up (a second one where it was slow); then an untimed and a timed one a turn.
    rounds = calls[-3 * 2 * 4 :]
    assert rounds[::2] == rounds[1::2] == list("abccbaabccba")


def test_a_short_step_is_repeated_within_a_turn_and_its_mean_is_recorded():
    count = [0]

    def step():
        count[0] += 1

    (durations,) = turns.take_turns({"a": step}, budget=0.0, least=3, most=3).values()
    assert count[0] > 3 * 100
    assert max(durations) < turns.LEAST_TURN


def test_rounds_go_on_for_twice_the_budget_where_the_times_of_anybody_vary():
    calm, shaken = [1.0, 1.02, 0.98, 1.01, 1.0], [1.0, 1.4, 1.0, 1.4, 1.2]
    assert turns.stretch({"a": calm, "b": calm}, 5, least=5) == 1
    assert turns.stretch({"a": calm, "b": shaken}, 5, least=5) == 2
    # Fewer rounds than the least are enough only for steps that are very slow.
    assert turns.stretch({"a": calm}, 4, least=5) == turns.PATIENCE


@pytest.mark.skipif(not turns.TASKS.exists(), reason="only Linux tells what threads do")
def test_nobody_has_a_turn_while_another_thread_of_the_process_still_runs():
    finished = []

    def busy():  # without the interpreter's lock, as workers of a library are
        hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
        finished.append(time.perf_counter())

    worker = threading.Thread(target=busy)
    worker.start()
    time.sleep(0.005)
    turns.quiet(longest=30.0)
    quiet_since = time.perf_counter()
    worker.join()
    assert finished[0] < quiet_since


def test_medians_and_quartiles_are_those_of_the_rounds():
    assert turns.spread([3.0, 1.0, 2.0, 5.0, 4.0]) == turns.Spread(3.0, 2.0, 4.0)
    assert turns.spread([7.0]) == turns.Spread(7.0, 7.0, 7.0)


# Agreement


def test_the_hand_written_loop_and_minirnn_agree_on_the_output_and_every_gradient():
    for name in shapes.TORCH_CELLS:
        work = Work(name, SMALL, "float64")
        made = {"minirnn": ours.training(work), "numpy": loop.training(work)}
        for run in made.values():
            run.step()
        results = {library: run.results() for library, run in made.items()}
        assert set(results["numpy"]) == {"output", *work.given}
        agreement.check(results, "float64")


def test_a_gradient_that_differs_is_refused_before_anything_is_timed():
    run = loop.training(Work("lstm", SMALL))
    run.step()
    right = run.results()
    wrong = right | {"bias_hh": right["bias_hh"] + 1e-2}
    with pytest.raises(agreement.Disagreement, match="bias_hh differs"):
        agreement.check({"minirnn": right, "other": wrong}, "float32")
    with pytest.raises(agreement.Disagreement, match="must be the same"):
        agreement.check({"minirnn": right, "other": {"output": right["output"]}}, "float32")
    with pytest.raises(agreement.Disagreement, match="float64"):
        as64 = {name: array.astype(np.float64) for name, array in right.items()}
        agreement.check({"minirnn": right, "other": as64}, "float32")


# Entries of pytest-benchmark


class FakeBenchmark:
    """Times what it is given by the clock of the entry, as the plugin does."""

    def __init__(self):
        self.extra_info, self.found = {}, []

    def pedantic(self, target, setup, rounds):
        for _ in range(rounds):
            setup()
            begun = entry.clock()
            target()
            self.found.append(entry.clock() - begun)


def test_an_entry_holds_exactly_the_rounds_that_were_measured():
    fake = FakeBenchmark()
    rounds = [0.1, 0.3, 1e-7, 0.2]
    entry.record(fake, "a group", rounds, cell="lstm")
    assert fake.found == rounds
    assert (fake.group, fake.extra_info) == ("a group", {"cell": "lstm"})


# Environment and missing peers


def test_variables_that_choose_the_kernels_of_a_blas_are_unset_and_said():
    made = environment.child(2, False, {"OPENBLAS_CORETYPE": "Haswell", "HOME": "/"})
    assert "OPENBLAS_CORETYPE" not in made
    assert made["BENCH_FOUND"] == "OPENBLAS_CORETYPE=Haswell"
    assert {made[name] for name in environment.COUNTS} == {"2"}


def test_with_numpy_loaded_a_wrong_variable_is_an_error_that_names_the_way_out():
    code = (
        "import os, numpy; os.environ['OPENBLAS_CORETYPE'] = 'Haswell'\n"
        "from bench import environment; environment.settle()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "OPENBLAS_CORETYPE" in ran.stderr and "python -m bench" in ran.stderr


def test_a_library_that_is_missing_is_listed_as_not_installed(monkeypatch):
    gone = {**peers.LIBRARIES, "torch": ("pytorch", ("no_such_package",))}
    monkeypatch.setattr(peers, "LIBRARIES", gone)
    assert peers.versions()["torch"] == peers.NOT_INSTALLED
    assert peers.present(("minirnn", "torch", "numpy")) == ["minirnn", "numpy"]


def test_without_peers_the_rest_is_measured_and_the_missing_ones_are_skipped(monkeypatch):
    measure = importlib.import_module("bench.measure")
    monkeypatch.setattr(peers, "installed", lambda name: name in ("minirnn", "numpy"))
    monkeypatch.setattr(measure, "in_turns", lambda steps, flops, dtype: sorted(steps))
    work = Work("lstm", replace(SMALL, T=4))
    libraries = ("minirnn", "torch", "jax", "numpy")
    assert measure.libraries_for("training", work, libraries) == libraries
    assert measure.group("training", work, libraries) == ["minirnn", "numpy"]
    with pytest.raises(pytest.skip.Exception, match="torch is not installed"):
        measure.report(FakeBenchmark(), "training", work, "torch", libraries)


def test_the_benchmarks_are_collected_without_any_peer():
    code = (
        "import sys\n"
        "for name in 'torch jax jaxlib onnx onnxruntime autograd threadpoolctl'.split():\n"
        "    sys.modules[name] = None\n"
        "import json, pathlib, importlib\n"
        "found = [importlib.import_module('bench.' + p.stem).__name__\n"
        "         for p in sorted(pathlib.Path('bench').glob('bench_*.py'))]\n"
        "print(json.dumps(found))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "bench.bench_training" in json.loads(ran.stdout)


def test_a_cell_with_triangular_blocks_gets_weights_that_it_accepts():
    layer = ours.layer_for(Work("clockwork", replace(SMALL, H=16)))
    assert np.triu(layer.weight_hh_l0.numpy()).any()
