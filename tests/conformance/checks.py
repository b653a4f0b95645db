"""What every cell must pass: one function per fact, named as the fact.

Each takes a cell (or its registered name), a drawn Case and a dtype.  The registry's cells and the
cells that Hypothesis makes up run through the same list.
"""

from dataclasses import replace

import numpy as np
import pytest

import minirnn
from minirnn.layers.reference import use_reference
from tests.conformance import harness
from tests.conformance.harness import assert_agrees, assert_same_bits


def fused_forward_and_backward_equal_the_reference(cell, case, dtype):
    """The oracle: the same equations on the tape, one step at a time, without any kernel."""
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    fused = harness.run(layer, data, case.lengths)
    with use_reference():
        expected = harness.run(layer, data, case.lengths)
    harness.assert_all_agree(fused, expected, dtype)


def splitting_a_sequence_changes_nothing(cell, case, dtype):
    """Two halves, the second begun from the state of the first."""
    case = replace(case, bidirectional=False, T=case.T + 1)
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    whole = harness.run(layer, data, case.lengths)

    cut = 1 + case.seed % (case.T - 1) if case.T > 1 else 1
    before = after = None
    if case.lengths is not None:
        before = np.minimum(case.lengths, cut)
        after = np.maximum(np.subtract(case.lengths, cut), 0)
    layer.zero_grad()
    x, state0 = harness.leaves(data)
    first, middle = layer(x[:cut], harness.pack(state0), lengths=before)
    second, state = layer(x[cut:], middle, lengths=after, start=cut)
    output = minirnn.concat([first, second])
    harness.weighted(output, harness.unpack(state), data).backward()

    # The order of a row's sums depends on B, I and H only, so its values keep every bit.
    assert_same_bits(output.numpy(), whole["output"], "output")
    for k, value in zip(layer.cell.state, harness.unpack(state), strict=True):
        assert_same_bits(value.numpy(), whole[f"state.{k}"], k)
    # Weight gradients are sums over steps, here taken in two parts.
    for name, value in harness.gradients(layer, x, state0).items():
        assert_agrees(value, whole[name], dtype, name)


def rows_of_a_batch_are_independent_bit_for_bit(cell, case, dtype):
    """Other data and other lengths in all rows but one leave that row as it is."""
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    other = harness.draw(layer, replace(case, seed=case.seed + 1), dtype)
    row = case.seed % case.B

    def keep(theirs, ours):
        mixed = theirs.copy()
        mixed[:, row] = ours[:, row]
        return mixed

    mixed = harness.Data(
        x=keep(other.x, data.x),
        state0=tuple(map(keep, other.state0, data.state0)),
        d_output=keep(other.d_output, data.d_output),
        d_state=tuple(map(keep, other.d_state, data.d_state)),
    )
    lengths = case.lengths
    if lengths is not None:
        lengths = [n if b == row else case.T - n for b, n in enumerate(lengths)]
    expected = harness.run(layer, data, case.lengths)
    actual = harness.run(layer, mixed, lengths)
    for name, value in expected.items():
        if value.ndim == 3:  # (T or L*D, B, ...): output, states, and the gradients of x and state0
            assert_same_bits(actual[name][:, row], value[:, row], name)


def padding_influences_nothing_not_even_nan(cell, case, dtype):
    """NaN in x and other cotangents after the length: the same bits everywhere."""
    case = replace(case, lengths=case.lengths or _lengths(case))
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    expected = harness.run(layer, data, case.lengths)
    padding = np.arange(case.T)[:, None] >= np.array(case.lengths)
    x, d_output = data.x.copy(), data.d_output.copy()
    x[padding], d_output[padding] = np.nan, -3.0
    poisoned = replace(data, x=x, d_output=d_output)
    harness.assert_all_same_bits(harness.run(layer, poisoned, case.lengths), expected)
    assert not expected["output"][padding].any()
    assert not expected["d x"][padding].any()


def each_row_with_a_length_equals_its_own_short_run(cell, case, dtype):
    """Row b of a padded batch against the same row alone, cut to its length."""
    case = replace(case, lengths=case.lengths or _lengths(case))
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    with minirnn.no_grad():
        output, state = layer(data.x, harness.pack(data.state0), lengths=case.lengths)
        for b, n in enumerate(case.lengths):
            start = harness.pack(tuple(s[:, b : b + 1] for s in data.state0))
            alone, end = layer(data.x[:n, b : b + 1], start)
            # Another B may take its sums in another order: rounding.
            assert_agrees(output.numpy()[:n, b], alone.numpy()[:, 0], dtype, "output")
            for full, one in zip(harness.unpack(state), harness.unpack(end), strict=True):
                assert_agrees(full.numpy()[:, b], one.numpy()[:, 0], dtype, "state")


def an_empty_sequence_or_batch_gives_empty_results(cell, case, dtype):
    """T = 0 hands the initial states on; B = 0 has nothing to hand on."""
    for empty in (replace(case, T=0, lengths=None), replace(case, B=0, lengths=None)):
        layer = harness.build(cell, empty, dtype)
        data = harness.draw(layer, empty, dtype)
        results = harness.run(layer, data)
        assert results["output"].shape == data.d_output.shape
        assert results["d x"].shape == data.x.shape
        for k, s, d in zip(layer.cell.state, data.state0, data.d_state, strict=True):
            assert_same_bits(results[f"state.{k}"], s, k)
            assert_same_bits(results[f"d state0.{k}"], d, k)
        for name, _ in layer.named_parameters():
            assert not results[f"d {name}"].any()


def step_gives_the_bits_of_the_sequence(cell, case, dtype):
    """``layer.step`` in a loop, for inference one row of time after the other."""
    case = replace(case, bidirectional=False, lengths=None)
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    with minirnn.no_grad():
        output, final = layer(data.x, harness.pack(data.state0))
    state = harness.pack(data.state0)
    for t, x_t in enumerate(data.x):
        state = layer.step(x_t, state, start=t)
        top = harness.unpack(state)[0]
        assert_same_bits(np.asarray(_array(top))[-1], output.numpy()[t], f"output at step {t}")
    for k, one, whole in zip(
        layer.cell.state, harness.unpack(state), harness.unpack(final), strict=True
    ):
        assert_same_bits(_array(one), whole.numpy(), k)


def one_and_two_threads_agree_bit_for_bit(cell, case, dtype):
    """Sizes at which two threads do get work, and odd."""
    case = replace(case, T=7, B=21, I=37, H=75, L=1, lengths=None)
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    threads = minirnn.get_num_threads()
    try:
        minirnn.set_num_threads(1)
        alone = harness.run(layer, data)
        minirnn.set_num_threads(2)
        harness.assert_all_same_bits(harness.run(layer, data), alone)
    finally:
        minirnn.set_num_threads(threads)


def an_unbatched_or_batch_first_input_gives_the_same(cell, case, dtype):
    """(T, I) is a batch of one; ``batch_first`` moves the axes of x and output only."""
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    flipped = minirnn.Recurrent(
        layer.cell,
        case.I,
        case.H,
        num_layers=case.L,
        bias=case.bias,
        bidirectional=case.bidirectional,
        dtype=dtype,
        batch_first=True,
    )
    flipped.load_state_dict(layer.state_dict())
    with minirnn.no_grad():
        output, state = layer(data.x, harness.pack(data.state0), lengths=case.lengths)
        swapped, same = flipped(
            data.x.swapaxes(0, 1), harness.pack(data.state0), lengths=case.lengths
        )
        assert_same_bits(swapped.numpy().swapaxes(0, 1), output.numpy())
        for a, b in zip(harness.unpack(same), harness.unpack(state), strict=True):
            assert_same_bits(a.numpy(), b.numpy())

        one, _ = layer(data.x[:, :1], harness.pack(tuple(s[:, :1] for s in data.state0)))
        bare, end = layer(data.x[:, 0], harness.pack(tuple(s[:, 0] for s in data.state0)))
        assert_same_bits(bare.numpy(), one.numpy()[:, 0])
        assert harness.unpack(end)[0].shape == data.state0[0][:, 0].shape


def a_bidirectional_layer_has_no_step(cell, case, dtype):
    """The reverse direction needs the end of the sequence first."""
    layer = harness.build(cell, replace(case, bidirectional=True), dtype)
    with pytest.raises(ValueError, match="bidirectional"):
        layer.step(np.zeros((case.B, case.I), dtype))


def _lengths(case):
    """Lengths for a case without: 0, T and what the seed gives."""
    return tuple((case.seed + 3 * b) % (case.T + 1) for b in range(case.B))


def _array(value):
    return value.numpy() if isinstance(value, minirnn.Tensor) else value


CHECKS = (
    fused_forward_and_backward_equal_the_reference,
    splitting_a_sequence_changes_nothing,
    rows_of_a_batch_are_independent_bit_for_bit,
    padding_influences_nothing_not_even_nan,
    each_row_with_a_length_equals_its_own_short_run,
    an_empty_sequence_or_batch_gives_empty_results,
    step_gives_the_bits_of_the_sequence,
    an_unbatched_or_batch_first_input_gives_the_same,
    a_bidirectional_layer_has_no_step,
)
