"""Omega and flossing: their values by loops that share no code, their gradients by differences."""

import numpy as np
import pytest

import minirnn
from minirnn.regularise import exponents, flossing, omega


def backward_in(layer, x, weight=None):
    """Run a layer and back from a random loss; what `watch` saw."""
    rng = np.random.default_rng(1)
    with minirnn.watch(layer) as seen:
        output, _ = layer(x)
        by = rng.normal(size=output.shape) if weight is None else weight
        (output * by.astype(output.dtype)).sum().backward()
    return seen


def omega_by_hand(weight, g, u, squared=True):
    """Follow the code of 2013, row vectors, step by step: (Omega, its derivative by the matrix).

    g: (T, B, H), dC/dh_1 to dC/dh_T.  u: (T, B, H), g times the slope.  weight: (H, H) as in
    ``h_t = phi(W h_{t-1})``.
    """
    total, by_weight, kept = 0.0, np.zeros_like(weight), 0
    for g_t, u_t in zip(g.reshape(-1, g.shape[2]), u.reshape(-1, u.shape[2]), strict=True):
        size = g_t @ g_t
        if size < 1e-20:
            continue
        kept += 1
        v = u_t @ weight
        ratio = v @ v / size
        if squared:
            total += (ratio - 1) ** 2
            by_weight += 4 * (ratio - 1) / size * np.outer(u_t, v)
        else:
            total += (np.sqrt(ratio) - 1) ** 2
            by_weight += 2 * (np.sqrt(ratio) - 1) / np.sqrt(ratio) / size * np.outer(u_t, v)
    return total / kept, by_weight / kept


SLOPES = {"tanh": lambda h: 1 - h * h, "relu": lambda h: 1.0 * (h > 0),
          "logistic": lambda h: h * (1 - h)}  # fmt: skip


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("nonlinearity", list(SLOPES))
def test_omega_and_its_derivative_are_those_of_the_loop(nonlinearity, squared, rng):
    layer = minirnn.RNN(3, 5, nonlinearity=nonlinearity, dtype="float64", seed=0)
    seen = backward_in(layer, rng.normal(size=(6, 4, 3)))
    weight = layer.weight_hh_l0.numpy()
    g = seen.state_grads["h"][1:]
    u = g * SLOPES[nonlinearity](seen.states["h"][1:])
    expected, by_weight = omega_by_hand(weight, g, u, squared)
    layer.zero_grad()
    value = omega(layer, seen, squared)
    value.backward()
    # The same sums in another order: rounding only.
    assert value.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(layer.weight_hh_l0.grad, by_weight, rtol=1e-11, atol=1e-13)


def test_only_the_recurrent_matrix_gets_a_derivative_of_omega(rng):
    layer = minirnn.RNN(3, 5, seed=0)
    seen = backward_in(layer, rng.normal(size=(6, 4, 3)).astype(np.float32))
    layer.zero_grad()
    omega(layer, seen).backward()
    have = {name for name, p in layer.named_parameters() if p.grad is not None}
    assert have == {"weight_hh_l0"}


@pytest.mark.parametrize("squared", [True, False])
def test_omega_passes_gradcheck_with_the_record_held_fixed(squared, rng):
    layer = minirnn.RNN(2, 4, dtype="float64", seed=0)
    seen = backward_in(layer, rng.normal(size=(5, 3, 2)))
    assert minirnn.gradcheck(lambda _: omega(layer, seen, squared), [layer.weight_hh_l0])


def test_omega_is_zero_where_every_step_keeps_the_norm():
    """An orthogonal matrix at h = 0, where tanh has slope 1."""
    init = {"weight_hh": minirnn.init.orthogonal(), "bias": minirnn.init.zeros()}
    layer = minirnn.RNN(2, 6, dtype="float64", seed=0, init=init)
    seen = backward_in(layer, np.zeros((7, 3, 2)))
    assert omega(layer, seen).item() < 1e-25  # squares of rounding errors near 1e-16


def test_steps_without_a_gradient_do_not_count(rng):
    """The loss reads row 3 alone: the rows after it have none."""
    layer = minirnn.RNN(2, 4, dtype="float64", seed=0)
    x = rng.normal(size=(8, 3, 2))
    weight = np.zeros((8, 3, 4))
    weight[2] = 1.0
    late = omega(layer, backward_in(layer, x, weight))
    early = omega(layer, backward_in(layer, x[:3], weight[:3]))
    assert late.item() == pytest.approx(early.item(), rel=1e-12)


def test_padding_does_not_count(rng):
    layer = minirnn.RNN(2, 4, dtype="float64", seed=0)
    x = rng.normal(size=(6, 3, 2))
    with minirnn.watch(layer) as whole:
        (layer(x)[1]).sum().backward()
    longer = np.concatenate([x, np.full((4, 3, 2), np.nan)])
    with minirnn.watch(layer) as padded:
        (layer(longer, lengths=[6, 6, 6])[1]).sum().backward()
    assert omega(layer, padded).item() == pytest.approx(omega(layer, whole).item(), rel=1e-12)


def test_omega_of_a_stack_in_both_directions_adds_up(rng):
    layer = minirnn.RNN(2, 4, num_layers=2, bidirectional=True, dtype="float64", seed=0)
    seen = backward_in(layer, rng.normal(size=(5, 3, 2)))
    parts = []
    for level, direction, suffix in [(0, 0, "l0"), (0, 1, "l0_reverse"), (1, 0, "l1"),
                                     (1, 1, "l1_reverse")]:  # fmt: skip
        view = seen[level, direction]
        g, u = view.state_grads["h"][1:], view.recurrent_gate_grads["h"]
        weight = getattr(layer, f"weight_hh_{suffix}").numpy()
        parts.append(omega_by_hand(weight, g, u)[0])
    assert omega(layer, seen).item() == pytest.approx(sum(parts), rel=1e-12)


def test_gradients_of_any_size_have_an_omega():
    """float32 gradients of 1e30, whose squares are none."""
    layer = minirnn.RNN(2, 4, seed=0)
    x = np.ones((5, 2, 2), np.float32)
    usual = omega(layer, backward_in(layer, x, np.ones((5, 2, 4)))).item()
    huge = omega(layer, backward_in(layer, x, np.full((5, 2, 4), 1e30))).item()
    assert huge == pytest.approx(usual, rel=1e-4)  # float32 sums


def test_descending_omega_brings_the_step_gain_to_one(rng):
    layer = minirnn.RNN(3, 8, dtype="float64", seed=0)
    x = rng.normal(size=(10, 4, 3)) * 0.1
    values = []
    for _ in range(60):
        seen = backward_in(layer, x)
        layer.zero_grad()
        value = omega(layer, seen)
        value.backward()
        layer.weight_hh_l0.assign(layer.weight_hh_l0.numpy() - 0.3 * layer.weight_hh_l0.grad)
        values.append(value.item())
    assert values[-1] < 0.2 * values[0]


@pytest.mark.parametrize("cell", ["lstm", "gru", "mgu", "clockwork"])
def test_omega_refuses_other_cells_and_names_the_way_out(cell):
    layer = minirnn.Recurrent(cell, 2, 4)
    with pytest.raises(ValueError, match="flossing"):
        omega(layer, None)


def test_omega_wants_a_backward_pass_first():
    layer = minirnn.RNN(2, 4)
    with minirnn.watch(layer) as seen:
        layer(np.ones((3, 1, 2), np.float32))
    with pytest.raises(RuntimeError, match="after a backward pass"):
        omega(layer, seen)
    with pytest.raises(TypeError, match="omega: layer must be a Recurrent"):
        omega(minirnn.Linear(2, 2), seen)


# A sample of the registry: one and two states, means inside the step, constants, `below`.
CELLS = ["rnn", "lstm", "gru", "clockwork", "depth_gated", "gru_layernorm"]


@pytest.mark.parametrize("cell", CELLS)
def test_flossing_passes_gradcheck(cell, rng):
    layer = minirnn.Recurrent(cell, 2, 4, dtype="float64", seed=0)
    x = rng.normal(size=(3, 2, 2))
    given = [*layer.parameters(), minirnn.Tensor(x)]
    assert minirnn.gradcheck(lambda *_: flossing(layer, given[-1], 2), given)


@pytest.mark.parametrize("cell", CELLS)
def test_all_exponents_add_up_to_the_logarithm_of_the_determinants(cell, rng):
    layer = minirnn.Recurrent(cell, 2, 3, dtype="float64", seed=0)
    x = rng.normal(size=(6, 2, 2))
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x)
    jacobians = seen.step_jacobians()
    found = exponents(layer, x, jacobians.shape[2]).numpy()
    logs = np.linalg.slogdet(jacobians)[1].mean(axis=0)
    np.testing.assert_allclose(found.sum(axis=1), logs, rtol=1e-9)


def test_exponents_of_a_linear_network_are_logarithms_of_its_eigenvalues(rng):
    """tanh at 0; a normal matrix with real eigenvalues of distinct size."""
    values = np.array([0.9, -0.5, 0.2, 0.05])
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    layer = minirnn.RNN(1, 4, bias=False, dtype="float64")
    layer.weight_hh_l0.assign(basis @ np.diag(values) @ basis.T)
    found = exponents(layer, np.zeros((80, 1, 1)), 4, skip=60).numpy()
    # After 60 steps the directions have turned to within (0.5 / 0.9)^60 = 5e-16.
    np.testing.assert_allclose(found[0], np.log(np.abs(values)), rtol=1e-9)


def test_flossing_of_an_orthogonal_network_is_zero():
    init = {"weight_hh": minirnn.init.orthogonal(), "bias": minirnn.init.zeros()}
    layer = minirnn.RNN(1, 6, dtype="float64", seed=0, init=init)
    assert flossing(layer, np.zeros((20, 2, 1)), 6).item() < 1e-28  # squares of rounding


def test_flossing_steps_bring_the_exponents_to_zero(rng):
    layer = minirnn.RNN(2, 8, dtype="float64", seed=0)
    adam = minirnn.Adam(layer.parameters(), lr=0.02)
    x = rng.normal(size=(12, 2, 2))
    before = exponents(layer, x, 3).numpy()
    for _ in range(40):
        adam.zero_grad()
        flossing(layer, x, 3).backward()
        adam.step()
    after = exponents(layer, x, 3).numpy()
    assert np.abs(before).mean() > 0.5
    assert np.abs(after).mean() < 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k must lie in 1 to the number of state entries, 8"),
        ({"k": 9}, "got 9"),
        ({"k": 2, "skip": 3}, "skip must leave a step of T = 3, got 3"),
    ],
)
def test_exponents_say_what_is_wrong(arguments, words):
    layer = minirnn.LSTM(2, 4)
    with pytest.raises(ValueError, match=words):
        exponents(layer, np.zeros((3, 1, 2), np.float32), **arguments)


def test_exponents_of_dead_units_are_refused_with_the_way_out():
    layer = minirnn.RNN(1, 3, nonlinearity="relu", bias=False)
    layer.weight_hh_l0.assign(-np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="take a smaller k"):
        exponents(layer, np.zeros((3, 1, 1), np.float32), 1)


def test_exponents_are_differentiable_once():
    layer = minirnn.RNN(1, 3, dtype="float64", seed=0)
    value = flossing(layer, np.ones((3, 1, 1)), 2)
    with pytest.raises(RuntimeError, match="once only"):
        minirnn.grad(value, [layer.weight_hh_l0], create_graph=True)


def test_a_stack_is_refused_by_flossing():
    with pytest.raises(ValueError, match="one level and one direction"):
        flossing(minirnn.RNN(2, 3, num_layers=2), np.zeros((3, 1, 2), np.float32), 1)
