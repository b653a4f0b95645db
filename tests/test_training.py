"""Truncated BPTT and generation."""

import weakref

import numpy as np
import pytest

from minirnn.engine import Tensor, is_grad_enabled, manual_seed, stack, tanh
from minirnn.layers.dropout import Dropout
from minirnn.layers.linear import Linear
from minirnn.layers.losses import mse_loss
from minirnn.layers.module import Module
from minirnn.layers.optim import SGD
from minirnn.layers.sequential import Sequential
from minirnn.training import detached, generate, tbptt


class Loop(Module):
    """h = tanh(x + w h): a recurrent layer of one shared weight, without any kernel."""

    def __init__(self, w=0.5):
        self.w = Tensor([w], requires_grad=True)

    def forward(self, x, state=None):
        h = Tensor(np.zeros(x.shape[1:])) if state is None else state
        rows = [h := tanh(x[t] + self.w * h) for t in range(x.shape[0])]
        return stack(rows, 0), h


def sequence(rng, steps=12):
    return rng.standard_normal((steps, 2, 3)), rng.standard_normal((steps, 2, 3))


def cut(x, y, steps):
    return [(x[t : t + steps], y[t : t + steps]) for t in range(0, len(x), steps)]


# ---------------------------------------------------------------- truncated BPTT


@pytest.mark.parametrize("steps", [1, 4, 5, 12])
def test_the_forward_pass_in_chunks_is_that_of_the_whole(rng, steps):
    x, y = sequence(rng)
    model = Loop()
    whole, _ = model(Tensor(x))
    outputs = [chunk.output.numpy() for chunk in tbptt(model, cut(x, y, steps), mse_loss)]
    np.testing.assert_array_equal(np.concatenate(outputs), whole.numpy())


def test_gradients_end_at_the_chunks_first_step(rng):
    x, y = sequence(rng)
    model = Loop()
    for chunk in tbptt(model, cut(x, y, 4), mse_loss):
        chunk.loss.backward()
    total, state = 0.0, None
    for part, target in cut(x, y, 4):
        twin = Loop()
        out, state = twin(Tensor(part), state)
        mse_loss(out, Tensor(target)).backward()
        state = Tensor(state.numpy())  # nothing of the tape is left
        total += twin.w.grad
    # The same numbers; three gradients added in the same order.
    np.testing.assert_allclose(model.w.grad, total, rtol=1e-15)


def test_one_chunk_is_full_bptt(rng):
    x, y = sequence(rng)
    whole, chunked = Loop(), Loop()
    mse_loss(whole(Tensor(x))[0], Tensor(y)).backward()
    (chunk,) = tbptt(chunked, [(x, y)], mse_loss)
    chunk.loss.backward()
    np.testing.assert_array_equal(whole.w.grad, chunked.w.grad)


def test_the_update_is_the_callers_and_the_next_chunk_sees_it(rng):
    x, y = sequence(rng)
    model = Loop()
    optimizer = SGD(model.parameters(), 0.1)
    seen = []
    for chunk in tbptt(model, cut(x, y, 3), mse_loss):
        optimizer.zero_grad()
        chunk.loss.backward()
        optimizer.step()
        seen.append(model.w.item())
    assert len(set(seen)) == 4
    assert not chunk.state.requires_grad


def test_a_sequence_can_be_taken_up_where_it_stopped(rng):
    x, y = sequence(rng)
    pieces = cut(x, y, 3)
    whole = list(tbptt(Loop(), pieces, mse_loss))
    head = list(tbptt(Loop(), pieces[:2], mse_loss))[-1]
    rest = tbptt(Loop(), pieces[2:], mse_loss, head.state, head.start + head.steps)
    for chunk, expected in zip(rest, whole[2:], strict=True):
        assert chunk.loss.item() == expected.loss.item()
        assert (chunk.start, chunk.steps) == (expected.start, 3)


def test_a_sequential_carries_its_states_through_the_chunks(rng):
    x, y = sequence(rng)
    model = Sequential(Loop(), Linear(3, 3, dtype=np.float64), Loop(0.7))
    whole = model(Tensor(x)).numpy()
    outputs = [chunk.output.numpy() for chunk in tbptt(model, cut(x, y, 4), mse_loss)]
    # The Linear multiplies other numbers of rows at once, perhaps in other tiles.
    np.testing.assert_allclose(np.concatenate(outputs), whole, rtol=1e-13, atol=1e-15)


def test_a_model_that_takes_no_state_is_refused():
    with pytest.raises(TypeError, match=r"tbptt: the model must take state="):
        next(tbptt(Linear(3, 3), []))
    with pytest.raises(TypeError, match=r"must return \(output, state\), got Tensor"):
        next(tbptt(lambda x, state: Tensor(x), [(np.ones(3), np.ones(3))], mse_loss))


def test_a_chunk_that_is_let_go_is_freed_at_once(rng):
    x, y = sequence(rng)
    before = None
    for chunk in tbptt(Loop(), cut(x, y, 4), mse_loss):
        assert before is None or before() is None
        before = weakref.ref(chunk.loss)


def test_detached_goes_through_tuples():
    t = Tensor([1.0], requires_grad=True) * 2.0
    state = detached((t, (t, None)))
    assert not state[0].requires_grad and not state[1][0].requires_grad
    assert state[1][1] is None


# ---------------------------------------------------------------- generation

# scores after id k: k + 1 likeliest, then k + 2
TABLE = np.array([[0.0, 2.0, 1.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0]])


def chain(ids):
    """A Markov chain: maps ids (T, B) to scores (T, B, 3)."""
    return Tensor(TABLE[ids])


def test_temperature_zero_takes_the_likeliest_every_time():
    assert generate(chain, [0], 7, temperature=0.0).tolist() == [1, 2, 0, 1, 2, 0, 1]
    assert generate(chain, [0], 4, top_k=1).tolist() == [1, 2, 0, 1]


def test_the_result_is_a_row_of_int64_without_the_prompt():
    ids = generate(chain, np.array([0, 1], np.int32), 5, rng=np.random.default_rng(0))
    assert ids.dtype == np.int64 and ids.shape == (5,)
    assert generate(chain, [0], 0).shape == (0,)


def test_ids_are_drawn_with_the_shares_of_softmax():
    ids = generate(lambda ids: Tensor(np.tile(TABLE[0], (*ids.shape, 1))), [0], 3000, 0.5,
                   rng=np.random.default_rng(1))  # fmt: skip
    expected = np.exp(TABLE[0] / 0.5)
    expected /= expected.sum()
    # 3000 draws: a standard deviation of at most 0.0091 of each share; 4.5 of them.
    np.testing.assert_allclose(np.bincount(ids, minlength=3) / 3000, expected, atol=0.041)


def test_top_k_leaves_the_others_out():
    rng = np.random.default_rng(0)
    ids = generate(lambda ids: Tensor(np.tile(TABLE[0], (*ids.shape, 1))), [0], 200, 5.0, 2, rng)
    assert set(ids.tolist()) == {1, 2}


def test_a_tiny_temperature_does_not_overflow():
    assert generate(chain, [0], 3, temperature=1e-320).tolist() == [1, 2, 0]


def test_the_same_generator_state_writes_the_same():
    first = generate(chain, [0], 20, rng=np.random.default_rng(4))
    np.testing.assert_array_equal(generate(chain, [0], 20, rng=np.random.default_rng(4)), first)
    manual_seed(4)
    np.testing.assert_array_equal(generate(chain, [0], 20), first)


class Counter(Module):
    """Scores from a state: the likeliest id is the number of ids seen so far, modulo 5."""

    def __init__(self):
        self.calls = []

    def forward(self, ids, state=None, start=0):
        assert not is_grad_enabled()
        self.calls.append((ids.shape, start, self.training))
        seen = (0 if state is None else state) + ids.shape[0]
        return Tensor(np.tile(np.eye(5)[seen % 5], (*ids.shape, 1))), seen


def test_a_model_with_a_state_sees_every_id_once():
    model = Counter()
    assert generate(model, [7, 7, 7], 4, 0.0).tolist() == [3, 4, 0, 1]
    assert [call[:2] for call in model.calls] == [((3, 1), 0)] + [((1, 1), k) for k in (3, 4, 5)]


def test_a_model_without_a_state_sees_the_whole_text_again():
    shapes = []

    def model(ids):
        shapes.append(ids.shape)
        return chain(ids)

    generate(model, [0, 1], 3, 0.0)
    assert shapes == [(2, 1), (3, 1), (4, 1)]


def test_dropout_is_off_while_writing_and_every_mode_is_as_before():
    model = Counter()
    net = Sequential(model, Dropout(0.9).eval(), Dropout(0.9))
    generate(net, [0], 2, 0.0)
    assert [call[2] for call in model.calls] == [False, False]
    assert [m.training for m in net] == [True, False, True]


def test_modes_are_put_back_after_an_error_too():
    net = Sequential(Dropout(0.5))
    with pytest.raises(TypeError, match="x must be float32 or float64"):
        generate(net, [0], 1)
    assert net[0].training


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: generate(chain, [], 1), ValueError, "prompt_ids must be a non-empty row"),
        (lambda: generate(chain, [0.5], 1), ValueError, "integers"),
        (lambda: generate(chain, [[0]], 1), ValueError, r"got shape \(1, 1\)"),
        (lambda: generate(chain, [0], -1), ValueError, "length must be 0 or more, got -1"),
        (lambda: generate(chain, [0], 1, -0.5), ValueError, "temperature must be 0 or more"),
        (lambda: generate(chain, [0], 1, top_k=0), ValueError, "top_k must be at least 1"),
        (lambda: generate(lambda ids: TABLE[ids[0]], [0], 1), ValueError, r"\(T, B, V\)"),
        (lambda: generate(lambda ids: TABLE[ids] * np.nan, [0], 1), ValueError, "diverged"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()
