"""Which cells are the same model in other words, and which only look alike."""

import numpy as np
import pytest

import minirnn
from minirnn import cells
from tests.conformance import harness
from tests.conformance.harness import assert_all_close, assert_all_same_bits, assert_close
from tests.strategies import Case

CASE = Case(T=7, B=4, I=3, H=9, seed=41)
# Equal in exact arithmetic: rounding over seven steps.
ROUNDING = 1e-12


def run(name, weights=None, case=CASE):
    """Run a layer forward and backward: its weights, and everything that comes out by name."""
    layer = harness.build(name, case)
    if weights is not None:
        layer.load_state_dict(weights)
    return layer.state_dict(), harness.run(layer, harness.draw(layer, case))


def by_block(names, array):
    """Cut the first axis into one view per name."""
    return dict(zip(names, np.split(array, len(names)), strict=True))


def flip(names, block, arrays, prefix=""):
    """Change the sign of one block in every weight and bias of a dict."""
    flipped = {k: v.copy() for k, v in arrays.items()}
    for key in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        by_block(names, flipped[prefix + key])[block][...] *= -1
    return flipped


@pytest.mark.parametrize("name", ["gru", "gru_before", "gru_none"])
def test_z_keeps_or_writes_by_the_sign_of_its_weights(name):
    """sigmoid(-a) = 1 - sigmoid(a): outputs and all gradients."""
    weights, keep = run(name)
    _, write = run(f"{name}_write", flip("rzn", "z", weights))
    assert_all_close(flip("rzn", "z", write, "d "), keep, ROUNDING)


@pytest.mark.parametrize("update", ["", "_write"])
def test_reset_before_and_after_the_product_are_two_models(update):
    weights, after = run(f"gru{update}")
    _, before = run(f"gru_before{update}", weights)
    difference = np.abs(after["output"][0] - before["output"][0])
    assert (difference > 1e-6).mean() > 0.9


@pytest.mark.parametrize("update", ["", "_write"])
def test_for_a_diagonal_recurrent_block_they_are_one(update):
    weights = harness.build("gru", CASE).state_dict()
    for block in np.split(weights["weight_hh_l0"], 3):
        block[...] = np.diag(np.diag(block))
    # r also scales the candidate's recurrent bias where it acts after the product.
    np.split(weights["bias_hh_l0"], 3)[2][...] = 0
    _, after = run(f"gru{update}", weights)
    _, before = run(f"gru_before{update}", weights)
    for name in ("output", "state.h", "d x", "d state0.h", "d weight_ih_l0", "d bias_ih_l0"):
        assert_close(before[name], after[name], ROUNDING, name)
    # Off the diagonal the two models have other derivatives.
    diagonals = ([np.diag(d) for d in np.split(r["d weight_hh_l0"], 3)] for r in (before, after))
    assert_close(*diagonals, ROUNDING)


@pytest.mark.parametrize("name", ["gru_none", "gru_none_write"])
def test_a_reset_gate_that_is_never_used_has_gradients_of_exactly_zero(name):
    layer = harness.build(name, CASE)
    data = harness.draw(layer, CASE)
    with minirnn.watch(layer) as seen:
        results = harness.run(layer, data)
    for key in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        gradients = by_block("rzn", results[f"d {key}"])
        assert (gradients["r"] == 0.0).all()
        assert gradients["z"].all() and gradients["n"].all()
    assert set(seen.gates) == {"z", "n"}
    assert layer.cell.num_params(3, 9, bias=1) == 3 * (3 * 9 + 9 * 9 + 9)


@pytest.mark.parametrize(
    ("one", "other"),
    [("greff_np", "lstm"), ("greff_v", "lstm_peephole"), ("mut2", "gru_before_write")],
)
def test_two_names_of_the_same_equations_give_the_same_bits(one, other):
    weights, expected = run(other)
    assert_all_same_bits(run(one, weights)[1], expected)


def test_coupled_gates_are_an_lstm_whose_input_gate_is_tied():
    """i = 1 - f: the weights of i are those of f with the other sign."""
    coupled, result = run("lstm_cifg")
    weights = {}
    for key, value in coupled.items():
        f, g, o = np.split(value, 3)
        weights[key] = np.concatenate([-f, f, g, o])
    _, tied = run("lstm", weights)
    for name in ("output", "state.h", "state.c", "d x", "d state0.h", "d state0.c"):
        assert_close(result[name], tied[name], ROUNDING, name)
    for key in coupled:
        i, f, g, o = np.split(tied[f"d {key}"], 4)
        assert_close(result[f"d {key}"], np.concatenate([f - i, g, o]), ROUNDING, key)


# A departure from the vanilla LSTM: gate -> the argument that makes it what the variant has there.
# sigmoid(50) is 1 in float64.
FIXED_GATE = {"greff_nig": "i", "greff_nfg": "f", "greff_nog": "o"}


@pytest.mark.parametrize("name", FIXED_GATE)
def test_a_cell_without_a_gate_is_the_one_whose_gate_is_wide_open(name):
    without, result = run(name)
    gate = FIXED_GATE[name]
    kept = [k for k in "ifgo" if k != gate]
    weights = harness.build("greff_v", CASE).state_dict()
    for key, value in weights.items():
        if key.startswith("vector_"):
            value[...] = without.get(key, 0.0)
            continue
        blocks = by_block("ifgo", value)
        blocks[gate][...] = 50.0 if key == "bias_ih_l0" else 0.0
        for k, block in by_block(kept, without[key]).items():
            blocks[k][...] = block
    _, opened = run("greff_v", weights)
    for key in ("output", "state.h", "state.c", "d x", "d state0.h", "d state0.c"):
        assert_close(opened[key], result[key], ROUNDING, key)


def test_greffs_coupling_keeps_i_where_olahs_keeps_f():
    """The roles of i and f change places with the sign of their weights, peepholes aside."""
    olah, result = run("lstm_cifg")
    greff = {}
    for key, value in olah.items():
        f, g, o = np.split(value, 3)
        greff[key] = np.concatenate([-f, g, o])
    _, other = run("greff_cifg", greff | {f"vector_p_{k}_l0": np.zeros(9) for k in "io"})
    for key in ("output", "state.h", "state.c", "d x", "d state0.h", "d state0.c"):
        assert_close(other[key], result[key], ROUNDING, key)


def test_without_its_nine_matrices_full_gate_recurrence_is_the_vanilla_lstm():
    vanilla, expected = run("greff_v")
    weights = harness.build("greff_fgr", CASE).state_dict() | vanilla
    nine = np.zeros((9 * 9, 9))
    weights["weight_hh_l0"] = np.concatenate([vanilla["weight_hh_l0"], nine])
    layer = harness.build("greff_fgr", CASE)
    layer.load_state_dict(weights)
    data = harness.draw(harness.build("greff_v", CASE), CASE)
    with minirnn.no_grad():
        zeros = (np.zeros((1, 4, 9)),) * 3
        output, (h, c, *_) = layer(data.x, (*data.state0, *zeros))
    assert_close(output.numpy(), expected["output"], ROUNDING)
    assert_close(h.numpy(), expected["state.h"], ROUNDING)
    assert_close(c.numpy(), expected["state.c"], ROUNDING)


def test_the_hidden_layer_of_an_elman_network_is_a_logistic_rnn():
    weights, _ = run("elman")
    inner = {k: v[: (len(v) // 2 if "hh" in k else None)] for k, v in weights.items()}
    layer, hidden = harness.build("elman", CASE), harness.build("rnn_logistic", CASE)
    hidden.load_state_dict(inner)
    x, h0 = harness.draw(hidden, CASE).x, harness.draw(hidden, CASE).state0[0]
    with minirnn.watch(layer) as seen, minirnn.no_grad():
        layer.load_state_dict(weights)
        layer(x, (np.ones_like(h0), h0))  # y before the first step is never read
        output, _ = hidden(x, h0)
    assert_close(seen.states["h"][1:], output.numpy(), ROUNDING)


@pytest.mark.parametrize(("name", "gate"), [("mut1", "n"), ("mut2", "r")])
def test_the_mutants_of_the_paper_have_the_identity_where_x_is_projected(name, gate):
    """tanh(x_t) in MUT1 and x_t in MUT2, without weights: I = H."""
    case = Case(T=6, B=3, I=5, H=5, seed=42)
    layer = harness.build(name, case)
    weights = layer.state_dict()
    by_block("rzn", weights["weight_ih_l0"])[gate][...] = np.eye(5)
    by_block("rzn", weights["bias_ih_l0"])[gate][...] = 0
    layer.load_state_dict(weights)
    data = harness.draw(layer, case)
    with minirnn.no_grad():
        output, _ = layer(data.x, data.state0[0])

    W = by_block("rzn", weights["weight_ih_l0"])
    b = by_block("rzn", weights["bias_ih_l0"])
    U = by_block(layer.cell.products, weights["weight_hh_l0"])
    d = by_block(layer.cell.products, weights["bias_hh_l0"])
    h = data.state0[0][0]
    for x, row in zip(data.x, output.numpy(), strict=True):
        if name == "mut1":
            r = 1 / (1 + np.exp(-(x @ W["r"].T + b["r"] + h @ U["r"].T + d["r"])))
            z = 1 / (1 + np.exp(-(x @ W["z"].T + b["z"])))
            n = np.tanh((r * h) @ U["n"].T + d["n"] + np.tanh(x))
        else:
            r = 1 / (1 + np.exp(-(x + h @ U["r"].T + d["r"])))
            z = 1 / (1 + np.exp(-(x @ W["z"].T + b["z"] + h @ U["z"].T + d["z"])))
            n = np.tanh((r * h) @ U["n"].T + d["n"] + x @ W["n"].T + b["n"])
        h = n * z + h * (1 - z)
        assert_close(row, h, ROUNDING)


@pytest.mark.parametrize("update", ["keep", "write"])
@pytest.mark.parametrize("reset", ["after", "before", "none"])
def test_the_gru_of_any_lecture_is_named_by_two_words(reset, update):
    name = "gru" + {"after": ""}.get(reset, f"_{reset}") + {"keep": ""}.get(update, f"_{update}")
    layer = minirnn.GRU(3, 9, reset=reset, update=update, dtype="float64", seed=CASE.seed)
    assert layer.cell is cells.get(name)
    weights, expected = run(name)
    layer.load_state_dict(weights)
    assert_all_same_bits(harness.run(layer, harness.draw(layer, CASE)), expected)


@pytest.mark.parametrize("wrong", [dict(reset="never"), dict(update="forget")])
def test_an_unknown_convention_is_refused(wrong):
    with pytest.raises(ValueError, match="reset must be 'after', 'before' or 'none'"):
        minirnn.GRU(3, 9, **wrong)


def test_a_skewed_deep_rnn_has_the_formula_of_the_lecture():
    """h^j_t = tanh W^j (h^{j-1}_{t-1}; h^j_{t-1}), W^j of n x 2n, h^0_{t-1} = x_t."""
    layer = minirnn.RNN(9, 9, num_layers=3, bias=False, skew=True, dtype="float64", seed=0)
    rng = np.random.default_rng(5)
    x, h = rng.normal(size=(7, 4, 9)), rng.normal(size=(3, 4, 9))
    with minirnn.no_grad():
        output, final = layer(x, h)
    W = [
        np.concatenate([p[f"weight_ih_l{j}"], p[f"weight_hh_l{j}"]], axis=1)
        for p in [layer.state_dict()]
        for j in range(3)
    ]
    for x_t, row in zip(x, output.numpy(), strict=True):
        lower = [x_t, h[0], h[1]]
        h = np.stack([np.tanh(np.concatenate([lower[j], h[j]], axis=1) @ W[j].T) for j in range(3)])
        assert_close(row, h[2], ROUNDING)
    assert_close(final.numpy(), h, ROUNDING)
