"""Networks whose gradients are known on paper: no oracle but arithmetic."""

import numpy as np
import pytest

import minirnn
from minirnn import cell


@cell(gates="h", state="h")
def linear(wx, u, prev):
    """The recurrence without a nonlinearity: every Jacobian is U."""
    return wx.h + u.h @ prev.h


def orthogonal(rng, units):
    q, r = np.linalg.qr(rng.normal(size=(units, units)))
    return q * np.sign(np.diag(r))


def set_parameters(layer, **values):
    """Write the given parameters of level 0 and zeros into all others."""
    for name, parameter in layer.named_parameters():
        value = np.zeros(parameter.shape)
        value[...] = values.get(name.removesuffix("_l0"), 0.0)
        parameter.assign(value)


@pytest.mark.parametrize("name", ["linear", "rnn"])
def test_an_orthogonal_matrix_keeps_the_gradient_norm_over_a_thousand_steps(name, rng):
    steps, units = 1000, 24
    layer = minirnn.Recurrent(linear if name == "linear" else name, 1, units, dtype="float64")
    set_parameters(layer, weight_hh=orthogonal(rng, units))
    # tanh has slope 1 at 0, where zero input keeps it.
    x = np.zeros((steps, 3, 1))
    with minirnn.watch(layer) as seen:
        _, state = layer(x)
        state.backward(rng.normal(size=state.shape))
    norms = np.linalg.norm(seen.carried_grads["h"], axis=-1)
    # 1000 products with a matrix that is orthogonal to about 1e-16.
    np.testing.assert_allclose(norms, np.broadcast_to(norms[-1], norms.shape), rtol=1e-12)


def test_a_scaled_orthogonal_matrix_lets_the_gradient_decay_as_its_scale(rng):
    steps, units, rho = 60, 17, 0.9
    layer = minirnn.Recurrent("rnn", 2, units, dtype="float64")
    set_parameters(layer, weight_hh=rho * orthogonal(rng, units))
    with minirnn.watch(layer) as seen:
        _, state = layer(np.zeros((steps, 2, 2)))
        state.backward(rng.normal(size=state.shape))
    norms = np.linalg.norm(seen.carried_grads["h"], axis=-1)
    lag = steps - np.arange(steps + 1)[:, None]
    np.testing.assert_allclose(norms / norms[-1], rho**lag * np.ones(2), rtol=1e-10)


@pytest.mark.parametrize("w", [0.5, 0.97, 1.0, 1.2, -0.8])
def test_a_scalar_network_with_a_loss_at_every_step_sums_a_geometric_series(w):
    """h_t = w h_{t-1} + x_t and L = sum_t h_t: dL/dh_k = 1 + w + ... + w^(T-k)."""
    steps = 40
    layer = minirnn.Recurrent(linear, 1, 1, dtype="float64")
    set_parameters(layer, weight_hh=w, weight_ih=1.0)
    x = minirnn.Tensor(np.linspace(-1, 2, steps).reshape(steps, 1, 1), requires_grad=True)
    with minirnn.watch(layer) as seen:
        output, _ = layer(x)
        output.sum().backward()
    delta = np.array([sum(w**j for j in range(steps - k + 1)) for k in range(1, steps + 1)])
    np.testing.assert_allclose(seen.carried_grads["h"][1:, 0, 0], delta, rtol=1e-13)
    np.testing.assert_allclose(x.grad[:, 0, 0], delta, rtol=1e-13)
    # dL/dw = sum_t delta_t h_{t-1}
    before = seen.states["h"][:-1, 0, 0]
    weight = dict(layer.named_parameters())["weight_hh_l0"]
    np.testing.assert_allclose(weight.grad[0, 0], (delta * before).sum(), rtol=1e-12)


def test_a_scalar_tanh_network_multiplies_its_slopes():
    """L = h_T: dL/dh_k is the product over t > k of w (1 - h_t^2)."""
    steps, w = 30, 1.3
    layer = minirnn.Recurrent("rnn", 1, 1, dtype="float64")
    set_parameters(layer, weight_hh=w, weight_ih=1.0)
    x = np.sin(np.arange(steps, dtype=np.float64)).reshape(steps, 1, 1)
    with minirnn.watch(layer) as seen:
        output, _ = layer(x)
        output[-1].sum().backward()
    h = seen.states["h"][:, 0, 0]
    expected = [np.prod(w * (1 - h[k + 1 :] ** 2)) for k in range(steps + 1)]
    np.testing.assert_allclose(seen.carried_grads["h"][:, 0, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0, 4.0])
def test_an_lstm_without_recurrent_weights_forgets_by_its_bias(bias):
    """The cell state's gradient passes f = sigma(b_f) at every step and nothing else."""
    steps, units = 50, 5
    layer = minirnn.LSTM(2, units, dtype="float64")
    biases = np.zeros((4, units))
    biases[1] = bias
    set_parameters(layer, bias_ih=biases.ravel())
    with minirnn.watch(layer) as seen:
        layer(np.zeros((steps, 1, 2)), (np.zeros((1, 1, units)), np.ones((1, 1, units))))
    record = seen.pullback(d_state=(np.zeros((1, units)), np.ones((1, units))))
    f = 1 / (1 + np.exp(-bias))
    lag = steps - np.arange(steps + 1)
    # The kernel's sigmoid is within 4 ulp, here to the power of 50.
    np.testing.assert_allclose(record.carried_grads["c"][:, 0, 0], f**lag, rtol=1e-13)


def test_a_gru_that_keeps_everything_hands_its_gradient_on_unchanged():
    """z = 1 (bias 50) copies h, so that every gradient passes as it is."""
    steps, units = 200, 6
    layer = minirnn.GRU(2, units, dtype="float64")
    biases = np.zeros((3, units))
    biases[1] = 50.0
    set_parameters(layer, bias_ih=biases.ravel())
    x = np.ones((steps, 1, 2))
    state0 = minirnn.Tensor(np.linspace(-1, 1, units).reshape(1, 1, units), requires_grad=True)
    _, state = layer(x, state0)
    cotangent = np.arange(1.0, units + 1).reshape(1, 1, units)
    state.backward(cotangent)
    np.testing.assert_allclose(state.numpy(), state0.numpy(), rtol=1e-13)
    np.testing.assert_allclose(state0.grad, cotangent, rtol=1e-13)
