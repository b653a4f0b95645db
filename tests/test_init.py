"""Initialisers: what each draws, and what it refuses."""

import numpy as np
import pytest

from minirnn.layers import init


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(initialiser, shape, dtype=np.float64, seed=0):
    return initialiser(shape, rng(seed), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "initialiser",
    [
        init.uniform(),
        init.normal(),
        init.orthogonal(),
        init.identity(),
        init.sparse(),
        init.zeros(),
    ],
    ids=["uniform", "normal", "orthogonal", "identity", "sparse", "zeros"],
)
def test_every_initialiser_gives_a_contiguous_array_of_the_shape_and_dtype_asked_for(
    initialiser, dtype
):
    array = draw(initialiser, (20, 20), dtype)
    assert array.shape == (20, 20)
    assert array.dtype == dtype
    assert array.flags.c_contiguous


@pytest.mark.parametrize("initialiser", [init.uniform(), init.normal(), init.sparse()])
def test_the_same_seed_draws_the_same(initialiser):
    assert np.array_equal(draw(initialiser, (8, 8)), draw(initialiser, (8, 8)))
    assert not np.array_equal(draw(initialiser, (8, 8)), draw(initialiser, (8, 8), seed=1))


def test_uniform_is_bounded_by_one_over_the_root_of_the_hidden_size():
    array = draw(init.uniform(), (25, 400))
    assert np.abs(array).max() <= 0.2
    # 10,000 draws: the largest misses the bound by more than 1 % with probability 1e-44.
    assert np.abs(array).max() > 0.198


def test_uniform_takes_one_bound_or_two():
    assert np.abs(draw(init.uniform(0.08), (50, 50))).max() <= 0.08
    array = draw(init.uniform(1.0, 2.0), (50, 50))
    assert array.min() >= 1.0 and array.max() <= 2.0


def test_normal_has_the_mean_and_the_deviation_asked_for():
    array = draw(init.normal(3.0, 0.5), (200, 200))
    # Standard errors over 40,000 draws: 0.0025 of the mean, 0.0018 of the deviation; 4 of each.
    assert abs(array.mean() - 3.0) < 0.01
    assert abs(array.std() - 0.5) < 0.0075


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 1)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    q = draw(init.orthogonal(2.0), shape) / 2.0
    gram = q.T @ q if shape[0] >= shape[1] else q @ q.T
    # Householder QR is orthogonal to a small multiple of the unit roundoff.
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)


def test_orthogonal_draws_reflections_as_often_as_rotations():
    signs = [np.linalg.det(draw(init.orthogonal(), (3, 3), seed=k)) > 0 for k in range(200)]
    # Binomial(200, 1/2) leaves [60, 140] with probability 1e-8.
    assert 60 < sum(signs) < 140


def test_identity_is_ones_on_the_diagonal_times_the_gain():
    np.testing.assert_array_equal(draw(init.identity(0.01), (3, 3)), 0.01 * np.eye(3))


def test_sparse_has_15_entries_per_unit_and_the_spectral_radius_asked_for():
    array = draw(init.sparse(spectral_radius=0.8), (60, 60))
    assert (np.count_nonzero(array, axis=1) == 15).all()
    # Eigenvalues of a non-normal matrix: a few digits less than the unit roundoff.
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(array)).max(), 0.8, rtol=1e-10)


def test_sparse_without_a_radius_takes_any_matrix():
    assert draw(init.sparse(spectral_radius=None, nonzero=3), (5, 9)).shape == (5, 9)
    with pytest.raises(ValueError, match=r"square.*\(5, 9\).*spectral_radius=None"):
        draw(init.sparse(), (5, 9))


@pytest.mark.parametrize("name", ["orthogonal", "identity", "sparse"])
def test_what_needs_a_matrix_says_so(name):
    with pytest.raises(ValueError, match=rf"init.{name}: needs a matrix, got shape \(4,\)"):
        draw(getattr(init, name)(), (4,))


def test_forget_bias_is_in_the_forget_gates_input_bias_alone():
    bias_ih, bias_hh = init.forget_bias(1.5).bias(
        ("i", "f", "g", "o"), tuple("ifgo"), 2, rng(), "f4"
    )
    np.testing.assert_array_equal(bias_ih, [0, 0, 1.5, 1.5, 0, 0, 0, 0])
    np.testing.assert_array_equal(bias_hh, np.zeros(8))
    assert bias_ih.dtype == bias_hh.dtype == np.float32


def test_forget_bias_of_a_gru_is_that_of_z():
    bias_ih, bias_hh = init.forget_bias(1.0).bias(("r", "z", "n"), ("n",), 2, rng(), "f8")
    np.testing.assert_array_equal(bias_ih, [0, 0, 1, 1, 0, 0])
    assert bias_hh.shape == (2,)


def test_chrono_draws_log_uniform_and_its_negative_for_the_input_gate():
    bias_ih, bias_hh = init.chrono(100).bias(tuple("ifgo"), tuple("ifgo"), 500, rng(), np.float64)
    i, f, g, o = bias_ih.reshape(4, 500)
    assert f.min() >= 0.0 and f.max() <= np.log(99.0)
    # The mean of 500 draws from U(1, 99) is 50 with a standard error of 1.3; 4 of them.
    assert abs(np.exp(f).mean() - 50.0) < 5.1
    np.testing.assert_array_equal(i, -f)
    assert not g.any() and not o.any() and not bias_hh.any()


def test_a_cell_without_a_forget_gate_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"forget_bias: the cell must have a gate f or z.*\('h',\)"
    ):
        init.forget_bias().bias(("h",), ("h",), 2, rng(), "f4")


def test_chrono_needs_a_lag_above_two():
    with pytest.raises(ValueError, match="T_max must be above 2, got 2"):
        init.chrono(2)


def test_a_factory_its_name_and_its_result_mean_the_same():
    for given in (init.orthogonal, "orthogonal", init.orthogonal()):
        assert np.array_equal(draw(init.resolve(given), (3, 3)), draw(init.orthogonal(), (3, 3)))
    assert init.resolve(init.forget_bias) == init.forget_bias(1.0)
    chrono = init.chrono(9)
    assert init.resolve(chrono) is chrono


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("orthogonl", ValueError, r"'orthogonl' is no initialiser; there are \['chrono'"),
        (init.chrono, ValueError, "chrono: needs T_max"),
        (3.0, TypeError, "got float"),
    ],
)
def test_what_is_no_initialiser_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        init.resolve(given)
