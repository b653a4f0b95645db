"""Module: what registers, names, saving and loading, modes; the layers without recurrence."""

import copy

import numpy as np
import pytest

from minirnn import engine
from minirnn.engine import Tensor, grad, gradcheck, manual_seed
from minirnn.engine.functional import jvp
from minirnn.layers.dropout import Dropout
from minirnn.layers.embedding import Embedding
from minirnn.layers.layernorm import LayerNorm
from minirnn.layers.linear import Linear
from minirnn.layers.module import Module
from minirnn.layers.sequential import Sequential


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


class Net(Module):
    """Two children, and a parameter of its own that is set between them."""

    def __init__(self):
        self.first = Linear(2, 3, seed=0, dtype=np.float64)
        self.scale = leaf(2.0)
        self.second = Linear(3, 1, bias=False, seed=1, dtype=np.float64)

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


NAMES = ["scale", "first.weight", "first.bias", "second.weight"]


# ---------------------------------------------------------------- what registers


def test_names_are_dotted_and_own_parameters_come_first():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert list(net.state_dict()) == NAMES
    assert [p.shape for p in net.parameters()] == [(1,), (3, 2), (3,), (1, 3)]
    assert [name for name, _ in net.named_modules()] == ["", "first", "second"]


def test_setting_an_attribute_again_replaces_and_deleting_removes():
    net = Net()
    net.scale = 3.0
    del net.second
    assert [name for name, _ in net.named_parameters()] == ["first.weight", "first.bias"]


def test_hidden_names_kept_states_and_results_do_not_register():
    net = Net()
    net._cache = leaf(1.0)
    net.output = net.scale * 2.0
    net.state = net.output.detach()
    assert [name for name, _ in net.named_parameters()] == NAMES


def test_a_frozen_parameter_stays_one():
    net = Net()
    net.scale.requires_grad = False
    assert "scale" in net.state_dict()


def test_a_shared_parameter_is_one_parameter_with_two_names():
    net = Net()
    net.tied = net.first.weight
    assert sum(1 for _ in net.parameters()) == 4
    assert set(net.state_dict()) == {*NAMES, "tied"}
    net.load_state_dict(net.state_dict())


def test_a_shared_module_is_visited_once():
    shared = Linear(2, 2)
    net = Sequential(shared, shared)
    assert len(list(net.parameters())) == 2


def test_parameters_come_in_the_order_of_their_names_with_shared_modules_too():
    outer, first, second, shared = Module(), Module(), Module(), Module()
    outer.first, outer.second = first, second
    first.shared, first.late = shared, Linear(1, 1)
    second.shared = outer.again = shared
    shared.weight = leaf(1.0)
    second.weight = leaf(2.0)
    named = [id(parameter) for _, parameter in outer.named_parameters()]
    assert [id(parameter) for parameter in outer.parameters()] == named


def test_a_module_without_forward_says_so_when_called():
    with pytest.raises(NotImplementedError, match="Module: a Module needs a method forward"):
        Module()(1)


def test_repr_shows_the_tree():
    assert repr(Net()) == (
        "Net(\n  (first): Linear(2, 3, bias=True)\n  (second): Linear(3, 1, bias=False)\n)"
    )


# ---------------------------------------------------------------- saving and loading


def test_a_state_dict_holds_copies():
    net = Net()
    state = net.state_dict()
    state["scale"][0] = 99.0
    assert net.scale.item() == 2.0
    net.scale.assign(np.array([5.0]))
    assert net.state_dict()["scale"][0] == 5.0
    assert all(type(array) is np.ndarray for array in state.values())


def test_loading_casts_writes_in_place_and_bumps_the_version():
    net, other = Net(), Net()
    other.first.weight.assign(np.full((3, 2), 7.0))
    parameter, before = net.first.weight, net.first.weight.version
    single = {name: array.astype(np.float32) for name, array in other.state_dict().items()}
    assert net.load_state_dict(single) == ([], [])
    assert net.first.weight is parameter and parameter.version > before
    assert parameter.dtype == np.float64 and (parameter.numpy() == 7.0).all()


class Arrayish:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_anything_with_an_array_inside_can_be_loaded():
    net = Net()
    state = net.state_dict()
    state["scale"] = Arrayish(np.array([4]))
    state["first.bias"] = leaf(1.0, 2.0, 3.0)
    net.load_state_dict(state)
    assert net.scale.item() == 4.0
    assert net.first.bias.numpy().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.torch
def test_a_state_dict_of_pytorch_can_be_loaded(torch):
    theirs = torch.nn.Linear(4, 3)
    ours = Linear(4, 3)
    ours.load_state_dict(theirs.state_dict())
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    expected = theirs(torch.tensor(x)).detach().numpy()
    # float32: four products and a bias per entry.
    np.testing.assert_allclose(ours(x).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": None}, r"missing \['scale'\], unexpected \[\].*strict=False"),
        ({"extra": np.ones(1)}, r"unexpected \['extra'\]"),
        ({"second.weight": np.ones((3, 1))}, r"second\.weight: .*\(1, 3\), got \(3, 1\)"),
        ({"second.weight": np.array([["a", "b", "c"]])}, "real numbers"),
        ({"second.weight": np.ones((1, 3), complex)}, "real numbers"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, words):
    net = Net()
    before = net.state_dict()
    state = {name: array + 1.0 for name, array in before.items()} | change
    state = {name: array for name, array in state.items() if array is not None}
    with pytest.raises(ValueError, match=words):
        net.load_state_dict(state)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_not_strict_loads_what_fits_and_returns_the_rest():
    net = Net()
    loaded = net.load_state_dict({"scale": [3.0], "other": [1.0]}, strict=False)
    assert loaded == (NAMES[1:], ["other"])
    assert net.scale.item() == 3.0
    with pytest.raises(ValueError, match="must have shape"):
        net.load_state_dict({"scale": [3.0, 4.0]}, strict=False)


def test_what_is_no_mapping_cannot_be_loaded():
    with pytest.raises(TypeError, match="state_dict must map names to arrays, got list"):
        Net().load_state_dict([1, 2])


def test_a_module_can_refuse_values_for_its_own_parameters():
    class Positive(Linear):
        def check_loaded(self, name, array):
            if name == "weight" and (array < 0).any():
                raise ValueError("weight must not be negative")

    net = Sequential(Positive(1, 1))
    with pytest.raises(ValueError, match="must not be negative"):
        net.load_state_dict({"0.weight": [[-1.0]], "0.bias": [5.0]})
    assert net[0].bias.item() != 5.0


# ---------------------------------------------------------------- modes, gradients, dtype


def test_train_and_eval_reach_every_module():
    net = Sequential(Sequential(Dropout(0.5)), Dropout(0.5))
    assert net.eval() is net
    assert not any(module.training for _, module in net.named_modules())
    net.train()
    assert all(module.training for _, module in net.named_modules())


def test_zero_grad_forgets_all_gradients():
    net = Net()
    net(np.ones((4, 2))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_casts_in_place():
    net = Net()
    parameter = net.scale
    assert net.to("float32") is net
    assert net.scale is parameter and parameter.dtype == np.float32
    assert net(np.ones((1, 2), np.float32)).dtype == np.float32
    with pytest.raises(TypeError, match="float32 or float64, got float16"):
        net.to(np.float16)


# ---------------------------------------------------------------- layers


def test_linear_is_x_times_the_transpose_of_weight_plus_bias(rng):
    layer = Linear(3, 2, dtype=np.float64, seed=0)
    x = rng.standard_normal((4, 5, 3))
    expected = np.einsum("tbi,oi->tbo", x, layer.weight.numpy()) + layer.bias.numpy()
    # Three products in another order.
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-13, atol=1e-15)
    layer(x).sum().backward()
    np.testing.assert_allclose(layer.bias.grad, [20.0, 20.0])
    np.testing.assert_allclose(layer.weight.grad, np.tile(x.sum((0, 1)), (2, 1)), rtol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0, 3)])
def test_linear_takes_a_vector_and_empty_batches(shape):
    layer = Linear(3, 2, dtype=np.float64)
    x = Tensor(np.ones(shape), requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 2)
    y.sum().backward()
    assert x.grad.shape == shape


def test_linear_begins_uniform_in_one_over_the_root_of_its_inputs():
    layer = Linear(100, 50, seed=0)
    for parameter in (layer.weight, layer.bias):
        assert np.abs(parameter.numpy()).max() <= 0.1
    assert np.abs(layer.weight.numpy()).max() > 0.099


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ids", [[], [[3, 0, 3], [3, 3, 1]], np.array([2, 2], np.uint8), 1])
def test_embedding_sums_gradients_as_the_engines_operation_does(rng, ids, dtype):
    layer = Embedding(4, 37, dtype=dtype, seed=0)
    ids = np.asarray(ids, int) if isinstance(ids, list) else ids
    d = rng.standard_normal((*np.shape(ids), 37)).astype(dtype)
    y = layer(ids)
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[ids])
    (found,) = grad(y, layer.weight, d)
    (expected,) = grad(engine.embedding(ids, layer.weight), layer.weight, d)
    # Sums of four numbers of size 1, perhaps in another order.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=16 * eps)


def test_embedding_has_derivatives_of_any_order_and_tangents(rng):
    layer = Embedding(3, 2, dtype=np.float64, seed=0)
    ids = [[0, 2], [2, 2]]

    def loss(weight):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer, "weight", weight)
            return (layer(ids) ** 3).sum()

    assert gradcheck(loss, layer.weight.numpy(), order=2)
    move = rng.standard_normal((3, 2))
    _, moved = jvp(loss, layer.weight, move)
    (slope,) = grad(loss(layer.weight), layer.weight)
    assert moved.item() == pytest.approx((slope.numpy() * move).sum(), rel=1e-13)


def test_embedding_gives_rows_and_adds_their_gradients():
    layer = Embedding(4, 2, dtype=np.float64, seed=0)
    y = layer(np.array([[1, 1], [3, 0]]))
    np.testing.assert_array_equal(y.numpy()[0, 0], layer.weight.numpy()[1])
    y.sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [2, 2], [0, 0], [1, 1]]
    with pytest.raises(ValueError, match="ids must lie in"):
        layer([4])


def test_layer_norm_has_mean_zero_and_variance_one(rng):
    layer = LayerNorm(50, dtype=np.float64)
    y = layer(1e3 + rng.standard_normal((3, 50))).numpy()
    # The mean of 1e3 costs three digits; eps = 1e-5 shifts the variance by as much.
    np.testing.assert_allclose(y.mean(-1), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.var(-1), 1.0, rtol=3e-5)


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_layer_norm_is_pytorchs(torch, rng, shape):
    ours, theirs = LayerNorm(shape, dtype=np.float64), torch.nn.LayerNorm(shape).double()
    state = {"weight": rng.standard_normal(shape), "bias": rng.standard_normal(shape)}
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    a = rng.standard_normal((2, 3, 4))
    x, t = Tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    y, s = ours(x), theirs(t)
    np.testing.assert_allclose(y.numpy(), s.detach().numpy(), rtol=1e-12, atol=1e-14)
    (y * a).sum().backward()
    (s * torch.tensor(a)).sum().backward()
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), rtol=1e-12)


def test_dropout_zeroes_the_share_p_and_scales_the_rest():
    layer = Dropout(0.25, seed=0)
    x = np.ones((100, 100), np.float32)
    y = layer(x).numpy()
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(1 / 0.75)}
    # Binomial(10,000, 1/4): standard deviation 43; 5 of them.
    assert abs((y == 0).sum() - 2500) < 217


def test_dropout_masks_the_gradient_alike():
    x = Tensor(np.ones((10, 10)), requires_grad=True)
    y = Dropout(0.5, seed=0)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.numpy())


def test_dropout_passes_everything_on_in_evaluation_and_for_p_zero():
    x = Tensor(np.ones((3, 3)))
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert not Dropout(1.0)(x).numpy().any()


def test_dropout_draws_from_the_global_generator_or_its_own():
    x = np.ones((20, 20))
    manual_seed(3)
    first = Dropout(0.5)(x).numpy()
    manual_seed(3)
    np.testing.assert_array_equal(Dropout(0.5)(x).numpy(), first)
    np.testing.assert_array_equal(Dropout(0.5, seed=1)(x).numpy(), Dropout(0.5, seed=1)(x).numpy())


@pytest.mark.parametrize("make", [Linear, Embedding], ids=["Linear", "Embedding"])
def test_a_seed_decides_the_first_values(make):
    assert np.array_equal(make(3, 4, seed=5).weight.numpy(), make(3, 4, seed=5).weight.numpy())
    assert not np.array_equal(make(3, 4, seed=5).weight.numpy(), make(3, 4, seed=6).weight.numpy())
    manual_seed(1)
    first = make(3, 4).weight.numpy()
    manual_seed(1)
    assert np.array_equal(make(3, 4).weight.numpy(), first)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Linear(0, 1), ValueError, "Linear: in_features must be at least 1, got 0"),
        (lambda: Linear(1, 1.5), TypeError, "out_features must be an integer, got float"),
        (lambda: Linear(3, 1)(np.ones((2, 4), "f4")), ValueError, r"in_features=3\), got \(2, 4\)"),
        (lambda: Linear(3, 1)(np.ones((2, 3))), TypeError, r"Linear: .*float32, got float64"),
        (lambda: Embedding(3, 0), ValueError, "embedding_dim must be at least 1"),
        (lambda: Dropout(1.5), ValueError, r"Dropout: p must be a probability in \[0, 1\]"),
        (lambda: LayerNorm(()), ValueError, "at least one axis"),
        (lambda: LayerNorm(3)(np.ones((2, 4), "f4")), ValueError, r"\*\(3,\)\), got \(2, 4\)"),
        (lambda: Sequential(Linear(1, 1), np.tanh), TypeError, "module 1 must be a Module"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---------------------------------------------------------------- Sequential


class Adder(Module):
    """A recurrent layer in two lines: the state is the sum of all inputs so far."""

    def forward(self, x, state=None, start=0):
        self.starts = [*getattr(self, "starts", []), start]
        total = Tensor(np.zeros(x.shape[1:], x.dtype)) if state is None else state
        rows = [total := total + x[t] for t in range(x.shape[0])]
        from minirnn.engine import stack

        return stack(rows, 0), total


def test_sequential_feeds_outputs_on_and_leaves_states_out():
    x = np.arange(6.0).reshape(3, 2)
    y = Sequential(Adder(), Dropout(0.0), Adder())(x_tensor := Tensor(x))
    np.testing.assert_array_equal(y.numpy(), x.cumsum(0).cumsum(0))
    assert x_tensor.shape == (3, 2)


def test_sequential_carries_the_states_of_nested_recurrent_layers(rng):
    x = rng.integers(0, 9, (6, 2)).astype(float)
    net = Sequential(Adder(), Sequential(Dropout(0.0), Adder()), Adder())
    whole = net(Tensor(x)).numpy()
    first, state = net(Tensor(x[:4]), state=None)
    assert len(state) == 3 and len(state[1]) == 1
    second, _ = net(Tensor(x[4:]), state=state, start=4)
    np.testing.assert_array_equal(np.concatenate([first.numpy(), second.numpy()]), whole)
    assert net[0].starts == [0, 0, 4]
    assert net[1][1].starts == [0, 0, 4]


def test_sequential_refuses_a_state_of_another_model():
    net = Sequential(Adder(), Adder())
    with pytest.raises(ValueError, match=r"None or a tuple of 2.*got a tuple of 1"):
        net(Tensor([[1.0]]), state=(None,))


def test_sequential_without_recurrence_has_an_empty_state():
    net = Sequential(Dropout(0.0))
    y, state = net(Tensor([1.0]), state=None)
    assert y.item() == 1.0 and state == ()


def test_sequential_can_be_indexed_and_iterated():
    a, b = Dropout(0.1), Dropout(0.2)
    net = Sequential(a, b)
    assert len(net) == 2 and net[-1] is b and list(net) == [a, b]


def test_a_deep_copy_is_another_model(rng):
    net = Net()
    twin = copy.deepcopy(net)
    twin.scale.assign(np.array([9.0]))
    assert net.scale.item() == 2.0
    assert list(twin.state_dict()) == NAMES
