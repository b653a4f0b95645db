"""The parts of training together: a character model with a real recurrent layer."""

import numpy as np
import pytest

import minirnn
from minirnn.data import TextStream, Vocabulary

TEXT = "the quick brown fox jumps over the lazy dog and the dog sleeps. " * 8
VOCABULARY = Vocabulary.of(TEXT)
CELLS = ("rnn", "lstm", "gru")


def character_model(cell, seed=0):
    return minirnn.Sequential(
        minirnn.Embedding(len(VOCABULARY), 8, seed=seed),
        minirnn.Recurrent(cell, 8, 16, num_layers=2, dropout=0.1, seed=seed + 1),
        minirnn.Linear(16, len(VOCABULARY), seed=seed + 2),
    )


def train(model, optimizer, stream, chunks, state=None, start=0):
    """Train for some chunks; return the losses, and the state and step where it stopped."""
    losses = []
    while len(losses) < chunks:
        for chunk in minirnn.tbptt(model, stream, state=state, start=start):
            optimizer.zero_grad()
            chunk.loss.backward()
            minirnn.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            losses.append(chunk.loss.item())
            if len(losses) == chunks:
                return losses, chunk.state, chunk.start + chunk.steps
        state, start = None, 0
    return losses, None, 0


@pytest.mark.parametrize("cell", CELLS)
def test_a_character_model_learns(cell):
    minirnn.manual_seed(0)
    model = character_model(cell)
    stream = TextStream(VOCABULARY.encode(TEXT), 4, 16)
    losses, _, _ = train(model, minirnn.Adam(model.parameters(), 0.02), stream, 60)
    assert losses[0] == pytest.approx(np.log(len(VOCABULARY)), rel=0.1)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_writes_the_same_with_its_state_as_without(cell):
    model = character_model(cell)
    prompt = VOCABULARY.encode("the quick")
    carried = minirnn.generate(model, prompt, 12, 0.0)
    again = minirnn.generate(lambda ids: model.eval()(ids), prompt, 12, 0.0)
    np.testing.assert_array_equal(carried, again)


@pytest.mark.parametrize("cell", CELLS)
def test_a_resumed_run_of_a_recurrent_model_goes_on_bit_for_bit(cell, tmp_path):
    def begin():
        minirnn.manual_seed(7)
        model = character_model(cell)
        return model, minirnn.RMSprop(model.parameters(), 0.01), TextStream(ids, 4, 16)

    ids = VOCABULARY.encode(TEXT)
    model, optimizer, stream = begin()
    expected, _, _ = train(model, optimizer, stream, 11)

    first, state, start = train(*(parts := begin()), 5)
    extra = {"state": state, "start": start, "stream": parts[2].state_dict()}
    minirnn.save_checkpoint(tmp_path / "run", parts[0], parts[1], step=5, extra=extra)
    minirnn.manual_seed(99)
    twin, fresh, elsewhere = character_model(cell, seed=50), None, TextStream(ids, 4, 16)
    fresh = minirnn.RMSprop(twin.parameters(), 0.5)
    step, extra = minirnn.load_checkpoint(tmp_path / "run", twin, fresh)
    elsewhere.load_state_dict(extra["stream"])
    rest, _, _ = train(twin, fresh, elsewhere, 11 - step, extra["state"], extra["start"])
    assert first + rest == expected
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[name], array)


def test_a_gradient_that_overflowed_on_its_way_back_is_counted_and_not_scaled():
    """W = 2 I over 400 steps is 2^400, beyond float32."""
    layer = minirnn.Recurrent("rnn_relu", 1, 3, init={"weight_hh": minirnn.init.identity(2.0)})
    output, _ = layer(np.ones((400, 1, 1), np.float32))
    output.sum().backward()
    before = [p.grad.copy() for p in layer.parameters()]
    info = minirnn.clip_grad_norm(layer.parameters(), 1.0)
    assert info.nonfinite == sum(int((~np.isfinite(g)).sum()) for g in before) > 0
    assert not info.clipped
    for parameter, gradient in zip(layer.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_a_model_can_be_cast_and_runs_in_its_new_dtype():
    model = character_model("lstm").eval()
    ids = VOCABULARY.encode("the dog")[:, None]
    single = model(ids).numpy()
    double = model.to(np.float64)(ids).numpy()
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    # float32 rounding through two levels and seven steps.
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-6)
