"""SpatialLSTM against a loop over pixels, and what a pixel may and may not depend on."""

import numpy as np
import pytest

import minirnn
from minirnn.layers.reference import use_reference


def logistic(a):
    return 1 / (1 + np.exp(-a))


def over_pixels(parameters, x):
    """The equations of the docstring, pixel by pixel.  x: (R, C, B, I).  Returns (R, C, B, H)."""
    rows, columns, batch, _ = x.shape
    size = parameters["weight_left"].shape[1]
    h = np.zeros((rows + 1, columns + 1, batch, size))  # row 0 and column 0: outside the grid
    c = np.zeros_like(h)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            a = x[i - 1, j - 1] @ parameters["weight_ih"].T
            a = a + h[i, j - 1] @ parameters["weight_left"].T
            a = a + h[i - 1, j] @ parameters["weight_above"].T
            a = a + parameters.get("bias", 0.0)
            write, column, row, new, out = np.split(a, 5, axis=1)
            c[i, j] = logistic(write) * np.tanh(new)
            c[i, j] += logistic(column) * c[i, j - 1] + logistic(row) * c[i - 1, j]
            h[i, j] = logistic(out) * np.tanh(c[i, j])
    return h[1:, 1:]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (4, 5, 3, 2), (5, 2, 1, 3), (3, 7, 6, 4)])
def test_the_layer_is_the_loop_over_pixels(shape, bias, rng):
    layer = minirnn.SpatialLSTM(shape[-1], 9, bias=bias, dtype="float64", seed=1)
    x = rng.normal(size=shape)
    expected = over_pixels(layer.state_dict(), x)
    # The same sums in another order.
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=0, atol=1e-12)


def test_float32_is_the_loop_to_single_precision(rng):
    layer = minirnn.SpatialLSTM(3, 20, seed=1)
    x = rng.normal(size=(6, 5, 2, 3)).astype(np.float32)
    # 11 steps along the longest path, each rounded to 6e-8.
    np.testing.assert_allclose(layer(x).numpy(), over_pixels(layer.state_dict(), x), atol=2e-6)


def gradients(layer, x, cotangent):
    given = minirnn.Tensor(x, requires_grad=True)
    layer.zero_grad()
    layer(given).backward(cotangent)
    return {"x": given.grad} | {n: p.grad for n, p in layer.named_parameters()}


def test_fused_rows_have_the_gradients_of_the_reference(rng):
    layer = minirnn.SpatialLSTM(4, 11, dtype="float64", seed=2)
    x, cotangent = rng.normal(size=(4, 6, 3, 4)), rng.normal(size=(4, 6, 3, 11))
    fused = gradients(layer, x, cotangent)
    with use_reference():
        expected = gradients(layer, x, cotangent)
    for name, value in fused.items():
        # Sums over 72 pixels in another order.
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-12, err_msg=name)


def test_gradients_on_a_grid_of_three_by_three_are_those_of_differences(rng):
    layer = minirnn.SpatialLSTM(2, 3, dtype="float64", seed=3)
    x = minirnn.Tensor(rng.normal(size=(3, 3, 2, 2)), requires_grad=True)
    weights = rng.normal(size=(3, 3, 2, 3))

    def loss(*_):
        return (layer(x) * weights).sum()

    assert minirnn.gradcheck(loss, [x, *layer.parameters()], rtol=1e-6)


def test_second_derivatives_are_those_of_differences(rng):
    layer = minirnn.SpatialLSTM(1, 2, dtype="float64", seed=4)
    x = minirnn.Tensor(rng.normal(size=(2, 2, 1, 1)), requires_grad=True)
    assert minirnn.gradcheck(lambda *_: layer(x).sum(), [x, layer.weight_above], order=2)


def test_the_tangent_along_a_direction_is_the_gradient_times_it(rng):
    layer = minirnn.SpatialLSTM(2, 5, dtype="float64", seed=4)
    x = minirnn.Tensor(rng.normal(size=(3, 4, 2, 2)), requires_grad=True)
    inputs = [x, layer.weight_ih, layer.weight_left, layer.weight_above, layer.bias]
    directions = [rng.normal(size=t.shape) for t in inputs]
    cotangent = rng.normal(size=(3, 4, 2, 5))
    _, tangent = minirnn.jvp(lambda *_: layer(x), inputs, directions)
    layer(x).backward(cotangent)
    along = sum((t.grad * d).sum() for t, d in zip(inputs, directions, strict=True))
    # Two sums of some hundred products of either sign.
    np.testing.assert_allclose((cotangent * tangent.numpy()).sum(), along, rtol=1e-9)


def depends(rows, columns, i, j):
    """Pixels that pixel ij may depend on: (R, C) of bool."""
    return (np.arange(rows)[:, None] <= i) & (np.arange(columns) <= j)


@pytest.mark.parametrize("pixel", [(0, 0), (1, 2), (2, 1), (3, 3), (0, 3)])
def test_a_pixel_does_not_change_by_a_bit_with_pixels_below_or_to_the_right(pixel, rng):
    layer = minirnn.SpatialLSTM(2, 10, seed=5)
    x = rng.normal(size=(4, 4, 3, 2)).astype(np.float32)
    before = layer(x).numpy()
    earlier = depends(4, 4, *pixel)
    changed = np.where(earlier[:, :, None, None], x, rng.normal(size=x.shape).astype(np.float32))
    np.testing.assert_array_equal(layer(changed).numpy()[earlier], before[earlier])


@pytest.mark.parametrize("pixel", [(0, 0), (1, 2), (2, 1), (3, 3)])
def test_the_gradient_of_a_pixel_reaches_every_earlier_pixel_and_no_other(pixel, rng):
    layer = minirnn.SpatialLSTM(2, 10, dtype="float64", seed=6)
    x = minirnn.Tensor(rng.normal(size=(4, 4, 1, 2)), requires_grad=True)
    layer(x)[pixel].sum().backward()
    reached = (x.grad != 0).all(axis=(2, 3))
    np.testing.assert_array_equal(reached, depends(4, 4, *pixel))
    assert not x.grad[~depends(4, 4, *pixel)].any()


def test_a_grid_of_one_row_is_an_lstm(rng):
    layer = minirnn.SpatialLSTM(3, 6, dtype="float64", seed=7)
    lstm = minirnn.LSTM(3, 6, dtype="float64")
    kept = [0, 1, 3, 4]  # i, f_c, g, o; there is no row above to remember
    weights = {n: v.reshape(5, 6, -1)[kept].reshape(24, -1) for n, v in layer.state_dict().items()}
    lstm.load_state_dict(
        {
            "weight_ih_l0": weights["weight_ih"],
            "weight_hh_l0": weights["weight_left"],
            "bias_ih_l0": weights["bias"].reshape(24),
            "bias_hh_l0": np.zeros(24),
        }
    )
    x = rng.normal(size=(1, 9, 2, 3))
    # The same sums in another order.
    np.testing.assert_allclose(layer(x).numpy()[0], lstm(x[0])[0].numpy(), rtol=0, atol=1e-14)


def test_rows_and_columns_change_places_with_the_weights(rng):
    layer = minirnn.SpatialLSTM(2, 5, dtype="float64", seed=8)
    turned = minirnn.SpatialLSTM(2, 5, dtype="float64")
    weights = layer.state_dict()
    weights["weight_left"], weights["weight_above"] = (
        weights["weight_above"],
        weights["weight_left"],
    )
    swapped = {n: v.reshape(5, 5, -1)[[0, 2, 1, 3, 4]].reshape(v.shape) for n, v in weights.items()}
    turned.load_state_dict(swapped)
    x = rng.normal(size=(3, 4, 2, 2))
    expected = layer(x).numpy().transpose(1, 0, 2, 3)
    # The same sums in another order.
    np.testing.assert_allclose(turned(x.transpose(1, 0, 2, 3)).numpy(), expected, atol=1e-14)


def test_a_grid_without_a_batch_is_a_batch_of_one(rng):
    layer = minirnn.SpatialLSTM(2, 5, seed=9)
    x = rng.normal(size=(3, 4, 2)).astype(np.float32)
    assert layer(x).shape == (3, 4, 5)
    np.testing.assert_array_equal(layer(x).numpy(), layer(x[:, :, None]).numpy()[:, :, 0])


@pytest.mark.parametrize("shape", [(0, 3, 2, 1), (3, 0, 2, 1), (3, 4, 0, 1)])
def test_a_grid_without_pixels_gives_none_and_gradients_of_zero(shape):
    layer = minirnn.SpatialLSTM(1, 5, seed=9)
    x = minirnn.Tensor(np.zeros(shape, np.float32), requires_grad=True)
    output = layer(x)
    output.sum().backward()
    assert output.shape == (*shape[:3], 5)
    assert x.grad.shape == shape
    assert not layer.weight_ih.grad.any()


def test_weights_written_after_a_call_are_those_of_the_next_call(rng):
    layer = minirnn.SpatialLSTM(2, 5, dtype="float64", seed=10)
    x = rng.normal(size=(3, 3, 2, 2))
    layer(x)
    layer.weight_above.assign(2 * layer.weight_above.numpy())
    expected = over_pixels(layer.state_dict(), x)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=0, atol=1e-12)


def test_the_parameters_have_the_documented_names_and_shapes():
    layer = minirnn.SpatialLSTM(3, 7)
    shapes = {name: value.shape for name, value in layer.state_dict().items()}
    assert shapes == {
        "weight_ih": (35, 3),
        "weight_left": (35, 7),
        "weight_above": (35, 7),
        "bias": (35,),
    }
    assert "bias" not in minirnn.SpatialLSTM(3, 7, bias=False).state_dict()


def test_stacked_layers_learn_whether_a_mark_lies_above_and_to_the_left(rng):
    minirnn.manual_seed(0)
    model = minirnn.Sequential(
        minirnn.SpatialLSTM(1, 8), minirnn.SpatialLSTM(8, 8), minirnn.Linear(8, 1)
    )
    x = (rng.random((4, 4, 32, 1)) < 0.15).astype(np.float32)
    y = np.maximum.accumulate(np.maximum.accumulate(x, axis=0), axis=1)
    optimizer = minirnn.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = minirnn.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The best guess from x_ij alone leaves the variance of the marks elsewhere.
    alone = y[x == 0].var() * (x == 0).mean()
    assert losses[-1] < 0.3 * alone


def test_a_grid_of_the_wrong_shape_or_dtype_is_an_error_that_says_the_way_out():
    layer = minirnn.SpatialLSTM(3, 7)
    with pytest.raises(ValueError, match=r"\(R, C, B, input_size=3\).*got \(2, 2, 4\)"):
        layer(np.zeros((2, 2, 4), np.float32))
    with pytest.raises(TypeError, match=r"SpatialLSTM: x must have the dtype.*float32"):
        layer(np.zeros((2, 2, 1, 3)))
    with pytest.raises(ValueError, match="hidden_size must be at least 1"):
        minirnn.SpatialLSTM(3, 0)
