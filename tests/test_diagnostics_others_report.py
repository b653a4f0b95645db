"""The report of a PyTorch module: the command line, and what PyTorch shows in a loop only."""

import json

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.__main__ import main
from diagnostics.others.report import report_of_files
from diagnostics.others.tensor_files import read_tensors
from tests.weight_files import layer_of, safetensors_of, write_pt

KINDS = ("lstm", "gru", "rnn")


@pytest.fixture
def saved(tmp_path, rng):
    """A folder with weights of a two-level LSTM in a model, inputs and targets."""
    layer = layer_of("lstm", num_layers=2, dtype="float64")
    state = {f"rnn.{k}": a for k, a in layer.state_dict().items()}
    state |= {"head.weight": rng.normal(size=(5, 4)), "head.bias": rng.normal(size=5)}
    state["embed.weight"] = rng.normal(size=(6, 3))
    (tmp_path / "state.safetensors").write_bytes(safetensors_of(state))
    np.save(tmp_path / "x.npy", rng.normal(size=(12, 8, 3)))
    np.save(tmp_path / "ids.npy", rng.integers(0, 6, (12, 8)))
    np.save(tmp_path / "last.npy", rng.integers(0, 5, 8))
    np.save(tmp_path / "every.npy", rng.normal(size=(12, 8, 4)))
    return tmp_path


def command(folder, *arguments):
    words = ["report", "--torch", str(folder / "state.safetensors"), "--json"]
    named = [str(folder / word) if word.endswith(".npy") else word for word in arguments]
    return main([*words, "--out", str(folder / "page.html"), *named])


def test_the_command_writes_the_report_that_diagnose_makes(saved, capsys):
    assert command(saved, "--cell", "lstm", "--input", "x.npy", "--target", "every.npy") == 0
    document = json.loads(capsys.readouterr().out)
    layer = dg.load_torch(saved / "state.safetensors", "lstm")
    x, y = np.load(saved / "x.npy"), np.load(saved / "every.npy")
    expected = json.loads(dg.diagnose(layer, x, y).json())
    for part in ("subjects", "verdicts", "machine"):
        assert document[part] == expected[part]
    assert document["title"] == "How gradients flow through the LSTM of state.safetensors"
    assert document["settings"]["weights"] == "state.safetensors"
    assert (saved / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_seconds_are_in_the_report_only_where_they_are_asked_for(saved, capsys):
    given = ["--cell", "lstm", "--input", "x.npy", "--target", "every.npy", "--level", "cheap"]
    printed = []
    for more in ([], [], ["--timings"]):
        assert command(saved, *given, *more) == 0
        printed.append((capsys.readouterr().out, (saved / "page.html").read_text("utf-8")))
    assert printed[0] == printed[1]
    plain, timed = (json.loads(text) for text, _ in printed[1:])
    assert list(timed["seconds"]) == ["read the files", "diagnose"]
    assert all(value > 0 for value in timed["seconds"].values())
    assert {k: v for k, v in timed.items() if k != "seconds"} == plain
    assert "read the files" in printed[2][1] and "read the files" not in printed[0][1]


def test_ids_classes_and_the_last_step_are_a_loss_like_any_other(saved, capsys):
    given = ["--embedding", "embed", "--readout", "head", "--input", "ids.npy"]
    assert command(saved, *given, "--target", "last.npy", "--need-lag", "5", "--seed", "3") == 0
    document = json.loads(capsys.readouterr().out)
    model = dg.load_torch(saved / "state.safetensors", embedding="embed", readout="head")
    ids, y = np.load(saved / "ids.npy"), np.load(saved / "last.npy")

    def loss(out, y):
        return minirnn.cross_entropy(out[-1], y)

    expected = json.loads(dg.diagnose(model, ids, y, loss, need_lag=5, seed=3).json())
    assert document["subjects"] == expected["subjects"]
    assert document["verdicts"] == expected["verdicts"]


def test_batch_first_input_gives_the_same_numbers(saved, capsys):
    np.save(saved / "xb.npy", np.load(saved / "x.npy").swapaxes(0, 1))
    np.save(saved / "yb.npy", np.load(saved / "every.npy").swapaxes(0, 1))
    found = []
    for names in (["x.npy", "--target", "every.npy"], ["xb.npy", "--target", "yb.npy",
                                                       "--batch-first"]):  # fmt: skip
        assert command(saved, "--input", *names, "--level", "cheap") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["verdicts"] == found[1]["verdicts"]
    for one, other in zip(*(f["subjects"] for f in found), strict=True):
        # The loss is a mean over the same numbers in another order.
        np.testing.assert_allclose(
            one["quantities"]["gradient_flow"]["value"],
            other["quantities"]["gradient_flow"]["value"], rtol=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("target", ["every", "last", "classes"])
def test_padding_changes_no_number_of_the_report(target, batch_first, saved, rng):
    """NaN and other steps after the lengths: the same report, that of each sequence alone."""
    lengths = np.array([12, 5, 12, 9, 12, 1, 12, 12])
    padding = np.arange(12)[:, None] >= lengths
    targets = {
        "every": np.load(saved / "every.npy"), "last": np.load(saved / "every.npy")[0],
        "classes": rng.integers(0, 5, (12, 8)),
    }[target]  # fmt: skip
    x, y = np.load(saved / "x.npy"), targets.copy()
    np.save(saved / "n.npy", lengths)
    files = {what: str(saved / f"{what[0]}.npy") for what in ("input", "target")}
    files["lengths"] = str(saved / "n.npy")
    loading = {"batch_first": batch_first} | ({"readout": "head"} if target == "classes" else {})
    found = []
    for _ in range(2):
        turned = [a.swapaxes(0, 1) if batch_first and a.ndim > 1 else a for a in (x, y)]
        np.save(files["input"], turned[0])
        np.save(files["target"], y if target == "last" else turned[1])
        weights = str(saved / "state.safetensors")
        found.append(report_of_files(weights, files, loading, {}))
        x[padding] = np.nan
        if target != "last":
            y[padding] = 77 if target == "classes" else np.nan
    assert found[0].json() == found[1].json()
    model = dg.load_torch(saved / "state.safetensors", readout="head")
    whole = np.load(saved / "x.npy")
    deltas = [delta_of_sequence(model, whole[:n, [b]], target, targets, b)
              for b, n in enumerate(lengths)]  # fmt: skip
    flow = found[0]["recurrent, level 1", "gradient_flow"].value[0]
    # The mean is over steps that are no padding; two programs, at most twelve steps.
    count = 8 if target == "last" else lengths.sum()
    assert flow == pytest.approx(np.median(deltas) / count, rel=1e-9)


def delta_of_sequence(model, x, target, targets, b):
    """Norm of delta at row 0 of the top level, for the sum of the losses of sequence b alone."""
    with minirnn.watch(model.recurrent) as seen:
        hidden, _ = model.recurrent(x)
        if target == "classes":
            y = targets[: len(x), [b]]
            loss = minirnn.cross_entropy(model.readout(hidden), y, reduction="sum")
        else:
            y = targets[: len(x), [b]] if target == "every" else targets[b]
            apart = (hidden if target == "every" else hidden[-1]) - y
            loss = (apart * apart).sum() / 4
    loss.backward()
    return np.linalg.norm([seen[1, 0].carried_grads[k][0, 0] for k in "hc"])


def test_the_function_of_an_rnn_is_chosen(saved, capsys):
    layer = layer_of("rnn", nonlinearity="relu")
    (saved / "state.safetensors").write_bytes(safetensors_of(layer.state_dict()))
    given = ["--cell", "rnn", "--nonlinearity", "relu", "--input", "x.npy"]
    assert command(saved, *given) == 0
    found = json.loads(capsys.readouterr().out)["verdicts"]
    x = np.load(saved / "x.npy").astype(np.float32)
    assert found == json.loads(dg.diagnose(layer, x).json())["verdicts"]


def test_fail_on_sets_the_exit_code(saved):
    assert command(saved, "--input", "x.npy", "--fail-on", "R8", "--cell", "lstm") == 1


def test_weights_that_are_not_finite_have_a_report_that_names_them(saved, capsys):
    state = dict(read_tensors(saved / "state.safetensors"))
    state["rnn.weight_hh_l1"] = np.full((16, 4), np.nan)
    (saved / "state.safetensors").write_bytes(safetensors_of(state))
    assert command(saved, "--input", "x.npy", "--target", "every.npy", "--level", "full",
                   "--fail-on", "R2") == 1  # fmt: skip
    streams = capsys.readouterr()
    assert "weights that are not finite: 64 of 64 in weight_hh_l1" in streams.err
    verdicts = json.loads(streams.out)["verdicts"]
    top = {v["rule"]: v["level"] for v in verdicts if v["subject"].endswith(("level 1", "LSTM"))}
    assert top.pop("R2") == "fail" and set(top.values()) == {"inconclusive"}
    below = {v["rule"]: v["level"] for v in verdicts if v["subject"].endswith("level 0")}
    # Its forward pass is sound; every gradient that reaches it is not a number.
    assert (below["R2"], below["R6"], below["R12"]) == ("fail", "ok", "inconclusive")
    assert "64 of 64 in weight_hh_l1" in (saved / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 1), (9, 1, 1), (9, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_one_sequence_and_one_unit_have_a_report(kind, shape, tmp_path, capsys):
    layer = layer_of(kind, inputs=1, units=1)
    (tmp_path / "state.safetensors").write_bytes(safetensors_of(layer.state_dict()))
    np.save(tmp_path / "x.npy", np.ones(shape, np.float32))
    assert command(tmp_path, "--input", "x.npy", "--target", "x.npy", "--level", "full") == 0
    assert json.loads(capsys.readouterr().out)["verdicts"]


# ---- beside PyTorch -----------------------------------------------------------------------------


def states_of_loop(torch, module, x):
    """Run a PyTorch layer of one level as a loop over single steps.  Returns h by step."""
    cell = getattr(torch.nn, f"{type(module).__name__}Cell")(
        module.input_size, module.hidden_size, dtype=x.dtype
    )
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in module.state_dict().items()})
    rows = [torch.zeros(x.shape[1], module.hidden_size, dtype=x.dtype, requires_grad=True)]
    for x_t in x:
        rows.append(cell(x_t, rows[-1]))
    return rows


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_the_report_shows_the_gradients_that_pytorch_shows_in_a_loop_only(
    torch, kind, tmp_path, capsys
):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"rnn": getattr(torch.nn, kind)(3, 5), "head": torch.nn.Linear(5, 4)}
    )
    model = model.double()
    write_pt(tmp_path / "state.pt", {k: v.numpy() for k, v in model.state_dict().items()})
    x, y = torch.randn(15, 9, 3, dtype=torch.float64), torch.randint(0, 4, (9,))
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "y.npy", y.numpy())
    arguments = ["--input", str(tmp_path / "x.npy"), "--target", str(tmp_path / "y.npy")]
    given = ["report", "--torch", str(tmp_path / "state.pt"), "--readout", "model.head", "--json"]
    assert main([*given, *arguments, "--out", str(tmp_path / "page.html")]) == 0
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    rows = states_of_loop(torch, model["rnn"], x)
    loss = torch.nn.functional.cross_entropy(model["head"](rows[-1]), y)
    grads = torch.autograd.grad(loss, rows)
    norms = np.median([g.norm(dim=-1).numpy() for g in grads], axis=-1)
    # Two programs in float64, fifteen steps.
    np.testing.assert_allclose(subject["quantities"]["gradient_flow"]["value"], norms, rtol=1e-10)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_the_lag_gain_is_that_of_pytorchs_own_derivatives(torch, kind):
    """One unit: the direction of the unit vector does not matter."""
    torch.manual_seed(1)
    module = getattr(torch.nn, kind)(3, 1, dtype=torch.float64)
    x = torch.randn(16, 9, 3, dtype=torch.float64)
    layer = dg.load_torch({k: v.numpy() for k, v in module.state_dict().items()})
    found = dg.diagnose(layer, x.numpy())["lag_gain"]
    rows = states_of_loop(torch, module, x)
    samples = {}
    for s in np.unique(np.round(np.linspace(16 - 8 + 1, 16, 8)).astype(int)):
        for k in range(s):
            (g,) = torch.autograd.grad(rows[s].sum(), rows[s - k], retain_graph=True)
            samples.setdefault(k, []).append(g.abs().numpy().ravel())
    expected = [np.median(np.concatenate(samples[k])) for k in range(16)]
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)
