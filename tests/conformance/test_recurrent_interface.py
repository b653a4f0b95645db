"""What a user may rely on at the door of ``Recurrent``: names, shapes, defaults, modes, memory."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minirnn
from minirnn import cell, cells, tanh
from tests.conformance import harness
from tests.strategies import Case


def parameters(layer):
    return dict(layer.named_parameters())


@pytest.mark.parametrize("name", cells.names())
def test_parameters_have_the_names_and_shapes_of_the_interface(name):
    c = cells.get(name)
    layer = minirnn.Recurrent(name, 5, 8, num_layers=2, bidirectional=True)
    expected = {}
    for level, inputs in enumerate((5, 16)):
        for suffix in (f"_l{level}", f"_l{level}_reverse"):
            expected[f"weight_ih{suffix}"] = (len(c.gates) * 8, inputs)
            expected[f"weight_hh{suffix}"] = (len(c.products) * 8, 8)
            expected[f"bias_ih{suffix}"] = (len(c.gates) * 8,)
            expected[f"bias_hh{suffix}"] = (len(c.products) * 8 - len(c.unbiased) * 8,)
            expected |= {f"vector_{k}{suffix}": (8,) for k in c.vectors}
    assert {k: v.shape for k, v in parameters(layer).items()} == expected
    assert all(p.dtype == np.float32 and p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", cells.names())
def test_num_params_counts_what_a_layer_holds(name, bias):
    layer = minirnn.Recurrent(name, 5, 8, bias=bias)
    held = sum(p.numpy().size for p in layer.parameters())
    # A triangular block counts without the entries that are always 0.
    held -= int((layer.weight_hh_l0.numpy() == 0).sum())
    assert cells.get(name).num_params(5, 8, bias=2 * bias) == held


def test_weights_begin_uniform_in_the_bounds_of_pytorch():
    layer = minirnn.LSTM(30, 64, seed=3)
    for parameter in layer.parameters():
        values = parameter.numpy() * np.sqrt(64)
        assert np.abs(values).max() <= 1 and np.abs(values).max() > 0.9
        # Standard error of a mean of at least 256 uniform numbers: below 0.04.
        assert abs(values.mean()) < 0.2


def test_a_seed_fixes_the_weights_and_manual_seed_those_without_one():
    first, second = (minirnn.GRU(3, 4, seed=5).state_dict() for _ in range(2))
    harness.assert_all_same_bits(first, second)
    minirnn.manual_seed(1)
    first = minirnn.GRU(3, 4).state_dict()
    other = minirnn.GRU(3, 4).state_dict()
    minirnn.manual_seed(1)
    harness.assert_all_same_bits(first, minirnn.GRU(3, 4).state_dict())
    assert (first["weight_hh_l0"] != other["weight_hh_l0"]).all()


def test_weights_are_initialised_block_by_block():
    layer = minirnn.LSTM(3, 6, init={"weight_hh": minirnn.init.orthogonal()}, dtype="float64")
    for block in np.split(layer.weight_hh_l0.numpy(), 4):
        # QR in float64.
        np.testing.assert_allclose(block @ block.T, np.eye(6), atol=1e-14)


def test_the_forget_bias_is_set_in_one_place():
    layer = minirnn.LSTM(3, 6, init={"bias": minirnn.init.forget_bias(1.0)})
    biases = np.split(layer.bias_ih_l0.numpy(), 4)
    assert (biases[1] == 1).all()
    assert not np.concatenate([biases[0], biases[2], biases[3]]).any()
    assert not layer.bias_hh_l0.numpy().any()


def test_named_layers_are_the_cells_of_the_registry():
    assert minirnn.RNN(2, 3).cell is cells.get("rnn")
    assert minirnn.RNN(2, 3, nonlinearity="relu").cell is cells.get("rnn_relu")
    assert minirnn.LSTM(2, 3).cell is cells.get("lstm")
    assert minirnn.GRU(2, 3).cell is cells.get("gru")
    assert minirnn.GRU(2, 3, reset="before").cell is cells.get("gru_before")


def test_names_may_have_several_letters():
    @cell(gates=("left", "right"), state=("short", "long"))
    def worded(wx, u, prev):
        short = tanh(wx.left + u.left @ prev.short)
        return short, 0.5 * prev.long + tanh(wx.right + u.right @ prev.long) * short

    layer = minirnn.Recurrent(worded, 2, 3, seed=0)
    with minirnn.watch(layer) as seen:
        output, (_, _) = layer(np.ones((4, 2, 2), np.float32))
        output.sum().backward()
    assert set(seen.states) == {"short", "long"}
    assert set(seen.gates) == {"left", "right"}


def test_dropout_acts_between_levels_in_training_only():
    layer = minirnn.LSTM(3, 16, num_layers=2, dropout=0.5, seed=0)
    plain = minirnn.LSTM(3, 16, num_layers=2, seed=0)
    plain.load_state_dict(layer.state_dict())
    x = np.ones((6, 2, 3), np.float32)
    with minirnn.no_grad():
        expected = plain(x)[0].numpy()
        assert (layer(x)[0].numpy() != layer(x)[0].numpy()).any()
        layer.eval()
        harness.assert_same_bits(layer(x)[0].numpy(), expected)


def test_dropout_never_touches_the_last_level():
    layer = minirnn.LSTM(3, 16, num_layers=1, seed=0)
    dropped = minirnn.LSTM(3, 16, num_layers=2, dropout=0.9, seed=0)
    x = np.ones((6, 2, 3), np.float32)
    with minirnn.no_grad():
        # A dropped output would be exactly 0, which no LSTM gives here.
        assert (dropped(x)[0].numpy() != 0).all()
        assert (layer(x)[0].numpy() != 0).all()


def test_arrays_lists_of_lengths_and_no_state_are_accepted():
    layer = minirnn.GRU(3, 4, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    with minirnn.no_grad():
        full, _ = layer(x)
        for lengths in ([5, 5], (5, 5), np.array([5, 5]), np.array([5, 5], np.int32)):
            harness.assert_same_bits(layer(x, lengths=lengths)[0].numpy(), full.numpy())
        zeros = np.zeros((1, 2, 4), np.float32)
        harness.assert_same_bits(layer(x, zeros)[0].numpy(), full.numpy())
        strided = np.asfortranarray(x)
        harness.assert_same_bits(layer(strided)[0].numpy(), full.numpy())


def test_a_state_tuple_stands_in_the_order_of_the_cell():
    layer = minirnn.Recurrent("lstm_peephole", 3, 4, num_layers=2, bidirectional=True)
    _, state = layer(np.zeros((5, 2, 3), np.float32))
    assert isinstance(state, tuple) and [s.shape for s in state] == [(4, 2, 4)] * 2
    _, state = layer(np.zeros((5, 3), np.float32))
    assert [s.shape for s in state] == [(4, 4)] * 2
    _, state = minirnn.Recurrent("gru", 3, 4)(np.zeros((5, 2, 3), np.float32))
    assert isinstance(state, minirnn.Tensor)


def test_the_tape_is_freed_by_backward_without_the_garbage_collector():
    layer = minirnn.LSTM(3, 4, num_layers=2, seed=0)
    gc.collect()
    gc.disable()
    try:
        x = minirnn.Tensor(np.zeros((5, 2, 3), np.float32), requires_grad=True)
        output, _ = layer(x)
        died = weakref.ref(output)
        output.sum().backward()
        del output, _
        assert died() is None
        assert x.grad is not None
    finally:
        gc.enable()


def test_two_forwards_may_wait_for_their_backwards_at_once():
    """Each call keeps its own values: the second does not write over the first."""
    layer = minirnn.LSTM(3, 5, seed=0, dtype="float64")
    case = Case(T=6, B=3, I=3, H=5, seed=1)
    first, second = harness.draw(layer, case), harness.draw(layer, Case(6, 3, 3, 5, seed=2))
    expected = harness.run(layer, first)
    layer.zero_grad()
    x, state0 = harness.leaves(first)
    output, state = layer(x, harness.pack(state0))
    other, _ = layer(second.x)
    other_loss = (other * second.d_output).sum()
    harness.weighted(output, harness.unpack(state), first).backward()
    harness.assert_all_same_bits(
        harness.gradients(layer, x, state0),
        {k: v for k, v in expected.items() if k.startswith("d ")},
    )
    other_loss.backward()


def test_two_python_threads_may_use_one_layer():
    layer = minirnn.LSTM(5, 33, seed=0)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(20, 7, 5)).astype(np.float32) for _ in range(8)]

    def outputs(x):
        with minirnn.no_grad():
            return layer(x)[0].numpy()

    expected = [outputs(x) for x in inputs]
    with ThreadPoolExecutor(2) as pool:
        for actual, wanted in zip(pool.map(outputs, inputs), expected, strict=True):
            harness.assert_same_bits(actual, wanted)


def test_gradients_of_several_backwards_add_up():
    layer = minirnn.GRU(3, 4, seed=0, dtype="float64")
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    layer(x)[0].sum().backward()
    once = np.array(layer.weight_hh_l0.grad)
    layer(x)[0].sum().backward()
    np.testing.assert_allclose(layer.weight_hh_l0.grad, 2 * once, rtol=1e-14)


def test_a_graph_that_is_retained_gives_the_same_gradient_twice():
    layer = minirnn.LSTM(3, 4, seed=0, dtype="float64")
    x = minirnn.Tensor(np.random.default_rng(0).normal(size=(5, 2, 3)), requires_grad=True)
    loss = layer(x)[0].sum()
    loss.backward(retain_graph=True)
    once = np.array(x.grad)
    loss.backward()
    harness.assert_same_bits(x.grad, 2 * once)


def test_only_the_final_state_may_carry_the_loss():
    """The output gets no gradient at all."""
    layer = minirnn.LSTM(3, 4, seed=0, dtype="float64")
    x = minirnn.Tensor(np.random.default_rng(0).normal(size=(5, 2, 3)), requires_grad=True)
    _, (_, c) = layer(x)
    c.sum().backward()
    assert np.abs(x.grad).min(axis=(1, 2)).max() > 0
    # c_T does not see the output gate of step T, but those before through h.
    assert layer.weight_hh_l0.grad.reshape(4, 4, 4)[3].any()


def test_new_weights_are_used_at_once():
    """Packed weights are marked stale by every way of writing."""
    layer = minirnn.RNN(2, 3, seed=0, dtype="float64")
    x = np.ones((4, 1, 2))
    with minirnn.no_grad():
        before = layer(x)[0].numpy().copy()
        layer.weight_hh_l0.assign(-layer.weight_hh_l0.numpy())
        flipped = layer(x)[0].numpy().copy()
        assert (before[1:] != flipped[1:]).any()
        weights = layer.state_dict()
        weights["weight_hh_l0"] = -weights["weight_hh_l0"]
        layer.load_state_dict(weights)
        harness.assert_same_bits(layer(x)[0].numpy(), before)
    optimizer = minirnn.SGD(layer.parameters(), lr=0.1)
    layer(x)[0].sum().backward()
    optimizer.step()
    with minirnn.no_grad():
        assert (layer(x)[0].numpy() != before).all()


def test_a_layer_can_be_cast():
    layer = minirnn.GRU(3, 4, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    with minirnn.no_grad():
        single = layer(x.astype(np.float32))[0].numpy()
        double = layer.to("float64")(x)[0].numpy()
    assert double.dtype == np.float64
    # Rounding of float32 over five steps.
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_a_skewed_level_reads_the_level_below_one_step_earlier():
    skewed = minirnn.Recurrent("lstm", 3, 4, num_layers=2, skew=True, dtype="float64", seed=0)
    low, high = (minirnn.Recurrent("lstm", n, 4, dtype="float64") for n in (3, 4))
    weights = skewed.state_dict()
    low.load_state_dict({k: v for k, v in weights.items() if k.endswith("_l0")})
    high.load_state_dict({k.replace("_l1", "_l0"): v for k, v in weights.items() if "_l1" in k})
    rng = np.random.default_rng(0)
    x, state = rng.normal(size=(5, 2, 3)), tuple(rng.normal(size=(2, 2, 4)) for _ in "hc")
    with minirnn.no_grad():
        output, _ = skewed(x, state)
        below, _ = low(x, tuple(s[:1] for s in state))
        late = np.concatenate([state[0][:1], below.numpy()[:-1]])
        expected, _ = high(late, tuple(s[1:] for s in state))
    harness.assert_same_bits(output.numpy(), expected.numpy())


def test_the_index_of_the_step_begins_at_start():
    @cell(gates="h", state="h", constants={"period": (1, 3)})
    def ticking(wx, u, prev, p, t):
        return minirnn.where(t % p.period < 1, tanh(wx.h + u.h @ prev.h), prev.h)

    layer = minirnn.Recurrent(ticking, 2, 4, dtype="float64", seed=0)
    with minirnn.no_grad():
        output = layer(np.ones((7, 1, 2)))[0].numpy()
        late = layer(np.ones((7, 1, 2)), start=1)[0].numpy()
    # Units 2 and 3 are of the second module: they move at steps 0, 3, 6 and rest bit for bit.
    moves = [(output[t, 0, 2:] != output[t - 1, 0, 2:]).any() for t in range(1, 7)]
    assert moves == [False, False, True, False, False, True]
    moves = [(late[t, 0, 2:] != late[t - 1, 0, 2:]).any() for t in range(1, 7)]
    assert moves == [False, True, False, False, True, False]
    assert not late[0, 0, 2:].any()


@pytest.mark.parametrize("through", ["copy", "pickle"])
def test_a_copy_of_a_layer_lives_by_itself(through):
    """Its packed weights are its own: the original may change and go."""
    model = minirnn.Sequential(minirnn.LSTM(3, 40, seed=0), minirnn.Linear(40, 2, seed=0))
    x = np.ones((4, 2, 3), np.float32)
    expected = np.array(model(x).numpy())
    again = copy.deepcopy(model) if through == "copy" else pickle.loads(pickle.dumps(model))
    for parameter in model.parameters():
        parameter.assign(np.full(parameter.shape, np.nan, np.float32))
    del model
    gc.collect()
    np.testing.assert_array_equal(again(x).numpy(), expected)
    again(x).sum().backward()
    assert all(np.isfinite(p.grad).all() for p in again.parameters())


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_steps_after_a_cast_a_write_or_a_new_parameter_use_what_is_there_now(kind, rng):
    layer = getattr(minirnn, kind)(3, 5, num_layers=2, dtype="float64", seed=0)
    x = rng.standard_normal((1, 2, 3))

    def assert_steps_as_it_runs():
        given = x.astype(layer.dtype)
        stepped = layer.step(given[0])
        for one, other in zip(arrays_of(stepped), arrays_of(layer(given)[1]), strict=True):
            np.testing.assert_array_equal(one, other)

    def arrays_of(state):
        return [s.numpy() for s in (state if isinstance(state, tuple) else (state,))]

    assert_steps_as_it_runs()
    layer.to("float32")
    assert_steps_as_it_runs()
    layer.weight_hh_l1.assign(2 * layer.weight_hh_l1.numpy())
    assert_steps_as_it_runs()
    layer.weight_ih_l0 = minirnn.Tensor(3 * layer.weight_ih_l0.numpy(), requires_grad=True)
    assert_steps_as_it_runs()
