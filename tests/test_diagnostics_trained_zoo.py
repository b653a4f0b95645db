"""The trained zoo: its tasks, its rank correlations, and a tiny run of it."""

import itertools
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from diagnostics.zoo.foretold import PREDICTORS, markdown
from diagnostics.zoo.ranks import rank_correlation, ranks
from diagnostics.zoo.tasks import adding, copying
from diagnostics.zoo.trained import BIASES, GAINS, TINY, Plan, Run, Task, layer_of, train_zoo

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "calibration.md"


def test_adding_marks_one_number_in_each_half_and_wants_their_sum(rng):
    x, y = adding(rng, 11, 40)
    marks = x[:, :, 1]
    assert x.shape == (11, 40, 2) and y.shape == (40, 1)
    assert (marks[:5].sum(axis=0) == 1).all() and (marks[5:].sum(axis=0) == 1).all()
    # Two numbers of float32, and nine zeros.
    np.testing.assert_allclose(y[:, 0], (marks * x[:, :, 0]).sum(axis=0), rtol=1e-6)


def test_the_best_guess_without_memory_leaves_a_sixth_of_adding(rng):
    _, y = adding(rng, 10, 200_000)
    # The squares spread by about 0.2: 0.002 is four standard errors.
    assert Task("adding", 10).baseline(y) == pytest.approx(1 / 6, abs=0.002)
    assert Task("copying", 10).baseline(None) == math.log(4)


def test_copying_gives_symbols_blanks_and_marks_and_wants_the_symbols(rng):
    x, y = copying(rng, blanks=5, size=6, symbols=2, alphabet=4)
    ids = x.argmax(axis=2)
    assert x.shape == (9, 6, 6) and (x.sum(axis=2) == 1).all()
    np.testing.assert_array_equal(ids[:2], y)
    assert (ids[2:7] == 4).all() and (ids[7:] == 5).all()
    # Each symbol is wanted 7 steps later, which is the lag.
    assert Task("copying", 5).lag == 5 + 3 and Task("adding", 50).lag == 49


def test_ranks_of_equal_values_are_the_mean_of_their_places():
    assert ranks([10, 20, 20, 5]).tolist() == [2, 3.5, 3.5, 1]
    assert ranks([-math.inf, 3, math.inf, -math.inf]).tolist() == [1.5, 3, 4, 1.5]


def test_the_rank_correlation_is_the_one_computed_by_hand():
    """By 1 - 6 sum d^2 / (n (n^2 - 1)): differences 0, 1, 1, 0 give 1 - 12/60."""
    rho, p = rank_correlation([1, 2, 3, 4], [0.1, 5.0, 0.3, 90.0])
    assert rho == pytest.approx(0.8, abs=1e-12)
    every = [1 - sum((i - j) ** 2 for i, j in enumerate(order)) / 10
             for order in itertools.permutations(range(4))]  # fmt: skip
    exact = np.mean(np.abs(every) > 0.8 - 1e-9)
    # 10000 shuffles know a share of a third to 0.005: four of those.
    assert exact == 8 / 24 and p == pytest.approx(exact, abs=0.02)
    assert rank_correlation([1, 2, 3], [3, 2, 1])[0] == pytest.approx(-1)


def test_ties_are_correlated_as_by_hand():
    """Ranks 1, 2, 3, 4 and 1.5, 1.5, 3.5, 3.5: 4 / sqrt(5 * 4)."""
    assert rank_correlation([1, 2, 3, 4], [0, 0, 1, 1])[0] == pytest.approx(4 / math.sqrt(20))


def test_what_sets_groups_apart_counts_for_nothing():
    """Within both groups the order is reversed, though the second has more of both."""
    x, y = [1, 2, 3, 11, 12, 13], [3, 2, 1, 13, 12, 11]
    assert rank_correlation(x, y)[0] > 0.5
    assert rank_correlation(x, y, list("aaabbb"))[0] == pytest.approx(-1)


def test_a_rank_correlation_with_a_constant_is_not_a_number():
    assert np.isnan(rank_correlation([1, 2, 3], [7, 7, 7])).all()


@pytest.fixture(scope="module")
def runs():
    return train_zoo(TINY)


def test_the_same_seed_gives_the_same_runs(runs):
    again = train_zoo(Plan(**(asdict(TINY) | {"tasks": ("copying",)})))
    assert again == [run for run in runs if run.task == "copying"]
    other = train_zoo(Plan(**(asdict(TINY) | {"tasks": ("copying",), "cells": ("rnn",)})), seed=1)
    assert {run.loss for run in other}.isdisjoint(run.loss for run in again)


def test_a_run_tells_what_was_known_before_and_what_came_of_it(runs):
    assert len(runs) == 2 * (3 + 9 + 9) and len({run.group for run in runs}) == 2
    for run in runs:
        assert run.lag == (9 if run.task == "adding" else 13)
        assert 0 <= run.gain and math.isfinite(run.loss) and run.updates == 4
        assert (run.memory_level == "info") == (run.cell == "rnn")
        assert run.solved == (run.loss < 0.1 * run.baseline)


def test_a_larger_forget_bias_raises_both_numbers_before_training(runs):
    by_bias = {run.bias: run for run in runs
               if (run.task, run.cell, run.init) == ("adding", "lstm", "orthogonal")}  # fmt: skip
    assert by_bias["0"].gain < by_bias["1"].gain
    assert by_bias["0"].memory < by_bias["1"].memory < by_bias["chrono"].memory


def test_recurrent_weights_have_the_gain_that_the_name_says():
    for init, gain in GAINS.items():
        layer = layer_of("lstm", init, BIASES["lstm"][0], Task("adding", 10), 8, seed=0)
        values = np.linalg.svd(layer.weight_hh_l0.numpy().reshape(4, 8, 8), compute_uv=False)
        np.testing.assert_allclose(values, gain, rtol=1e-5)  # float32, 8 units


def test_a_loss_that_is_not_finite_counts_as_the_worst():
    run = made(loss=math.nan)
    assert run.relative == math.inf and not run.solved


def test_the_document_says_it_where_a_rule_foretells_and_where_it_does_not():
    told = [made(gain=10.0**-k, loss=0.01 + 0.1 * k, vanishing="fail") for k in range(8)]
    text = markdown(told, Plan())
    assert "- log G (R1) foretells, all: the loss strongly (rho -1.00), who" in text
    mixed = [made(gain=10.0**-k, loss=loss) for k, loss in enumerate((0.4, 0.2, 0.5, 0.3))]
    assert "the loss not (rho 0.00), who begins to learn not (rho nan)" in markdown(mixed, Plan())
    reverse = [made(gain=10.0**k, loss=0.01 + 0.1 * k) for k in range(8)]
    assert "the loss strongly (rho 1.00, the wrong way round)" in markdown(reverse, Plan())
    assert "- adding: of 8 networks that R1 fails before training 8 begin" in text
    assert "and 1 solve the task; of 0 that it finds ok, 0 and 0." in text


def test_the_committed_document_is_of_the_plan_that_the_code_has():
    text = DOCUMENT.read_text(encoding="utf-8")
    count = sum(len(GAINS) * len(BIASES[cell]) for cell in Plan().cells)
    runs = count * len(Plan().tasks) * len(Plan().updates)
    told = text[text.index("## Before training") :].splitlines()[2]
    made_now = markdown([made()] * runs, Plan()).splitlines()[2]
    assert told.split("; minirnn")[0] == made_now.split("; minirnn")[0]
    every = text[text.index("## Every network") :].splitlines()[4:]
    assert len(every) == count * len(Plan().tasks)
    assert {len(line.split(" | ")) for line in every} == {4 + 3 * len(Plan().updates)}
    for name in PREDICTORS:
        assert f"- {name} foretells, all: " in text


def made(**changed):
    """A run by hand."""
    fields = dict(
        task="adding", steps=50, updates=1, cell="gru", init="orthogonal", bias="0", lag=49,
        gain=0.1, vanishing="ok", memory=1.0, memory_level="ok", loss=0.1, baseline=1.0,
    )  # fmt: skip
    return Run(**(fields | changed))
