"""The gallery's training runs, at toy size: the task, the record, the slice of the loss."""

import math

import numpy as np
import pytest

import minirnn
from diagnostics.gallery import landscape, temporal_order, training_record
from diagnostics.gallery.temporal_order import EVERY, METHODS, Record, batch_of, train


def test_the_task_is_that_of_the_published_code(rng):
    x, y = batch_of(rng, 4000, 50)
    assert x.shape == (50, 4000, 6) and (x.sum(axis=2) == 1).all()
    telling = x[:, :, :2].sum(axis=2)
    assert (telling.sum(axis=0) == 2).all()
    first, second = (np.sort(np.nonzero(telling.T)[1].reshape(-1, 2), axis=1)).T
    assert (first.min(), first.max(), second.min(), second.max()) == (5, 9, 25, 29)
    columns = np.arange(4000)
    np.testing.assert_array_equal(y, x[first, columns, 1] + 2 * x[second, columns, 1])
    # Four classes, 1000 each on average: five standard deviations are 137.
    assert np.abs(np.bincount(y, minlength=4) - 1000).max() < 137


@pytest.mark.parametrize("length", [5, 10, 19])
def test_short_sequences_have_both_symbols(length, rng):
    x, _ = batch_of(rng, 200, length)
    assert (x[:, :, :2].sum(axis=(0, 2)) == 2).all()


def test_the_record_has_the_published_names_and_fits_together(tmp_path):
    record, steepest = train("SGD + clipping", updates=2 * EVERY)
    for name in ("train_nll", "gradient_norm", "Omega"):
        assert getattr(record, name).shape == (2 * EVERY,)
    for name in ("valid_error", "rho_Whh", "sigma_Whh", "open_units"):
        assert getattr(record, name).shape == (2,)
    assert record.train_nll[0] == pytest.approx(math.log(4), abs=0.05)  # chance
    assert (record.rho_Whh <= record.sigma_Whh).all()
    assert steepest.norm == record.gradient_norm.max() == record.gradient_norm[steepest.update]
    record.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as saved:
        assert set(saved) >= {"train_nll", "valid_error", "gradient_norm", "rho_Whh", "Omega"}
        np.testing.assert_array_equal(saved["Omega"], record.Omega)


def test_open_units_are_the_mean_of_one_minus_the_size_of_every_state():
    """Of the untrained network, its states computed by hand: h_t = tanh(W x_t + U h_(t-1))."""
    network = temporal_order.Network(0)
    x, y = batch_of(np.random.default_rng(1), 60, 9)
    found = temporal_order._state_of(network, x, y)["open_units"]
    p = {k: v.astype(np.float64) for k, v in network.recurrent.state_dict().items()}
    h, sizes = np.zeros((50, 50)), []
    for x_t in x[:, :50]:  # the first fifty sequences, of fifty units
        h = np.tanh(x_t @ p["weight_ih_l0"].T + h @ p["weight_hh_l0"].T)
        sizes.append(np.abs(h))
    assert 0.5 < found < 0.95
    # Means of 22500 numbers in float32, of states that are rounded to 6e-8 themselves.
    assert found == pytest.approx(1 - np.mean(sizes), abs=1e-6)


def test_the_histogram_counts_every_step_once_also_those_beyond_its_ends():
    edges = np.array([-2.0, -1.0, 0.0, 1.0])
    logs = np.array([[-30.0, -1.5, -0.5], [0.5, 0.5, 7.0]])
    np.testing.assert_allclose(
        training_record.histogram(logs, edges), [2 / 6, 1 / 6, 3 / 6], rtol=1e-15
    )


def test_methods_start_alike_and_omega_is_part_of_what_is_clipped():
    runs = {method: train(method, updates=EVERY)[0] for method in METHODS}
    first = {method: run.train_nll[0] for method, run in runs.items()}
    assert len(set(first.values())) == 1
    norms = {method: run.gradient_norm[0] for method, run in runs.items()}
    assert norms["SGD"] == norms["SGD + clipping"] < norms["SGD + clipping + Omega"]


def record_of(valid_error):
    one = np.zeros(1)
    return Record(one, one, one, np.array(valid_error), one, one, one, one)


def test_solved_is_the_first_check_below_one_percent():
    assert record_of([75.0, 1.0, 0.9, 2.0]).solved == 3 * EVERY
    assert record_of([75.0, 1.0]).solved == math.inf


# The slice


def test_a_slice_of_a_quadratic_is_the_quadratic(rng):
    at, along, across = rng.normal(size=(3, 6))
    a, b = np.linspace(-1, 2, 4), np.linspace(-2, 1, 3)
    found = landscape.slice_of(lambda v: float(v @ v), at, along, across, a, b)
    for i, v in enumerate(b):
        for j, u in enumerate(a):
            assert found[i, j] == pytest.approx(np.sum((at + u * along + v * across) ** 2))


def test_directions_are_against_the_gradient_and_across(rng):
    gradient = rng.normal(size=50)
    along, across = landscape.directions(gradient)
    assert along @ gradient == pytest.approx(-np.linalg.norm(gradient))
    assert across @ along == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(across) == pytest.approx(1)


def test_the_loss_of_a_vector_is_that_of_the_model_with_these_parameters(rng):
    network = temporal_order.Network(0)
    x, y = batch_of(rng, 6, 12)
    loss = landscape.Loss(network, lambda model: minirnn.cross_entropy(model(x), y))
    at = loss.here()
    assert len(at) == 50 * 6 + 50 * 50 + 2 * 50 + 4 * 50 + 4
    value, gradient = loss(at), loss.gradient()
    assert value == minirnn.cross_entropy(network(x), y).item()
    moved = loss(at - 0.1 * gradient / np.linalg.norm(gradient))
    # A step of 0.1 along a slope of |gradient|, of a loss that is nearly linear that close.
    assert moved - value == pytest.approx(-0.1 * np.linalg.norm(gradient), rel=0.2)
    np.testing.assert_allclose(loss.here(), at - 0.1 * gradient / np.linalg.norm(gradient),
                               atol=1e-7)  # fmt: skip
