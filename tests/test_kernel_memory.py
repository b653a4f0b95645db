"""Memory and threads that passes use again: what a user holds stays, and nothing is done twice."""

import gc

import numpy as np
import pytest

import minirnn
from minirnn import cells
from minirnn.equations.plan import plan
from minirnn.kernels import threads
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.kernels.team import Team

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="the JIT is switched off: no kernels")

T, B, I, H = 6, 3, 4, 16  # noqa: E741 (the letter of the house for the input size)


def step(layer, x, seed):
    """A training step: output (T, B, H) and all gradients."""
    layer.zero_grad()
    given = minirnn.Tensor(x, requires_grad=True)
    output = layer(given)[0]
    output.backward(seed)
    return [output.numpy(), given.grad, *(p.grad for p in layer.parameters())]


@pytest.fixture
def data(rng):
    """An input (T, B, I) and a cotangent (T, B, H)."""
    return rng.standard_normal((T, B, I)), rng.standard_normal((T, B, H))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before", "lstm_layernorm"])
def test_a_second_backward_through_a_kept_graph_gives_the_same_bits(cell, data):
    # The first writes derivatives over what the forward pass saved; that has to be made again.
    x, seed = data
    layer = minirnn.Recurrent(cell, I, H, dtype="float64", seed=0)
    given = minirnn.Tensor(x, requires_grad=True)
    output = layer(given)[0]
    wanted = (given, *layer.parameters())
    first = [g.numpy().copy() for g in minirnn.grad(output, wanted, seed, retain_graph=True)]
    again = [g.numpy() for g in minirnn.grad(output, wanted, seed)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_step_hands_out_is_not_written_by_later_steps(data):
    x, seed = data
    layer = minirnn.LSTM(I, H, dtype="float64", seed=0)
    held = step(layer, x, seed)
    copies = [a.copy() for a in held]
    for factor in (2.0, 3.0, 4.0):
        step(layer, factor * x, factor * seed)
    for array, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_buffers_of_runs_that_the_collector_found_are_used_by_one_run_at_a_time(data):
    x, seed = data
    layer = minirnn.GRU(I, H, dtype="float64", seed=0)
    expected = [a.copy() for a in step(layer, x, seed)]
    for lengths in (None, np.array([T, 2, 4])):
        for _ in range(5):
            ring = [layer(minirnn.Tensor(x, requires_grad=True), lengths=lengths)]
            ring.append(ring)  # only the collector frees it, with the run on its tape
            del ring
    gc.collect()
    alive = [layer(minirnn.Tensor(k * x, requires_grad=True)) for k in (2.0, 3.0)]
    for array, wanted in zip(step(layer, x, seed), expected, strict=True):
        np.testing.assert_array_equal(array, wanted)
    del alive


@pytest.mark.parametrize("name", cells.names())
def test_no_two_values_share_a_place_at_the_same_time(name):
    made = plan(cells.get(name))
    written = [slot for stage in made.forward for slot, _ in stage.stores]
    assert len(written) == len(set(written))
    for number, stage in enumerate(made.forward):
        for slot, _ in stage.stores:
            if slot.buffer.startswith("x."):  # nothing reads W x there any more
                later = [
                    n
                    for s in made.forward[number + 1 :]
                    for n, at in s.sources.items()
                    if at == slot
                ]
                assert all(n.op != "leaf" for n in later)
                derivative = slot.buffer.replace("x.", "dx."), slot.member
                done = next(
                    i for i, s in enumerate(made.backward)
                    if any((d.buffer, d.member) == derivative for d, _ in s.stores)
                )  # fmt: skip
                assert all(slot not in s.sources.values() for s in made.backward[done + 1 :])


def test_a_team_runs_every_share_of_every_task_once():
    team = Team(4)
    for task in range(400):
        threads = 2 + task % 3
        ran = []
        team.run_call(lambda i, n, ran=ran: ran.append((i, n)), threads)
        assert sorted(ran) == [(i, threads) for i in range(threads)]


def test_an_error_in_a_share_reaches_the_caller_and_the_team_goes_on():
    team = Team(2)
    with pytest.raises(ZeroDivisionError):
        team.run_call(lambda i, n: 1 // (1 - i), 2)
    ran = []
    team.run_call(lambda i, n: ran.append(i), 2)
    assert sorted(ran) == [0, 1]


@pytest.mark.parametrize("units", [H, 20])
def test_a_step_that_two_threads_share_has_the_bits_of_the_sequence(units, rng, monkeypatch):
    monkeypatch.setattr(threads, "_WORTH_FLOPS", 0.0)  # so that sizes of a test are worth it
    layer = minirnn.LSTM(I, units, num_layers=2, dtype="float64", seed=0)
    x = rng.standard_normal((T, B, I))
    with minirnn.no_grad():
        _, expected = layer(x)
    shared, launch, state = [], threads.launch, None

    def noted(function, argument, wanted):
        shared.append(wanted)
        launch(function, argument, wanted)

    monkeypatch.setattr(threads, "launch", noted)
    for x_t in x:
        state = layer.step(x_t, state)
    assert shared == [threads.get_num_threads()] * (2 * T) or threads.get_num_threads() == 1
    for stepped, whole in zip(state, expected, strict=True):
        np.testing.assert_array_equal(stepped.numpy(), whole.numpy())
