"""What Python callers give to diagnostics: refused by name, or measured where it was asked."""

import re

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
