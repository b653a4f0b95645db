"""Models of others: a PyTorch module from its weights, with and without PyTorch at hand."""

import argparse
import collections
import datetime
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

import diagnostics as dg
from diagnostics.others.tensor_files import read_tensors
from minirnn.layers.reference import use_reference
from tests.weight_files import layer_of, safetensors_of, write_pt

KINDS = ("lstm", "gru", "rnn")


def same(one, other):
    """Whether two layers have the same parameters, bit for bit."""
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(np.array_equal(ours[k], theirs[k]) for k in ours)


# ---- reading files ------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_levels_directions_and_biases_are_read_off_the_names(
    kind, num_layers, bidirectional, bias, tmp_path
):
    layer = layer_of(kind, num_layers=num_layers, bidirectional=bidirectional, bias=bias)
    path = tmp_path / "state.safetensors"
    path.write_bytes(safetensors_of(layer.state_dict()))
    loaded = dg.load_torch(path, kind)
    assert type(loaded) is type(layer) and same(loaded, layer)
    assert (loaded.num_layers, loaded.bidirectional, loaded.bias) == (
        num_layers, bidirectional, bias,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_holds_the_same_layer(kind, dtype, tmp_path):
    layer = layer_of(kind, dtype=dtype)
    state = layer.state_dict()
    (tmp_path / "a.safetensors").write_bytes(safetensors_of(state))
    np.savez(tmp_path / "b.npz", **state)
    write_pt(tmp_path / "c.pt", state)
    for given in (tmp_path / "a.safetensors", tmp_path / "b.npz", tmp_path / "c.pt", state):
        loaded = dg.load_torch(given)  # the cell is known by the shapes
        assert same(loaded, layer) and loaded.dtype == dtype


def test_a_file_is_known_by_what_it_holds_and_not_by_its_name(tmp_path):
    layer = layer_of("gru")
    write_pt(tmp_path / "model.bin", layer.state_dict())
    assert same(dg.load_torch(tmp_path / "model.bin"), layer)


def test_halves_are_widened_exactly(tmp_path):
    state = {k: a.astype(np.float16) for k, a in layer_of("lstm").state_dict().items()}
    (tmp_path / "half.safetensors").write_bytes(safetensors_of(state))
    write_pt(tmp_path / "half.pt", state)
    for name in ("half.safetensors", "half.pt"):
        loaded = dg.load_torch(tmp_path / name)
        assert loaded.dtype == np.float32
        for key, array in loaded.state_dict().items():
            np.testing.assert_array_equal(array, state[key].astype(np.float32))
    values = np.float32([1.0, -2.5, 3e38, np.inf, 1e-40])
    cut = (values.view(np.uint32) >> 16 << 16).view(np.float32)  # what bfloat16 keeps
    (tmp_path / "b.safetensors").write_bytes(safetensors_of({"a": values}, bfloat16=["a"]))
    np.testing.assert_array_equal(read_tensors(tmp_path / "b.safetensors")["a"], cut)


def test_the_modules_of_one_step_are_layers_of_one_level():
    layer = layer_of("gru")
    cell = {name.removesuffix("_l0"): array for name, array in layer.state_dict().items()}
    assert same(dg.load_torch(cell, "gru"), layer)


@pytest.mark.parametrize("prefix", ["encoder.rnn", "encoder.rnn.", None])
def test_a_prefix_picks_the_tensors_of_a_larger_model(prefix):
    layer = layer_of("lstm")
    model = {f"encoder.rnn.{k}": a for k, a in layer.state_dict().items()}
    model |= {"embed.weight": np.zeros((5, 3), np.float32), "step": np.int64(3)}
    if prefix is not None:
        model |= {f"decoder.{k}": a for k, a in layer_of("gru").state_dict().items()}
    assert same(dg.load_torch(model, prefix=prefix), layer)


def test_an_ambiguous_or_missing_prefix_names_those_that_there_are():
    state = layer_of("lstm").state_dict()
    model = {f"{p}{k}": a for p in ("", "decoder.", "encoder.rnn.") for k, a in state.items()}
    for prefix, words in ((None, "has several recurrent modules"), ("rnn", "is named 'rnn'")):
        with pytest.raises(ValueError, match=f"{words}.*'', 'decoder', 'encoder.rnn'"):
            dg.load_torch(model, prefix=prefix)
    assert same(dg.load_torch(model, prefix=""), layer_of("lstm"))
    with pytest.raises(ValueError, match=r"no tensor is named like weight_ih_l0.*it has a, b"):
        dg.load_torch({"a": np.zeros(2), "b": np.zeros(3)})


def test_an_embedding_and_a_readout_stand_around_the_layer(rng):
    layer = layer_of("gru")
    model = {f"rnn.{k}": a for k, a in layer.state_dict().items()}
    table, weight, bias = (rng.normal(size=s) for s in ((5, 3), (2, 4), (2,)))
    model |= {"embed.weight": table, "head.weight": weight, "head.bias": bias}
    loaded = dg.load_torch(model, "gru", embedding="embed", readout="head")
    ids = rng.integers(0, 5, (6, 2))
    with use_reference():
        hidden = layer.to(np.float64)(table[ids])[0].numpy()
        # Products of at most four terms in float64.
        np.testing.assert_allclose(loaded(ids).numpy(), hidden @ weight.T + bias, rtol=1e-12)


def without(name):
    def change(state):
        del state[name]

    return change


def reshaped(name, *shape):
    def change(state):
        state[name] = np.zeros(shape, np.float32)

    return change


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (without("weight_hh_l0"), {}, r"weight_hh_l0 is missing"),
        (without("weight_ih_l1"), {}, r"weight_ih_l1 is missing; .* lstm, 2 levels, one dir"),
        (without("bias_hh_l1"), {}, r"bias_hh_l1 is missing; .* with biases"),
        (reshaped("weight_hh_l1", 16, 5), {}, r"weight_hh_l1 must have shape \(16, 4\), got"),
        (reshaped("weight_ih_l0", 12, 3), {}, r"weight_ih_l0 must have shape \(16, 3\), got"),
        (reshaped("weight_hh_l0", 16), {}, r"weight_hh_l0 must be a matrix with entries, got"),
        (reshaped("weight_hh_l0", 0, 0), {}, r"weight_hh_l0 must be a matrix with entries, got"),
        (reshaped("weight_hh_l0", 20, 4), {}, r"must have shape \(G H, H\), 4 H for lstm, 3 H"),
        (reshaped("weight_hr_l0", 2, 4), {}, r"weight_hr_l0 is a projection \(proj_size\)"),
        (lambda s: None, {"cell": "gru"}, r"\(12, 4\) for cell gru, got \(16, 4\), .* of cell lst"),
        (lambda s: None, {"cell": "tcn"}, r"cell must be one of lstm, gru, rnn, got 'tcn'"),
        (lambda s: None, {"nonlinearity": "tanh"}, r"must be left out of lstm, whose functions"),
        (lambda s: None, {"readout": "out"}, r"there is no out\.weight for the readout; .* head"),
        (lambda s: None, {"readout": "head"}, r"readout's weight must have shape \(V, 4\)"),
        (lambda s: None, {"embedding": "head"}, r"embedding's weight must have shape \(V, 3\)"),
        (lambda s: s.update(weight_hh_l0=np.zeros((16, 4), int)), {}, r"must hold floats .* int64"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(change, options, words):
    state = layer_of("lstm", num_layers=2).state_dict()
    state["head.weight"] = np.zeros((2, 7), np.float32)
    change(state)
    with pytest.raises(ValueError, match=words):
        dg.load_torch(state, **options)


class Harmful:
    """Something whose pickle makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_runs_none(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("bad/data.pkl", pickle.dumps(Harmful(tmp_path / "made"), protocol=2))
    with pytest.raises(
        ValueError, match=r"but \w+\.mkdir, which only running code could make; save"
    ):
        dg.load_torch(tmp_path / "bad.pt")
    assert not (tmp_path / "made").exists()


# A pickle that sets an attribute of what it was handed out: a function could be changed so.
SETS_AN_ATTRIBUTE = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\0\0\0nameX\x01\0\0\0vsb."


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02",
        b"\x80\x02K\x05K\x06s.",
        b"\x80\x02}q\x00(X\x01\0\0\0ah\x00u.",
        SETS_AN_ATTRIBUTE,
    ],
    ids=["cut off", "nonsense", "a dict inside itself", "sets an attribute"],
)
def test_a_damaged_pickle_is_said_to_be_so(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("bad/data.pkl", content)
    with pytest.raises(ValueError, match=r"bad\.pt: was cut off or damaged"):
        dg.load_torch(tmp_path / "bad.pt")


def test_a_tensor_that_reaches_beyond_its_storage_is_damage(tmp_path):
    state = {"a": np.zeros((4, 4), np.float32)}
    write_pt(tmp_path / "good.pt", state)
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad,
    ):
        bad.writestr("archive/data.pkl", good.read("archive/data.pkl"))
        bad.writestr("archive/data/0", good.read("archive/data/0")[:-4])
    with pytest.raises(ValueError, match="storage 0 must have 16 entries, got 15"):
        dg.load_torch(tmp_path / "bad.pt")


# ---- beside PyTorch -----------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npz"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True}),
        ("LSTM", {"batch_first": True, "bias": False}),
        ("GRU", {"num_layers": 3}),
        ("GRU", {"bidirectional": True, "batch_first": True}),
        ("RNN", {"num_layers": 2}),
        ("RNN", {"nonlinearity": "relu", "bias": False}),
    ],
)
def test_a_loaded_layer_computes_what_pytorchs_does(torch, kind, options, suffix, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"encoder": getattr(torch.nn, kind)(
        3, 5, dtype=torch.float64, **options), "head": torch.nn.Linear(5, 2)})  # fmt: skip
    path = tmp_path / f"state{suffix}"
    if suffix == ".safetensors":
        torch_files = pytest.importorskip("safetensors.torch")
        torch_files.save_file(model.state_dict(), path)
    elif suffix == ".pt":
        torch.save({"epoch": 1, "model": model.state_dict()}, path)
    else:
        np.savez(path, **{k: v.numpy() for k, v in model.state_dict().items()})
    ours = {k: v for k, v in options.items() if k in ("batch_first", "nonlinearity")}
    layer = dg.load_torch(path, kind.lower(), **ours)
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    expected = model["encoder"](x)[0].detach().numpy()
    # Sums of at most ten products in another order, carried over seven steps.
    np.testing.assert_allclose(layer(x.numpy())[0].numpy(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.torch
def test_what_torch_save_writes_is_read_whole(torch, tmp_path):
    """Parameters, views of one storage, all dtypes of floats, what optimizers keep."""
    layer = torch.nn.LSTM(3, 4)
    base = torch.arange(12.0).reshape(3, 4)
    saved = {
        "model": layer.state_dict(), "optimizer": torch.optim.Adam(layer.parameters()).state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)), "turned": base.t(), "part": base[1:, ::2],
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.0, 3e38], dtype=torch.bfloat16),
        "double": torch.tensor([0.1], dtype=torch.float64), "ids": torch.tensor([1, 2]),
        "scalar": torch.tensor(3.0), "args": (1, 2.5, None, "text"),
        # Objects beside the tensors, as checkpoints of training loops have them.
        "settings": argparse.Namespace(rate=0.1), "seen": collections.Counter("text"),
        "path": pathlib.Path("data"), "when": datetime.date(2020, 1, 1), "norm": np.float64(2.5),
    }  # fmt: skip
    torch.save(saved, tmp_path / "all.pt")
    found = read_tensors(tmp_path / "all.pt")
    flat = {k: v for k, v in saved.items() if isinstance(v, torch.Tensor)}
    flat |= {f"model.{k}": v for k, v in saved["model"].items()}
    assert set(flat) <= set(found)
    for name, tensor in flat.items():
        wide = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        np.testing.assert_array_equal(found[name], wide.detach().numpy())


@pytest.mark.torch
def test_a_model_that_was_saved_as_an_object_is_refused_with_a_way_out(torch, tmp_path):
    torch.save(torch.nn.LSTM(3, 4), tmp_path / "whole.pt")
    words = r"no tensors by name but .*rnn\.LSTM, .* only running code could make; save model.state"
    with pytest.raises(ValueError, match=words):
        dg.load_torch(tmp_path / "whole.pt")
