"""The demo at toy size: what it trains, what it records, and that it repeats bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minirnn
from diagnostics.__main__ import main
from diagnostics.demo import settings as demo_settings
from diagnostics.demo.corpus import read, unseen_batch
from diagnostics.demo.remedies import initial
from diagnostics.demo.run import demo
from diagnostics.demo.settings import Settings, variants
from diagnostics.demo.train import learning_rate, train
from diagnostics.page.html import render


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Settings of a second or two."""
    path = tmp_path_factory.mktemp("text") / "rhyme.txt"
    path.write_text("Twinkle, twinkle, little star,\nHow I wonder what you are!\n" * 40)
    return Settings(
        text=str(path),
        training_steps=12,
        steps=16,
        need_lag=8,
        batch=4,
        hidden_size=8,
        embedding_size=4,
        sample_length=30,
        unseen_sequences=10,
    )


@pytest.fixture(autouse=True)
def one_cell(monkeypatch):
    """Train the vanilla network only: its kernels are the quickest to compile."""
    monkeypatch.setattr(demo_settings, "CELLS", ("rnn",))


@pytest.fixture(scope="module")
def corpus(tiny):
    return read(tiny)


def silent(*_):
    pass


def test_every_cell_runs_with_and_without_clipping(monkeypatch, tiny):
    monkeypatch.setattr(demo_settings, "CELLS", ("rnn", "lstm", "gru"))
    assert [(cell, norm is not None) for _, cell, norm in variants(tiny)] == [
        ("rnn", True), ("rnn", False), ("lstm", True), ("lstm", False), ("gru", True),
        ("gru", False),
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny):
    first, second = demo(tiny), demo(tiny)
    assert first.json() == second.json()
    assert render(first) == render(second)
    assert demo(replace(tiny, seed=1)).json() != first.json()


def test_both_runs_of_a_cell_start_from_the_same_model_and_text(tiny, corpus):
    clipped = train("rnn", tiny.max_norm, corpus, tiny, silent)
    free = train("rnn", None, corpus, tiny, silent)
    assert clipped.loss[0] == free.loss[0]
    np.testing.assert_array_equal(clipped.flow[0], free.flow[0])


def test_what_is_recorded_fits_together(tiny, corpus):
    steps = []
    run = train("rnn", 0.01, corpus, tiny, lambda step, *_: steps.append(step))
    assert steps == list(range(1, 13)) and len(run.loss) == len(run.clips) == 12
    assert run.flow.shape == (3, tiny.steps + 1)
    assert {name: len(strip) for name, strip in run.strips.items()} == {
        "rho": 3, "update": 3, "cosine": 3,
    }  # fmt: skip
    # All gradients are scaled together: float32 rounds each, the angle stays.
    np.testing.assert_allclose(run.strips["cosine"], 1.0, atol=1e-6)
    np.testing.assert_array_equal(run.flow_steps, [0, 5, 10])
    assert all(clip.post <= 0.01 * (1 + 1e-6) for clip in run.clips)
    assert all(clip.norm > 0.01 for clip in run.clips)


def test_a_clipped_run_tells_whose_norm_was_clipped_and_what_clipping_at_every_step_would_do(tiny):
    report = demo(tiny)
    free = dict(report.subjects[1].quantities)
    assert not {"clip_direction", "graph_clipping"} & set(free)
    acted, held = report["rnn, clipped", "clip_direction"], report["rnn, clipped", "graph_clipping"]
    assert sum(acted.share.values()) == pytest.approx(1.0)
    # The last of the recorded steps at which clipping fired.
    counted = report["rnn, clipped", "clipping"]
    fired = [step for step in (0, 5, 10) if counted.clipped[step]]
    assert acted.pre == counted.pre[fired[-1] if fired else 0]
    judged = [v.level for v in report.verdicts if v.rule == "R10"]
    assert judged == ["ok"]  # one threshold for all gradients together turns nothing
    # The threshold is the median over the rows: half of them lie above it.
    above = held.total_norm > held.clip
    assert above.sum() == len(above) // 2
    assert (held.clipped_norm[1:] <= held.clip * (1 + 1e-6)).all()
    assert 0 < held.value <= 1


def test_a_run_whose_gradient_is_not_finite_stops_and_fails_r2(tiny):
    report = demo(replace(tiny, learning_rate=1e39))
    training = report["rnn, unclipped", "training"]
    assert training.stopped.startswith("stopped at training step")
    assert "a gradient was not finite" in training.stopped
    judged = [v for v in report.verdicts if v.subject == "rnn, unclipped" and v.rule == "R2"]
    assert [verdict.level for verdict in judged] == ["fail"]
    assert "stopped at training step" in render(report)
    assert training.strips["update"][-1] == np.inf  # its only one, at an infinite rate


def test_unseen_text_is_not_trained_on(tiny, corpus):
    text = Path(tiny.text).read_text(encoding="utf-8")
    cut = len(corpus.training)
    assert corpus.vocabulary.decode(corpus.training) == text[:cut]
    assert corpus.vocabulary.decode(corpus.unseen) == text[cut:]
    x, y = unseen_batch(corpus, tiny)
    assert x.shape == y.shape == (tiny.steps, tiny.unseen_sequences)
    np.testing.assert_array_equal(x[1:], y[:-1])


def test_the_prompt_begins_a_line_of_the_unseen_text(tiny, corpus):
    unseen = corpus.vocabulary.decode(corpus.unseen)
    assert f"\n{corpus.prompt}" in unseen


def test_a_text_that_is_too_short_is_an_error(tiny, tmp_path):
    (tmp_path / "short.txt").write_text("abc" * 50)
    with pytest.raises(ValueError, match=r"the text must have at least 238 characters, got 150"):
        demo(replace(tiny, text=str(tmp_path / "short.txt")))


def test_the_learning_rate_is_constant_first_and_a_tenth_at_last():
    settings = Settings(training_steps=100, learning_rate=2.0)
    assert [learning_rate(step, settings) for step in (0, 49, 50)] == [2.0, 2.0, 2.0]
    assert learning_rate(75, settings) == pytest.approx(1.1)
    assert learning_rate(100, settings) == pytest.approx(0.2)


def test_timings_are_in_the_report_only_when_asked_for(tiny):
    assert demo(tiny).seconds == {}
    assert "train rnn, clipped" in demo(tiny, timings=True).seconds


def test_the_command_writes_the_page_and_says_where(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo_settings.Settings, "__init__", _with_defaults_of(tiny))
    out = tmp_path / "report.html"
    assert main(["demo", "--text", tiny.text, "--out", str(out), "--fail-on", "R9"]) in (0, 1)
    streams = capsys.readouterr()
    assert streams.out.splitlines()[-1] == f"report: {out}"
    assert "rnn, clipped: loss" in streams.err
    assert list(tmp_path.iterdir()) == [out]


def _with_defaults_of(tiny):
    """Settings as the command line makes them, at toy size."""
    make = Settings.__init__

    def init(self, **given):
        make(self, **{name: getattr(tiny, name) for name in tiny.__dataclass_fields__} | given)

    return init


@pytest.mark.parametrize(
    ("remedy", "words"),
    [
        ({"start": "identity"}, "identity recurrent blocks"),
        ({"start": "uniform"}, "forget bias 1 for LSTM; else as in PyTorch"),
        ({"start": "chrono"}, "chrono biases up to 16 steps"),
        ({"forget_bias": 3.0}, "forget bias 3 for LSTM and GRU"),
        ({"omega": 2.0}, "2 times, in the vanilla network"),
        ({"flossing": 2}, "2 steps before training"),
    ],
)
def test_the_table_of_settings_says_which_remedy_was_tried(tiny, remedy, words):
    table = replace(tiny, **remedy).table("a text")
    assert words in f"{table}"


def test_omega_changes_the_recurrent_matrix_alone_at_the_first_step(tiny, corpus):
    one = replace(tiny, training_steps=1)
    plain = train("rnn", None, corpus, one, silent).model.state_dict()
    kept = train("rnn", None, corpus, replace(one, omega=0.1), silent).model.state_dict()
    changed = [name for name in plain if not np.array_equal(plain[name], kept[name])]
    assert changed == ["recurrent.weight_hh_l0"]


def test_flossing_comes_before_training_and_brings_the_exponents_nearer_to_zero(tiny, corpus):
    settings = replace(tiny, start="uniform", training_steps=1, learning_rate=1e-9)
    x = np.random.default_rng(0).normal(size=(20, 1, 4)).astype(np.float32)

    def distance(flossing):
        model = train("rnn", None, corpus, replace(settings, flossing=flossing), silent).model
        return minirnn.regularise.flossing(model.recurrent, x, 8).item()

    assert distance(30) < 0.8 * distance(0)


def test_a_start_is_that_of_the_cell(tiny):
    chrono, biased = replace(tiny, start="chrono"), replace(tiny, forget_bias=2.0)
    assert initial("rnn", chrono).keys() == {"weight_hh"}
    assert initial("lstm", chrono)["bias"] == minirnn.init.chrono(16)
    assert initial("gru", biased)["bias"] == minirnn.init.forget_bias(2.0)
    assert initial("lstm", tiny)["bias"] == minirnn.init.forget_bias(1.0)
    assert "weight_hh" not in initial("gru", replace(tiny, start="uniform"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"omega": -1.0}, "omega must be finite and 0 or more"),
        ({"flossing": -1}, "flossing must be a whole number, 0 or more"),
        ({"start": "zeros"}, "start must be one of orthogonal, identity"),
        ({"start": "chrono", "forget_bias": 1.0}, "chrono chooses the forget bias itself"),
    ],
)
def test_remedies_that_make_no_sense_are_errors(given, words):
    with pytest.raises(ValueError, match=words):
        Settings(**given)
