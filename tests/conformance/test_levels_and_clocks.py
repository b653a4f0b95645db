"""The depth-gated LSTM between its levels, and the clockwork RNN between its modules."""

import numpy as np
import pytest

import minirnn
from minirnn import cells
from minirnn.kernels import celltype
from minirnn.kernels.cellkernel import Packed, cell_kernel
from tests.conformance import harness
from tests.conformance.harness import assert_close, assert_same_bits
from tests.strategies import Case

CASE = Case(T=6, B=3, I=4, H=9, L=2, seed=61)


def closed_depth_gate(layer, bias):
    """Give the weights of a depth-gated layer with d = sigmoid(bias) everywhere."""
    weights = layer.state_dict()
    for key, value in weights.items():
        if key.startswith("vector_"):
            value[...] = 0
        elif key.startswith(("weight_ih", "bias_ih")):
            np.split(value, 5)[4][...] = bias if key.startswith("bias") else 0
    return weights


@pytest.mark.parametrize("lengths", [None, (6, 0, 3)], ids=["full", "lengths"])
def test_with_its_gate_closed_it_is_the_stacked_lstm(lengths):
    """d = 0: the same values and the same gradients as an LSTM of two levels."""
    deep, plain = harness.build("depth_gated", CASE), harness.build("lstm", CASE)
    weights = closed_depth_gate(deep, -1000.0)  # sigmoid underflows to 0
    deep.load_state_dict(weights)
    plain.load_state_dict(
        {
            k: v[: v.shape[0] * 4 // 5] if "_ih_" in k else v
            for k, v in weights.items()
            if not k.startswith("vector_")
        }
    )
    data = harness.draw(plain, CASE)
    actual, expected = harness.run(deep, data, lengths), harness.run(plain, data, lengths)
    for name, value in expected.items():
        mine = actual[name][: value.shape[0]]
        # The gates stand in blocks of five, not four: other vectors, other sums.
        assert_close(mine, value, 1e-12, name)


def test_the_derivative_along_the_depth_path_is_the_gate():
    """The upper level sees the lower one through the gate alone: dc^1_t / dc^0_t = d."""
    case = Case(T=1, B=3, I=4, H=9, L=2, seed=62)
    layer = harness.build("depth_gated", case)
    weights = closed_depth_gate(layer, 0.0)
    weights["weight_ih_l1"][...] = 0
    d = np.linspace(-2, 2, 9)
    np.split(weights["bias_ih_l1"], 5)[4][...] = d
    layer.load_state_dict(weights)
    with minirnn.watch(layer) as seen:
        _, (_, c) = layer(harness.draw(layer, case).x)
        c[1].sum().backward()
    wanted = np.broadcast_to(1 / (1 + np.exp(-d)), (3, 9))
    # Rounding of one sigmoid and one product.
    assert_close(seen[0, 0].state_grads["c"][1], wanted, 1e-14)


def test_at_the_lowest_level_the_depth_gate_gates_nothing():
    case = Case(T=6, B=3, I=4, H=9, seed=63)
    layer = harness.build("depth_gated", case)
    data = harness.draw(layer, case)
    before = harness.run(layer, data)
    assert not np.split(before["d weight_ih_l0"], 5)[4].any()
    assert not before["d vector_w_c_l0"].any() and not before["d vector_w_l_l0"].any()
    layer.load_state_dict(closed_depth_gate(layer, 3.0))
    assert_same_bits(harness.run(layer, data)["output"], before["output"])


CLOCKS = Case(T=20, B=3, I=4, H=11, seed=64)
PERIODS = np.array([1, 2, 4, 8])[np.arange(11) * 4 // 11]


def test_resting_units_keep_every_bit_and_the_others_move():
    layer = harness.build("clockwork", CLOCKS)
    data = harness.draw(layer, CLOCKS)
    with minirnn.watch(layer) as seen:
        layer(data.x, data.state0[0])
    rows = seen.states["h"]
    for t in range(CLOCKS.T):
        moves = t % PERIODS == 0
        assert (rows[t + 1][:, ~moves] == rows[t][:, ~moves]).all()
        assert (rows[t + 1][:, moves] != rows[t][:, moves]).all()


def faster(units=11):
    """Mark the entries of the recurrent matrix with which a module would read a faster one."""
    module = np.arange(units) * 4 // units
    return module[:, None] > module


@pytest.mark.parametrize(
    "make",
    [
        lambda p: minirnn.Adam(p, lr=0.05, weight_decay=0.1),
        lambda p: minirnn.AdamW(p, lr=0.05, weight_decay=0.1),
        lambda p: minirnn.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    ],
    ids=["Adam", "AdamW", "SGD"],
)
def test_zero_blocks_stay_zero_in_training(make):
    layer = harness.build("clockwork", CLOCKS)
    data = harness.draw(layer, CLOCKS)
    optimizer = make(list(layer.parameters()))
    before = layer.weight_hh_l0.numpy().copy()
    for _ in range(5):
        optimizer.zero_grad()
        output, _ = layer(data.x)
        ((output - data.d_output) ** 2).mean().backward()
        assert (layer.weight_hh_l0.grad[faster()] == 0).all()
        optimizer.step()
    after = layer.weight_hh_l0.numpy()
    assert (after[faster()] == 0).all()
    assert (after[~faster()] != before[~faster()]).all()


def test_no_input_of_a_fast_module_ever_reaches_a_slow_one():
    """The initial state of the fastest units changes no other unit, at any step."""
    layer = harness.build("clockwork", CLOCKS)
    data = harness.draw(layer, CLOCKS)
    fastest = PERIODS == 1
    other = data.state0[0].copy()
    other[..., fastest] += 1.0
    with minirnn.no_grad():
        one, two = (layer(data.x, s)[0].numpy() for s in (data.state0[0], other))
    assert_same_bits(one[..., ~fastest], two[..., ~fastest])
    assert (one[0][:, fastest] != two[0][:, fastest]).all()


@pytest.mark.skipif(harness.KERNELS_OFF, reason="the JIT is switched off: no kernels")
@pytest.mark.parametrize(
    "which", [celltype.FORWARD, celltype.BACKWARD], ids=["forward", "backward"]
)
def test_kernels_skip_the_zero_blocks_of_whole_columns(which):
    """Of g^2 = 16 blocks g (g + 1) / 2 = 10 are multiplied: the entries that are packed."""
    units = 256
    kernel = cell_kernel(cells.get("clockwork"), "float64", units)
    weights = Packed(np.zeros((units, 3)), np.zeros((units, units)), None, None, {})
    kernel.weights_table(weights, which)
    ((_, columns),) = weights.parts["forward" if which == celltype.FORWARD else "backward"].values()
    wide, depths = units // len(columns), columns[:, 2]
    assert wide <= units // 4  # a column lies in one module
    assert (wide * depths).sum() == units * units * 10 // 16


def test_a_first_step_of_clockwork_is_one_of_the_rnn_with_its_matrix():
    """Every period divides 0."""
    case = Case(T=1, B=3, I=4, H=11, seed=65)
    layer, plain = harness.build("clockwork", case), harness.build("rnn", case)
    plain.load_state_dict(layer.state_dict())
    data = harness.draw(layer, case)
    with minirnn.no_grad():
        ours, theirs = (m(data.x, data.state0[0])[0].numpy() for m in (layer, plain))
    assert_close(ours, theirs, 1e-14)
