"""Figures that look into a character model: the search for units, gates, samples, spectra."""

import math
import re

import numpy as np
import pytest

import minirnn
from diagnostics.gallery import (
    cells_that_mean,
    character_model,
    quoted_text,
    samples,
    saturation,
    spectrum,
)
from tests.test_diagnostics_page import Outline

# The text and its properties


def test_the_properties_of_a_text_are_those_that_a_reader_sees():
    text = 'a "b c" d\n(e (f)) g'
    inside = "..1111............."
    assert quoted_text.inside_quotes(text).tolist() == [float(c == "1") for c in inside]
    assert quoted_text.position_in_line(text)[:11].tolist() == [*range(10), 0]
    assert quoted_text.indentation("if a:\n    b\n\n  c").tolist() == [0] * 6 + [4] * 6 + [
        0,
        2,
        2,
        2,
    ]
    assert quoted_text.bracket_depth(text)[10:18].tolist() == [1, 1, 1, 2, 2, 1, 0, 0]


def test_quoted_words_are_the_words_with_their_vowels_moved_on():
    text = quoted_text.write(np.random.default_rng(0), 5000)
    quoted = quoted_text.inside_quotes(text)
    moved = {word.translate(quoted_text.MOVED) for word in quoted_text.WORDS}
    for match in re.finditer("[a-z]+", text):
        known = moved if quoted[match.start()] else set(quoted_text.WORDS)
        assert match[0] in known
    # A line ends after the first word beyond 20 characters; the longest word has 4 and a space.
    lengths = [len(line) for line in text.split("\n")[:-1]]
    assert min(lengths) == 20 and max(lengths) <= 24


# The search


def test_the_search_finds_the_unit_that_was_put_there(rng):
    text = quoted_text.write(rng, 2000)
    wanted = quoted_text.inside_quotes(text)
    first, second = rng.normal(size=(2, len(text), 6))
    second[:, 4] = -np.tanh(3 * (wanted - 0.5)) + 0.1 * rng.normal(size=len(text))
    found = cells_that_mean.search("inside quotes", [first, second], wanted)
    assert (found.model, found.unit) == (1, 4) and -1 < found.r < -0.9
    np.testing.assert_array_equal(found.activation, second[:, 4])


def test_the_search_finds_a_latch_among_other_units():
    """Unit 2: '<' writes 1 into the cell, '>' writes -1, any other character leaves it."""
    text = "".join(np.random.default_rng(0).choice(list("abc <>"), 3000))
    alphabet = "abc <>"
    layer = minirnn.LSTM(6, 5, dtype="float64", seed=0)
    p = {name: np.array(value) for name, value in layer.state_dict().items()}
    rows = dict(zip("ifgo", range(2, 20, 5), strict=True))  # of unit 2, gate by gate
    for row in rows.values():
        for value in p.values():
            value[row] = 0.0
    p["weight_ih_l0"][rows["i"]] = [-30, -30, -30, -30, 30, 30]
    p["weight_ih_l0"][rows["f"]] = [30, 30, 30, 30, -30, -30]
    p["weight_ih_l0"][rows["g"]] = [0, 0, 0, 0, 30, -30]
    layer.load_state_dict(p)
    x = np.eye(6)[[alphabet.index(c) for c in text]]
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x)
    last = np.maximum.accumulate([k if c in "<>" else -1 for k, c in enumerate(text)])
    wanted = np.array([float(k >= 0 and text[k] == "<") for k in last])
    found = cells_that_mean.search("inside", [np.tanh(seen.states["c"][1:, 0])], wanted)
    assert found.unit == 2 and found.r > 0.99  # before the first bracket the cell is 0, not -1


def test_networks_are_trained_until_one_knows_and_no_longer(monkeypatch):
    text = quoted_text.write(np.random.default_rng(0), 3000)
    for name, value in (("UPDATES", 2), ("HIDDEN", 4), ("MOST", 3)):
        monkeypatch.setattr(cells_that_mean, name, value)
    wanted = quoted_text.inside_quotes(text)
    assert len(cells_that_mean.trained(text, text, wanted)) == 3  # none knows after two updates
    monkeypatch.setattr(cells_that_mean, "ENOUGH", 0.0)
    assert len(cells_that_mean.trained(text, text, wanted)) == 2


def test_correlations_are_those_of_numpy_and_zero_for_a_unit_that_never_changes(rng):
    activations, wanted = rng.normal(size=(300, 5)), rng.normal(size=300)
    activations[:, 3] = 0.25
    found = cells_that_mean.correlations(activations, wanted)
    expected = [0.0 if j == 3 else np.corrcoef(activations[:, j], wanted)[0, 1] for j in range(5)]
    np.testing.assert_allclose(found, expected, atol=1e-14)


def reading():
    text = 'a <b>\n"c" d\n' * 40
    activation = np.linspace(-1, 1, len(text))
    found = cells_that_mean.search("inside quotes", [activation[:, None]], activation)
    expected = np.tile(np.arange(5), (len(text), 1))
    chance = np.tile([0.5, 0.2, 0.1, 0.1, 0.05], (len(text), 1))
    return cells_that_mean.Reading(text, [found], [], "\n <>abcd", expected, chance, [1.0])


def test_coloured_text_is_the_text_and_cannot_become_markup():
    made = cells_that_mean.extra(reading())
    outline = Outline(made)
    assert outline.open == [] and "<b>\n" not in made
    shaded = made[made.index('<pre class="shaded">') : made.index("</pre>")]
    plain = re.sub("<[^>]*>", "", shaded).replace("&lt;", "<").replace("&gt;", ">")
    assert plain.replace("&quot;", '"').replace("↵", "") == ('a <b>\n"c" d\n' * 40)[:450]
    assert 'class="m8"' in shaded and 'class="m1"' in made


def test_below_every_character_stand_the_five_expected_ones_and_screen_readers_skip_them():
    made = cells_that_mean.extra(reading())
    columns = made[made.index('<div class="columns"') :]
    assert columns.startswith('<div class="columns" aria-hidden="true">')
    assert columns.count("<i ") == 5 * cells_that_mean.SHOWN
    assert columns.count('<i class="q4">↵</i>') == cells_that_mean.SHOWN  # probability 1/2


# A small model


@pytest.fixture(scope="module")
def small():
    text = quoted_text.write(np.random.default_rng(0), 4000)
    asked = {5: lambda model: "early", 12: lambda model: "late"}
    return character_model.train(text, "lstm", 8, 12, levels=2, batch=4, steps=16, when=asked)


def test_training_asks_the_model_when_it_was_told_to(small):
    assert len(small.loss) == 12 and small.seen == {5: "early", 12: "late"}
    assert small.loss[0] == pytest.approx(math.log(len(small.vocabulary)), abs=0.3)
    assert small.loss[-1] < small.loss[0]


def test_samples_stand_below_the_loss_at_their_update(small):
    assert samples.loss_around(small, 12) == pytest.approx(np.mean(small.loss[2:12]))
    made = samples.extra(small)
    assert "after 5 updates, loss" in made and "early</pre>" in made
    rows = samples.caption(small).rows
    assert [row[0] for row in rows] == ["5", "12"]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_fractions_shut_and_open_are_those_of_counting(cell, rng):
    layer = minirnn.Recurrent(cell, 3, 6, num_layers=2, seed=0)
    for parameter in layer.parameters():
        parameter.assign(8 * parameter.numpy())  # gates that saturate
    x = rng.normal(size=(30, 4, 3)).astype(np.float32)
    found = saturation.measure(cell, layer, x)
    assert len(found) == 2 * len(saturation.GATES[cell])
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x)
    for gate in found:
        value = seen[gate.level, 0].gates[gate.name].reshape(-1, 6)
        np.testing.assert_allclose(gate.shut, (value < 0.1).mean(axis=0))
        np.testing.assert_allclose(gate.open, (value > 0.9).mean(axis=0))
        assert (gate.shut + gate.open <= 1).all() and gate.distance.sum() == pytest.approx(1)
    assert max(gate.open.max() for gate in found) > 0.5


def test_the_histogram_of_distances_is_that_of_counting_value_by_value(rng):
    """Bin n holds the gates with n/50 <= min(v, 1 - v) < (n + 1)/50, the last also 1/2 itself."""
    layer = minirnn.Recurrent("gru", 3, 5, dtype="float64", seed=0)
    x = 3 * rng.normal(size=(40, 2, 3))
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x)
    for gate in saturation.measure("gru", layer, x):
        counted = [0] * 25
        for v in seen[0, 0].gates[gate.name].ravel().tolist():
            nearer = v if v < 0.5 else 1 - v
            counted[min(24, math.floor(nearer * 50))] += 1
        assert sum(count > 0 for count in counted) > 12  # spread over the bins, or it shows little
        np.testing.assert_allclose(gate.distance, np.array(counted) / (40 * 2 * 5), rtol=1e-12)


# D18


def test_below_gain_one_the_spectrum_is_that_of_the_matrix():
    layer = spectrum.gaussian(0.6, units=8)
    weight = layer.weight_hh_l0.numpy()
    known = np.sort(np.log(np.abs(np.linalg.eigvals(weight))))[::-1]
    found = spectrum.measure("still", layer, np.zeros((800, 1, 1)), [0.3 * np.ones((1, 1, 8))])
    # Conjugate pairs turn the directions round; over 300 steps that leaves parts of a per cent.
    np.testing.assert_allclose(found.found.value, known, atol=0.02)
    assert found.apart == pytest.approx(known[0], abs=0.02)
    assert abs(found.found.residual) < 1e-9


def test_two_trajectories_part_at_the_rate_of_the_first_exponent(rng):
    layer = spectrum.gaussian(3.0, units=12, seed=2)
    found = spectrum.measure("chaos", layer, np.zeros((800, 1, 1)), [rng.normal(size=(1, 1, 12))])
    # The same 300 steps of the same trajectory; the perturbation of 1e-7 is not infinitesimal.
    assert found.apart == pytest.approx(found.found.value[0], abs=0.02)


def test_an_lstm_has_an_exponent_for_every_entry_of_both_states(rng):
    layer = minirnn.LSTM(2, 3, dtype="float64", seed=0)
    start = [np.zeros((1, 1, 3)), np.zeros((1, 1, 3))]
    found = spectrum.measure("lstm", layer, rng.normal(size=(600, 1, 2)), start)
    assert len(found.found.value) == 6


@pytest.mark.conformance
def test_a_cell_that_knows_of_quotations_is_found_in_a_trained_network():
    """Of eight networks; about every second one has it, so that 1 in 250 machines might not."""
    found = cells_that_mean.numbers().found
    assert abs(next(one.r for one in found if one.what == "inside quotes")) > 0.9
