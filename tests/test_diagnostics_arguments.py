"""What Python callers give to diagnostics: refused by name, or measured where it was asked."""

import re
from pathlib import Path

import numpy as np
import pytest

import diagnostics as dg
import minirnn

STEPS, BATCH, HIDDEN = 6, 3, 4

OF_A_LOSS = {
    "gradient_flow": dg.gradient_flow,
    "credit": dg.credit,
    "example_grad_norms": dg.example_grad_norms,
    "influence_map": dg.influence_map,
    "numeric_health": dg.numeric_health,
    "loss_scaling": dg.loss_scaling,
    "graph_clipping": lambda *given, **named: dg.graph_clipping(*given, clip=1.0, **named),
    "self_checks": dg.self_checks,
}
OF_A_LAYER = {
    "lag_gain": dg.lag_gain,
    "gate_statistics": dg.gate_statistics,
    "memory_timescales": dg.memory_timescales,
    "step_jacobians": dg.step_jacobians,
}
BY_LEVEL = {k: f for k, f in OF_A_LOSS.items() if k not in ("example_grad_norms", "self_checks")}


def layer_of(cell="rnn", **options):
    return minirnn.Recurrent(cell, 3, HIDDEN, dtype=np.float64, seed=1, **options)


@pytest.fixture
def x(rng):
    return rng.standard_normal((STEPS, BATCH, 3))


# ---- the gradient of the loss by the output ------------------------------------------------------


@pytest.mark.parametrize("name", OF_A_LOSS)
@pytest.mark.parametrize(
    "shape", [(1, 1, HIDDEN), (STEPS, 1, HIDDEN), (BATCH, HIDDEN), (STEPS, BATCH, 2), ()], ids=str
)
def test_a_gradient_of_another_shape_is_refused_and_never_broadcast(name, shape, x):
    words = f"{name}: d_output must have the output's shape ({STEPS}, {BATCH}, {HIDDEN}), got "
    with pytest.raises(ValueError, match=re.escape(words + str(shape))):
        OF_A_LOSS[name](layer_of(), x, np.ones(shape))


@pytest.mark.parametrize("name", [k for k in OF_A_LOSS if k != "self_checks"])
def test_a_gradient_that_is_none_is_refused(name, x):
    with pytest.raises(ValueError, match=f"{name}: d_output must have the output's shape"):
        OF_A_LOSS[name](layer_of(), x, None)


@pytest.mark.parametrize("name", OF_A_LOSS)
def test_a_gradient_of_complex_numbers_is_refused(name, x):
    with pytest.raises(TypeError, match=f"{name}: d_output must hold real numbers, got dtype comp"):
        OF_A_LOSS[name](layer_of(), x, np.ones((STEPS, BATCH, HIDDEN), complex))


@pytest.mark.parametrize("name", ["influence_map", "self_checks"])
@pytest.mark.parametrize("single", [False, True])
def test_the_shape_that_is_asked_for_is_the_one_that_the_layer_gives(name, single, x, rng):
    layer = layer_of(batch_first=True)
    given = x[:, 0] if single else x.swapaxes(0, 1)
    output, _ = layer(given)
    d_output = rng.standard_normal(output.shape)
    assert np.isfinite(OF_A_LOSS[name](layer, given, d_output).value).all()
    with pytest.raises(ValueError, match=re.escape(f"shape {output.shape}, got")):
        OF_A_LOSS[name](layer, given, d_output.swapaxes(0, 1))


# ---- layers, levels and directions ---------------------------------------------------------------


@pytest.mark.parametrize("name", [*OF_A_LOSS, *OF_A_LAYER])
@pytest.mark.parametrize("given", ["lstm", None, minirnn.Sequential(minirnn.Linear(3, 4))], ids=str)
def test_what_is_no_layer_is_refused_by_the_function_that_was_called(name, given, x):
    words = f"{name}: layer must be a minirnn.Recurrent, got {type(given).__name__}; of a model"
    arguments = (x, np.ones((STEPS, BATCH, HIDDEN))) if name in OF_A_LOSS else (x,)
    with pytest.raises(TypeError, match=words):
        (OF_A_LOSS | OF_A_LAYER)[name](given, *arguments)


@pytest.mark.parametrize("name", [*BY_LEVEL, *OF_A_LAYER, "lyapunov_spectrum", "linearisation"])
def test_a_level_or_direction_that_is_not_there_is_refused_by_the_function_that_was_called(name, x):
    measure = (BY_LEVEL | OF_A_LAYER).get(name) or getattr(dg, name)
    arguments = (x, np.ones((STEPS, BATCH, HIDDEN))) if name in BY_LEVEL else (x,)
    with pytest.raises(ValueError, match=f"^{name}: level must lie in -1 to 0, got 1; the layer"):
        measure(layer_of(), *arguments, level=1)
    with pytest.raises(ValueError, match=f"^{name}: level must lie in -1 to 0, got 0.5; the"):
        measure(layer_of(), *arguments, level=0.5)
    with pytest.raises(ValueError, match=f"^{name}: direction must lie in 0 to 0, got -1; .* not"):
        measure(layer_of(), *arguments, direction=-1)


@pytest.mark.parametrize(
    "value", [2.5, 0, -1, np.nan, np.inf, "2", True, None, [2], 1 + 0j], ids=str
)
def test_a_number_of_sources_that_is_not_whole_is_refused(value, x):
    words = re.escape(f"sources must be a whole number, 1 or more, got {value!r}")
    with pytest.raises(ValueError, match=f"^lag_gain: {words}"):
        dg.lag_gain(layer_of(), x, sources=value)
    with pytest.raises(ValueError, match=f"^diagnose: {words}"):
        dg.diagnose(layer_of(), x, sources=value)
    if value is not None:  # which is: all of them
        with pytest.raises(ValueError, match=f"^influence_map: {words}"):
            dg.influence_map(layer_of(), x, np.ones((STEPS, BATCH, HIDDEN)), sources=value)


COUNTS = {
    "lyapunov_spectrum: k": lambda n: dg.lyapunov_spectrum(np.ones((4, 2, 2)), k=n),
    "lyapunov_spectrum: every": lambda n: dg.lyapunov_spectrum(np.ones((4, 2, 2)), every=n),
    "lyapunov_spectrum: warmup": lambda n: dg.lyapunov_spectrum(np.ones((4, 2, 2)), warmup=n),
    "singular_values: steps": lambda n: dg.singular_values(np.ones((4, 2, 2)), steps=n),
    "clipping_statistics: window": lambda n: dg.clipping_statistics([], window=n),
}


@pytest.mark.parametrize("value", [1.5, -1, np.nan, "2", True, [2]], ids=str)
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_that_is_not_whole_is_refused(name, value):
    words = rf"^{name} must be a whole number, [01] or more, got {re.escape(repr(value))}"
    with pytest.raises(ValueError, match=words):
        COUNTS[name](value)


def test_a_number_that_is_whole_may_be_of_any_type(x):
    for two in (2, 2.0, np.int8(2), np.float32(2)):
        assert len(dg.lag_gain(layer_of(), x, sources=two, max_lag=two).rows) == two


# ---- models and losses ---------------------------------------------------------------------------


def doubled(x):
    return 2 * x


@pytest.mark.parametrize(
    "given", [None, doubled, "lstm", minirnn.LSTM, minirnn.Linear(3, 4)], ids=str
)
@pytest.mark.parametrize("name", ["diagnose", "tbptt_error", "Monitor"])
def test_what_holds_no_recurrent_layer_is_refused_by_name(name, given, x):
    arguments = {"diagnose": (x,), "tbptt_error": (x, x), "Monitor": ()}[name]
    words = rf"^{name}: model must be or contain a minirnn\.Recurrent, got {type(given).__name__}"
    with pytest.raises(ValueError, match=words):
        getattr(dg, name)(given, *arguments)


def apart(out, y):
    return out - y


@pytest.mark.parametrize("name", ["diagnose", "tbptt_error", "precision"])
@pytest.mark.parametrize(
    ("loss", "kind", "words"),
    [
        ("mse", TypeError, r"loss must be a callable \(out, y\), got str; leave it out for"),
        (apart, ValueError, r"loss must return one number, got shape \(6, 3, 4\); take its mean"),
        (lambda out, y: 1.0, TypeError, "loss must return a Tensor, got float; compute it with"),
        (lambda out, y: None, TypeError, "loss must return a Tensor, got NoneType"),
    ],
    ids=["str", "shape", "float", "None"],
)
def test_a_loss_that_is_none_is_refused_by_name(name, loss, kind, words, x):
    with pytest.raises(kind, match=f"^{name}: {words}"):
        getattr(dg, name)(layer_of(), x, np.ones((STEPS, BATCH, HIDDEN)), loss=loss)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"need_lag": 2.5}, "need_lag must be a whole number, 0 or more, got 2.5"),
        ({"need_lag": "2"}, "need_lag must be a whole number, 0 or more, got '2'"),
        ({"need_lag": 6}, "need_lag must lie in 0 to 5, the largest lag measured, got 6"),
        ({"lyapunov": 0.5}, "lyapunov must be a whole number, 1 or more, got 0.5"),
        ({"seed": -1}, "seed must be a whole number, 0 or more, got -1"),
    ],
)
def test_diagnose_refuses_numbers_by_name(options, words, x):
    with pytest.raises(ValueError, match=f"^diagnose: {words}"):
        dg.diagnose(layer_of(), x, **options)


def test_a_single_length_of_chunks_is_refused_with_the_way_out(x):
    with pytest.raises(TypeError, match=r"tbptt_error: chunks must be .* got 3; pass \[3\]"):
        dg.tbptt_error(layer_of(), x, np.ones((STEPS, BATCH, HIDDEN)), chunks=3)


# ---- monitor and comparison ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"every": "a"}, ValueError, "every must be a whole number, 1 or more, got 'a'"),
        ({"every": None}, ValueError, "every must be a whole number, 1 or more, got None"),
        ({"every": np.nan}, ValueError, "every must be a whole number, 1 or more, got nan"),
        ({"every": np.inf}, ValueError, "every must be a whole number, 1 or more, got inf"),
        ({"start": -3}, ValueError, "start must be a whole number, 0 or more, got -3"),
        ({"start": 0.5}, ValueError, "start must be a whole number, 0 or more, got 0.5"),
        ({"seed": None}, ValueError, "seed must be a whole number, 0 or more, got None"),
        ({"path": 3}, TypeError, "path must be a path, got int"),
        (
            {"tensorboard": 3},
            TypeError,
            "tensorboard must be a folder's path or a writer .* got int",
        ),
    ],
    ids=str,
)
def test_a_monitor_refuses_by_name_before_it_writes_anything(options, kind, words, tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.raises(kind, match=f"^Monitor: {words}"):
        dg.Monitor(layer_of(), **{"path": path} | options)
    assert not path.exists()


@pytest.mark.parametrize("runs", ["r0.json", b"r0.json", Path("r0.json")], ids=repr)
def test_a_comparison_of_one_path_asks_for_a_list(runs):
    words = f"^compare: runs must be a list, one for each run, got one {type(runs).__name__}; pass"
    with pytest.raises(TypeError, match=words):
        dg.compare(runs)
    with pytest.raises(TypeError, match="compare: names must be a list, one for each run"):
        dg.compare(["a.json", "b.json"], names="ab")


# ---- a lower level -------------------------------------------------------------------------------


def lower_by_hand(layer, x, d_output, clip=None):
    """The delta of the lower level of two of tanh, (T+1, B, H), by loops."""
    w_ih, w_hh, states = [], [], []
    given = x
    for level in (0, 1):
        w_ih.append(layer.state_dict()[f"weight_ih_l{level}"])
        w_hh.append(layer.state_dict()[f"weight_hh_l{level}"])
        h = np.zeros((STEPS + 1, BATCH, HIDDEN))
        for t in range(STEPS):
            h[t + 1] = np.tanh(given[t] @ w_ih[level].T + h[t] @ w_hh[level].T)
        states.append(h)
        given = h[1:]
    entering = d_output
    for level in (1, 0):
        delta = np.zeros((STEPS + 1, BATCH, HIDDEN))
        below = np.zeros_like(x if level == 0 else d_output)
        for t in reversed(range(STEPS)):
            delta[t + 1] += entering[t]
            norm = np.linalg.norm(delta[t + 1], axis=1, keepdims=True)
            held = delta[t + 1]
            if level == 0 and clip is not None:
                held = held * np.minimum(1, clip / norm)
            d_a = held * (1 - states[level][t + 1] ** 2)
            delta[t] += d_a @ w_hh[level]
            below[t] = d_a @ w_ih[level]
        entering = below
    return delta


@pytest.fixture
def stacked(x, rng):
    """A layer of two levels, its input, the output's gradient, and the lower level's delta."""
    layer = layer_of(num_layers=2, bias=False)
    d_output = rng.standard_normal((STEPS, BATCH, HIDDEN))
    return layer, x, d_output, lower_by_hand(layer, x, d_output)


@pytest.mark.parametrize("level", [0, -2])
def test_the_influence_on_a_lower_level_sums_to_its_gradient_by_hand(level, stacked):
    layer, x, d_output, delta = stacked
    found = dg.influence_map(layer, x, d_output, level=level)
    np.testing.assert_allclose(found.summed["h"], delta, rtol=1e-10, atol=1e-14)


def test_clipping_in_a_lower_level_has_the_norms_by_hand(stacked):
    layer, x, d_output, delta = stacked
    found = dg.graph_clipping(layer, x, d_output, clip=1.0, level=0)
    norms = np.median(np.linalg.norm(delta, axis=2), axis=1)
    np.testing.assert_allclose(found.total_norm, norms, rtol=1e-10)
    # A row is shown as it steps back, scaled; the first steps back nowhere.
    held = lower_by_hand(layer, x, d_output, clip=1.0)
    norms = np.linalg.norm(held, axis=2)
    norms[1:] = np.minimum(norms[1:], 1.0)
    np.testing.assert_allclose(found.clipped_norm, np.median(norms, axis=1), rtol=1e-10)


def test_underflow_is_looked_for_in_the_level_that_is_asked(stacked):
    """Nothing returns through the lower level's recurrence when its weights are zero."""
    layer, x, d_output, _ = stacked
    layer.weight_hh_l0.assign(np.zeros((HIDDEN, HIDDEN)))
    last = np.zeros_like(d_output)
    last[-1] = d_output[-1]
    layer.weight_ih_l1.assign(np.eye(HIDDEN))
    layer.weight_hh_l1.assign(np.zeros((HIDDEN, HIDDEN)))
    for measure in (dg.numeric_health, dg.loss_scaling):
        with pytest.raises(ValueError, match="level must lie in -2 to 1"):
            measure(layer, x, last, level=2)
    assert dg.numeric_health(layer, x, last, level=0).value == 1.0
    layer.weight_hh_l0.assign(np.eye(HIDDEN))
    assert dg.numeric_health(layer, x, last, level=1).value == 1.0
    assert dg.numeric_health(layer, x, last, level=0).value == 0.0
    assert dg.loss_scaling(layer, x, last, [1.0], level=0).value[0] == STEPS
    assert dg.loss_scaling(layer, x, last, [1.0], level=1).value[0] == 0


@pytest.mark.parametrize("cell", ["lstm", "depth_gated"])
def test_a_lower_level_has_the_gradient_that_the_tape_gives_it(cell, x, rng):
    layer = layer_of(cell, num_layers=2, bidirectional=True)
    d_output = rng.standard_normal((STEPS, BATCH, 2 * HIDDEN))
    with minirnn.watch(layer) as seen:
        output, _ = layer(x)
        output.backward(d_output)
    for level, direction in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        found = dg.influence_map(layer, x, d_output, level=level, direction=direction)
        for k, expected in seen[level, direction].carried_grads.items():
            np.testing.assert_allclose(found.summed[k], expected, rtol=1e-8, atol=1e-12)
