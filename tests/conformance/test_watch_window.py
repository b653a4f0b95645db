"""``watch`` as a window: which calls it records, the order of its rows, what pullback takes."""

import copy
import gc
import weakref

import numpy as np
import pytest

import minirnn
from tests.conformance import harness
from tests.strategies import Case

CASE = Case(T=7, B=4, I=3, H=6, seed=31)
LENGTHS = (7, 0, 4, 1)
FUSED_ONLY = pytest.mark.skipif(
    harness.KERNELS_OFF, reason="the JIT is switched off: the reference keeps arrays of its own"
)


@pytest.fixture
def layer():
    return harness.build("lstm", CASE)


@pytest.fixture
def data(layer):
    return harness.draw(layer, CASE)


def test_every_forward_inside_the_block_is_a_record_and_the_last_is_shown(layer, data):
    with minirnn.watch(layer) as seen:
        layer(data.x)
        layer(2 * data.x)
    layer(3 * data.x)  # outside: not recorded
    assert len(seen.calls) == 2
    harness.assert_same_bits(seen.states["h"], seen.calls[1].states["h"])
    assert (seen.calls[0].states["h"][1:] != seen.states["h"][1:]).all()


def test_watches_nest(layer, data):
    with minirnn.watch(layer) as outer:
        with minirnn.watch(layer) as inner:
            harness.run(layer, data)
        layer(2 * data.x)
    assert len(inner.calls) == 1 and len(outer.calls) == 2
    for k in ("h", "c"):
        harness.assert_same_bits(inner.states[k], outer.calls[0].states[k])
        harness.assert_same_bits(inner.state_grads[k], outer.calls[0].state_grads[k])


def test_nobody_watches_a_copy_made_inside_the_block(layer, data):
    with minirnn.watch(layer) as seen:
        again = copy.deepcopy(layer)
        again(data.x)
        assert not seen.calls
        layer(data.x)
    assert len(seen.calls) == 1


def test_backward_may_come_after_the_block(layer, data):
    with minirnn.watch(layer) as seen:
        output, _ = layer(data.x)
    output.sum().backward()
    assert seen.carried_grads["c"].shape == (CASE.T + 1, CASE.B, CASE.H)
    # d output is 1 at the last row, where nothing comes later.
    assert (seen.carried_grads["h"][-1] == 1).all()


def both_ways(layer, data, lengths, keep):
    """Two watched training steps: gates read before backward, and after it."""
    read = []
    for early in (True, False):
        with minirnn.watch(layer, keep=keep and not early) as seen:
            output, _ = layer(data.x, harness.pack(data.state0), lengths=lengths)
            gates = dict(seen.gates) if early else {}
            output.backward(data.d_output, retain_graph=True)
            gates = gates or dict(seen.gates)
        read.append((seen, output, gates))
    return read


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_before", "lstm_layernorm", "lstm_1997"])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("keep", [False, True])
def test_gates_are_the_same_before_and_after_backward(cell, lengths, keep):
    """Kept, or written over by derivatives and computed again; and nothing else changes."""
    layer = harness.build(cell, CASE)
    data = harness.draw(layer, CASE)
    (seen, _, before), (again, output, after) = both_ways(layer, data, lengths, keep)
    for k, gate in before.items():
        harness.assert_same_bits(after[k], gate, k)
    for name in ("gate_grads", "recurrent_gate_grads", "state_grads", "carried_grads"):
        for k, d in getattr(seen, name).items():
            harness.assert_same_bits(getattr(again, name)[k], d, f"{name}[{k}]")
    output.backward(data.d_output)  # writes over the gates once more
    for k, gate in before.items():
        harness.assert_same_bits(again.gates[k], gate, k)


@FUSED_ONLY
def test_after_backward_gates_need_the_input_as_it_was(layer, data):
    x = minirnn.Tensor(data.x)
    with minirnn.watch(layer) as seen:
        layer(x)[0].sum().backward()
    x.assign(2 * data.x)
    with pytest.raises(RuntimeError, match="input, which has been written"):
        seen.gates["i"]
    with pytest.raises(RuntimeError, match="input, which has been written"):
        seen.pullback(np.ones((CASE.T, CASE.B, CASE.H)))
    with minirnn.watch(layer, keep=True) as seen:
        layer(x)[0].sum().backward()
    x.assign(data.x)
    assert np.isfinite(seen.gates["i"]).all()


def test_what_a_record_holds_is_freed_without_the_collector(layer, data):
    """Else the buffers of a step would not be there for the next one."""
    gc.collect()
    gc.disable()
    try:
        with minirnn.watch(layer) as seen:
            harness.run(layer, data)
        kept = seen.state_grads["h"], seen.gates["f"], seen.states["c"], seen.carried_grads["h"]
        record = weakref.ref(seen[0, 0])
        del seen
        assert record() is None
        assert all(np.isfinite(array).all() for array in kept)
    finally:
        gc.enable()


@FUSED_ONLY
def test_gradients_of_states_cannot_be_written_to(layer, data):
    """Two names may show the same numbers."""
    with minirnn.watch(layer) as seen:
        harness.run(layer, data)
    for mapping in (seen.state_grads, seen.carried_grads):
        for array in mapping.values():
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0


def test_only_the_call_that_went_backward_has_gradients(layer, data):
    with minirnn.watch(layer) as seen:
        output, _ = layer(data.x)
        layer(data.x)
    output.sum().backward()
    assert seen.calls[0].state_grads["h"].any()
    with pytest.raises(RuntimeError, match="backward"):
        _ = seen.calls[1].state_grads["h"]


def test_rows_of_states_are_the_initial_state_and_then_the_outputs(layer, data):
    with minirnn.watch(layer) as seen:
        output, (h, c) = layer(data.x, data.state0)
    harness.assert_same_bits(seen.states["h"][0], data.state0[0][0])
    harness.assert_same_bits(seen.states["h"][1:], output.numpy())
    harness.assert_same_bits(seen.states["h"][-1], h.numpy()[0])
    harness.assert_same_bits(seen.states["c"][-1], c.numpy()[0])


def test_after_its_length_a_sequence_repeats_its_state_and_has_no_gradients(layer, data):
    with minirnn.watch(layer) as seen:
        harness.run(layer, data, LENGTHS)
    for b, n in enumerate(LENGTHS):
        for k, d_state in zip("hc", data.d_state, strict=True):
            assert (seen.states[k][n:, b] == seen.states[k][n, b]).all()
            assert not seen.state_grads[k][n + 1 :, b].any()
            assert not seen.carried_grads[k][n + 1 :, b].any()
            # Row n holds the derivative by the final state, and by the output of that step.
            own = d_state[0, b] + (data.d_output[n - 1, b] if k == "h" and n else 0)
            harness.assert_close(seen.carried_grads[k][n, b], own, 1e-14, k)
        for k in "ifgo":
            assert not seen.gates[k][n:, b].any()
            assert not seen.gate_grads[k][n:, b].any()
            assert not seen.recurrent_gate_grads[k][n:, b].any()


def test_the_reverse_direction_stands_in_the_order_of_processing():
    """Row k comes after x[len - k]: the record of a forward layer over the reversed sequences."""
    both = minirnn.Recurrent("gru", 3, 6, bidirectional=True, dtype="float64", seed=1)
    alone = minirnn.Recurrent("gru", 3, 6, dtype="float64")
    suffix = "_reverse"
    alone.load_state_dict(
        {k.removesuffix(suffix): v for k, v in both.state_dict().items() if k.endswith(suffix)}
    )
    x = np.random.default_rng(0).normal(size=(7, 4, 3))
    flipped = np.zeros_like(x)
    for b, n in enumerate(LENGTHS):
        flipped[:n, b] = x[:n, b][::-1]
    with minirnn.watch(both) as seen:
        output, _ = both(x, lengths=LENGTHS)
        output.sum().backward()
    with minirnn.watch(alone) as expected:
        output, _ = alone(flipped, lengths=LENGTHS)
        output.sum().backward()
    for record in ("states", "gates", "state_grads", "carried_grads", "recurrent_gate_grads"):
        for name, value in getattr(expected, record).items():
            harness.assert_close(getattr(seen[0, 1], record)[name], value, 1e-13, record)


def test_levels_and_directions_are_picked_by_index():
    layer = minirnn.Recurrent("gru", 3, 6, num_layers=2, bidirectional=True, dtype="float64")
    with minirnn.watch(layer) as seen:
        output, _ = layer(np.ones((5, 2, 3)))
    for direction in (0, 1):
        top = seen[1, direction].states["h"][1:]
        part = output.numpy()[:, :, 6 * direction : 6 * direction + 6]
        harness.assert_same_bits(top if direction == 0 else top[::-1], part)
    with pytest.raises((IndexError, KeyError), match="2"):
        _ = seen[2, 0]


def test_pullback_takes_cotangents_at_every_row(layer, data):
    """A dict of rows: what a loss on the states themselves would send."""
    with minirnn.watch(layer) as seen:
        harness.run(layer, data)
    rows = {k: np.zeros((CASE.T + 1, CASE.B, CASE.H)) for k in "hc"}
    rows["h"][1:] = data.d_output
    for k, d_state in zip("hc", data.d_state, strict=True):
        rows[k][-1] += d_state[0]
    record = seen.pullback(d_state=rows)
    for k in "hc":
        harness.assert_close(record.carried_grads[k], seen.carried_grads[k], 1e-13, k)
    rows["c"][0] += 1.0  # the initial state is a row too
    again = seen.pullback(d_state=rows)
    harness.assert_close(again.carried_grads["c"][0], record.carried_grads["c"][0] + 1, 1e-13)


def test_pullback_without_cotangents_is_zero(layer, data):
    with minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(data.x)
    record = seen.pullback()
    assert not record.carried_grads["c"].any() and not record.gate_grads["f"].any()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_pullback_clips_each_sequence_before_every_step_back(layer, data, lengths):
    with minirnn.watch(layer) as seen:
        layer(data.x, data.state0, lengths=lengths)
    d_state = tuple(d[0] for d in data.d_state)
    free = seen.pullback(data.d_output, d_state)
    loose = seen.pullback(data.d_output, d_state, clip=1e9)
    tight = seen.pullback(data.d_output, d_state, clip=0.5)

    def norms(record):
        return np.sqrt(sum((record.carried_grads[k] ** 2).sum(-1) for k in "hc"))

    for k in "hc":
        harness.assert_same_bits(loose.carried_grads[k], free.carried_grads[k])
    assert (norms(free)[1:] > 0.5).any()
    # The norm of a scaled vector: rounding.
    assert (norms(tight)[1:] <= 0.5 * (1 + 1e-12)).all()


def test_watching_does_not_change_a_bit(layer, data):
    plain = harness.run(layer, data, LENGTHS)
    with minirnn.watch(layer):
        watched = harness.run(layer, data, LENGTHS)
    harness.assert_all_same_bits(watched, plain)


def test_a_record_keeps_its_values_while_the_layer_trains_on(layer, data):
    with minirnn.watch(layer) as seen:
        output, _ = layer(data.x)
        output.sum().backward()
    before = seen.states["h"].copy()
    for parameter in layer.parameters():
        parameter.assign(0.5 * parameter.numpy())
    for _ in range(3):
        harness.run(layer, data)
    # Read after other passes have used the pool of buffers.
    gates, carried = seen.gates["f"], seen.carried_grads["c"]
    for parameter in layer.parameters():
        parameter.assign(2 * parameter.numpy())
    with minirnn.watch(layer) as again:
        output, _ = layer(data.x)
        output.sum().backward()
    harness.assert_same_bits(again.states["h"], before)
    harness.assert_same_bits(again.gates["f"], gates)
    harness.assert_same_bits(again.carried_grads["c"], carried)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before", "lstm_layernorm"])
@pytest.mark.parametrize("sizes", [(1, 1, 8), (3, 2, 8), (3, 2, 16), (1, 1, 3), (2, 3, 5)])
def test_what_a_record_showed_stays_when_the_layer_runs_again(cell, sizes):
    """Also where rows are whole vectors and a copy could be left out: 8 numbers of float64."""
    steps, batch, units = sizes
    case = Case(T=steps, B=batch, I=3, H=units, seed=3)
    layer = harness.build(cell, case)
    data = harness.draw(layer, case)

    def shown(x):
        with minirnn.watch(layer) as seen:
            layer(x)[0].sum().backward()
        mappings = ("states", "gates", "state_grads", "carried_grads", "gate_grads",
                    "recurrent_gate_grads")  # fmt: skip
        return [array for name in mappings for array in getattr(seen, name).values()]

    first = shown(data.x)
    copies = [array.copy() for array in first]
    for factor in (2.0, 3.0, 4.0):
        shown(factor * data.x)
    for array, copied in zip(first, copies, strict=True):
        np.testing.assert_array_equal(array, copied)
