"""What a monitor's report says: rules over the window, the timeline, its picture, TensorBoard."""

import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.monitor.board import curves
from diagnostics.monitor.measure import shortened
from diagnostics.page.html import render
from diagnostics.page.pictures_of_timeline import timeline
from tests.monitored import Net, batches, monitored


def verdict(monitor, rule, subject="training run"):
    (found,) = (v for v in monitor.report().verdicts if (v.rule, v.subject) == (rule, subject))
    return found


def loop(count, clip, *, order="clip, update", learning_rate=0.01, before=False, **options):
    """Train; clip(parameters) -> ClipInfo, before the optimizer's step or after it."""
    net = Net()
    optimizer = minirnn.SGD(net.parameters(), lr=learning_rate)
    with dg.Monitor(net, **options) as monitor:
        for x, y, _ in batches(count):
            optimizer.zero_grad()
            loss = minirnn.mse_loss(net(x), y)
            loss.backward()
            if order == "update, clip":
                optimizer.step()
            info = clip(list(net.parameters()))
            if before:
                monitor.step(loss, info)
            if order == "clip, update":
                optimizer.step()
            if not before:
                monitor.step(loss, info)
    return monitor


def by_norm(limit):
    return lambda parameters: minirnn.clip_grad_norm(parameters, limit)


# ---- the rules -----------------------------------------------------------------------------------


def test_the_fraction_of_clipped_steps_is_counted_over_every_step_not_the_measured_ones():
    calls = []

    def every_fourth(parameters):
        calls.append(1)
        return minirnn.clip_grad_norm(parameters, 1e-3 if len(calls) % 4 == 0 else np.inf)

    monitor = loop(16, every_fourth, every=5)
    clip = monitor.report()["training run", "clipping"]
    assert clip.value == 0.25 and len(clip.pre) == 16 and clip.max_norm == 1e-3
    assert verdict(monitor, "R9").level == "warn"


def test_the_window_is_the_last_steps():
    calls = []

    def only_at_first(parameters):
        calls.append(1)
        return minirnn.clip_grad_norm(parameters, 1e-3 if len(calls) <= 10 else np.inf)

    monitor = loop(20, only_at_first, every=5, window=10)
    clip = monitor.report()["training run", "clipping"]
    assert (clip.value, clip.overall, clip.window) == (0.0, 0.5, 10)
    assert verdict(monitor, "R9").level == "ok"


def test_a_norm_clip_keeps_the_direction_and_a_value_clip_does_not():
    assert verdict(loop(4, by_norm(1e-3), every=1), "R10").value == 1.0
    monitor = loop(4, lambda p: minirnn.clip_grad_value(p, 1e-4), every=1)
    found = verdict(monitor, "R10")
    assert found.level in ("warn", "fail") and found.value < 0.99
    cosines = [c for row in monitor.rows for c in row["since"]["cosine"]]
    assert found.value == pytest.approx(min(cosines))


@pytest.mark.parametrize("limit", [1e-3, 1e3])
@pytest.mark.parametrize("before", [False, True])
def test_clipping_before_the_update_is_in_order(before, limit):
    assert verdict(loop(4, by_norm(limit), every=2, before=before), "R11").level == "ok"


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_clipping_after_the_update_fails_whether_it_bites_or_not(limit):
    found = verdict(loop(4, by_norm(limit), every=2, order="update, clip"), "R11")
    assert found.level == "fail" and "rnn.weight_ih_l0" in found.evidence


def test_a_learning_rate_out_of_range_is_seen_in_the_updates():
    assert verdict(loop(4, by_norm(1e3), every=1, learning_rate=1e-9), "R13").level == "fail"
    assert verdict(loop(4, by_norm(1e3), every=1, learning_rate=3.0), "R13").level != "ok"


def test_an_update_to_nan_is_not_outvoted_by_the_updates_before_it():
    monitor = monitored(6)
    monitor.rows[-1]["update_ratio"]["rnn.bias_ih_l0"] = shortened(float("inf"))
    found = verdict(monitor, "R13")
    assert found.level == "fail" and found.evidence.startswith("rnn.bias_ih_l0 moves by a step")


def test_parameters_that_are_not_trained_have_no_update_to_judge():
    net = Net()
    net.rnn.bias_ih_l0.requires_grad = False
    monitor = monitored(3, net=net)
    assert "rnn.bias_ih_l0" not in monitor.rows[-1]["update_ratio"]


def test_gradients_that_vanish_bit_by_bit_are_seen_over_the_window():
    """Recurrent weights of 1e-5: after 8 steps back nothing normal is left of float32."""
    net = Net("rnn")
    net.rnn.weight_hh_l0.assign(np.float32(1e-5) * np.eye(8, dtype=np.float32))
    monitor = dg.Monitor(net, every=1)
    for x, _, _ in batches(3):
        net.zero_grad()
        net(x)[-1].sum().backward()
        monitor.step()
    found = verdict(monitor, "R12", "rnn")
    assert found.level in ("warn", "fail") and "median of 3 measured steps" in found.evidence
    assert monitor.report()["rnn", "timeline"].vanished.min() > 0


def test_without_clip_infos_nothing_is_said_of_clipping():
    rules = {v.rule for v in monitored(3, clip=None).report().verdicts}
    assert rules == {"R12", "R13"}


def test_scaling_the_loss_by_a_power_of_two_changes_no_verdict_of_a_run():
    """Gradients scale exactly; so the learning rate takes it out again."""
    made = []
    for scale in (1.0, 2.0**10):
        net = Net()
        optimizer = minirnn.SGD(net.parameters(), lr=0.01 / scale)
        with dg.Monitor(net, every=2, level="standard") as monitor:
            for x, y, _ in batches(4):
                optimizer.zero_grad()
                (scale * minirnn.mse_loss(net(x), y)).backward()
                info = minirnn.clip_grad_norm(net.parameters(), 0.1 * scale)
                optimizer.step()
                monitor.step(1.0, info)
        made.append([(v.rule, v.subject, v.level, v.value) for v in monitor.report().verdicts])
    assert made[0] == made[1]


# ---- the timeline --------------------------------------------------------------------------------


def test_the_timeline_has_a_row_for_every_measured_step_whatever_its_length():
    """Sequences of different lengths: rows that a step did not have are NaN."""
    net = Net()
    monitor = dg.Monitor(net, every=1)
    for steps in (4, 7, 2):
        net(np.ones((steps, 2, 5), np.float32)).sum().backward()
        monitor.step()
    line = monitor.report()["rnn", "timeline"]
    assert line.flow.shape == line.states["c"].shape == (3, 8)
    assert np.isfinite(line.flow).sum(axis=1).tolist() == [5, 8, 3]
    assert set(line.low) == set("ifgo") and line.rho.shape == (3,) and line.rho_ci.shape == (3, 2)


def test_a_report_survives_its_json(tmp_path):
    report = monitored(6, every=2, level="full", lengths=True).report()
    path = tmp_path / "run.json"
    report.to_json(path)
    assert dg.load_report(path).json() == report.json()
    assert render(dg.load_report(path)) == render(report)


def test_the_picture_shows_maps_and_strips_and_says_their_numbers():
    monitor = monitored(9, every=2, net=Net(num_layers=2))
    picture = timeline(monitor.report())
    assert [row[0] for row in picture.rows] == ["rnn, level 1", "rnn, level 0"]
    assert picture.svg.count("<image") >= 2
    for label in ("row t", "rate", "clipped", "update", "loss", "training step"):
        assert f">{label}</text>" in picture.svg, label
    rate = monitor.report()["rnn, level 1", "timeline"].value
    assert picture.rows[0][1] == f"{rate:.3g}" and "rnn, level 0" in picture.svg


def test_the_level_full_adds_a_strip_of_the_first_lyapunov_exponent():
    full, cheap = (timeline(monitored(5, every=2, level=k).report()) for k in ("full", "cheap"))
    assert ">λ₁</text>" in full.svg and "Lyapunov exponent" in full.shows
    assert ">λ₁</text>" not in cheap.svg and "Lyapunov" not in cheap.shows


def test_a_step_that_broke_is_marked_in_every_map_and_strip():
    def drawn(broken):
        net = Net()
        monitor = dg.Monitor(net, every=1)
        for n, (x, y, _) in enumerate(batches(4)):
            loss = minirnn.mse_loss(net(x), y)
            loss.backward()
            monitor.step(np.nan if broken and n == 2 else loss)
        return timeline(monitor.report()).svg.count("var(--fail)")

    assert drawn(True) - drawn(False) == 3  # one map, rate, loss: no clipping, no update


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_no_or_one_step_makes_a_page(count):
    assert "<!DOCTYPE html>" in render(monitored(count).report())


# ---- TensorBoard ---------------------------------------------------------------------------------


class Writer:
    def __init__(self):
        self.scalars = []

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, value, step))


def test_a_writer_of_the_caller_gets_the_curves_of_measured_steps():
    writer = Writer()
    monitor = monitored(5, every=2, tensorboard=writer, net=Net(num_layers=2))
    assert {step for _, _, step in writer.scalars} == {0, 2, 4}
    last = {tag: value for tag, value, step in writer.scalars if step == 4}
    assert last == curves(monitor.rows[-1])
    row = monitor.rows[-1]
    assert last["loss"] == row["since"]["loss"][-1]
    assert last["gradient/norm"] == row["since"]["norm"][-1]
    flow = row["layers"]["rnn, level 1"]["flow"]["joint"]
    assert last["rnn_level_1/delta_first_row"] == flow[0]
    assert all(np.isfinite(v) for v in last.values())


def test_curves_are_few_however_many_parameters_there_are():
    few, many = (curves(monitored(1, net=Net(size=n)).rows[0]) for n in (4, 16))
    assert few.keys() == many.keys() and len(few) < 20


def events(file):
    """Read the records of an event file: length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = file.read_bytes()
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]


def test_a_folder_gets_events_that_tensorboard_reads(tmp_path):
    pytest.importorskip("tensorboardX", reason="pip install 'minirnn[tensorboard]'")
    monitor = monitored(3, every=2, tensorboard=tmp_path / "board")
    (file,) = (tmp_path / "board").iterdir()
    read = {(v.tag, e.step): v.simple_value for e in events(file) for v in e.summary.value}
    for row in monitor.rows:
        for tag, value in curves(row).items():
            assert read[tag, row["step"]] == np.float32(value)


def test_without_tensorboardx_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    net = Net()
    with pytest.raises(ImportError, match=r"pip install 'minirnn\[tensorboard\]'"):
        dg.Monitor(net, path=tmp_path / "run.jsonl", tensorboard=tmp_path)
    assert "forward" not in vars(net.rnn) and list(tmp_path.iterdir()) == []


def test_the_example_of_the_docstring_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = dg.Monitor.__doc__.split("::\n")[1].split("    Parameters\n")[0]
    model = minirnn.Sequential(minirnn.LSTM(5, 8, seed=0), minirnn.Linear(8, 3, seed=1))
    names = {
        "dg": dg, "minirnn": minirnn, "model": model,
        "optimizer": minirnn.Adam(model.parameters()),
        "batches": [(np.ones((4, 2, 5), np.float32), np.zeros((4, 2), np.int64))] * 3,
    }  # fmt: skip
    exec(compile(textwrap.dedent(lines), "Monitor", "exec"), names)
    assert capsys.readouterr().out.startswith("How the training of Sequential went")
    assert dg.load_report("run.jsonl").json() == names["monitor"].report().json()


def test_a_monitor_needs_none_of_the_reports_libraries():
    code = (
        "import sys, diagnostics as dg, minirnn\n"
        "dg.Monitor(minirnn.LSTM(2, 3)).report()\n"
        "print(sorted({'matplotlib', 'jinja2', 'rich', 'tensorboardX'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
