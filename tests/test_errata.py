"""The errors of the lecture notes: each fact that examples/errata.py shows."""

import inspect
import re
from functools import cache

import numpy as np
import pytest

from examples import errata

ROUNDING = 1e-12  # sums of a few dozen terms in float64


@cache
def numbers(name):
    return errata.ERRATA[name]()


def test_x1_factors_of_a_gradient_interleave():
    got = numbers("X1")
    # The three numbers of the design notes, to the digits that they have: the same draw.
    assert got["norm of the true product"] == pytest.approx(0.062, abs=5e-4)
    assert got["norm of the printed form"] == pytest.approx(0.393, abs=5e-4)
    assert got["relative error of the printed form"] == pytest.approx(5.8, abs=0.05)
    assert got["relative error of the factors in turn"] < ROUNDING


def test_x2_only_the_slope_of_the_step_itself_gives_its_derivative():
    got = numbers("X2")
    assert got["relative error of dh_2/dh_1 with the right D"] < ROUNDING
    assert got["relative error of dh_2/dh_1 with the printed D"] > 0.1


def test_x3_the_norm_of_relu_slopes_is_one_as_soon_as_a_unit_is_active():
    got = numbers("X3")
    active = got["steps with an active unit"]
    assert active > 900
    assert got["of these, steps with |D| = 1 (ReLU)"] == active


def test_x3_no_slope_exceeds_its_bound_and_each_bound_is_reached():
    got = numbers("X3")
    assert got["largest |D| (ReLU)"] == 1.0
    assert got["largest |D| (tanh)"] == 1.0
    assert got["largest |D| (logistic)"] == 0.25


def test_x4_attention_as_printed_is_uniform_and_teaches_nothing():
    got = numbers("X4")
    assert got["printed: smallest and largest weight"] == pytest.approx((1 / 6, 1 / 6))
    assert got["printed: largest gradient of the decoder's state"] < ROUNDING


def test_x4_attention_over_the_encoder_sums_to_one_and_is_not_uniform():
    got = numbers("X4")
    low, high = got["right: smallest and largest weight"]
    assert low < 0.01 < 0.9 < high
    assert got["right: farthest sum over t from 1"] < ROUNDING
    assert got["right: distance from softmax"] < ROUNDING
    assert got["right: largest gradient of the decoder's state"] > 0.1


def test_x5_one_matrix_for_input_and_state_fits_only_if_they_are_of_one_size():
    got = numbers("X5")
    assert re.search(r"\(8, 8\) and \(3,\)", got["printed, d = 3, N = 8"])


def test_x5_a_gate_with_one_matrix_cannot_tell_the_input_from_the_state():
    got = numbers("X5")
    assert got["printed, d = N: change of the gate when x and h change places"] < ROUNDING
    assert got["right, d = N: change of the gate when x and h change places"] > 0.1


def test_x6_the_cell_as_printed_forgets_after_one_step():
    got = numbers("X6")
    assert got["printed: dh_T/dc_0, T = 1"] == 0.0
    assert got["printed: dh_T/dc'_0, T = 1"] > 0.1
    assert got["printed: dh_T/dc'_0, T = 2"] == 0.0


def test_x6_the_right_cell_remembers_as_its_forget_gate_says():
    got = numbers("X6")
    f = 1 / (1 + np.exp(-3.0))
    for steps in (1, 2, 50):  # c_T = 0.1 f^T, h_T = tanh(c_T) / 2
        slope = f**steps * (1 - np.tanh(0.1 * f**steps) ** 2) / 2
        assert got[f"right: dh_T/dc_0, T = {steps}"] == pytest.approx(slope, rel=1e-12)


def test_x7_a_reset_gate_that_nothing_reads_gets_no_gradient():
    got = numbers("X7")
    share = "share of the parameters whose gradient is exactly 0"
    assert "gate r (wx.r) never reaches a returned state" in got["printed"]
    assert got[f"printed: {share}"] == 1 / 3
    assert got[f"right: {share}"] == 0.0


def test_x8_the_matrix_of_the_input_does_not_fit_the_output():
    got = numbers("X8")
    assert re.search(r"\(8, 3\) and \(8,\)", got["printed, d = 3, N = 8"])
    assert "u.h is multiplied with two different vectors" in got["printed as a cell"]
    assert got["right: entries of y"] == 2
    # (N d + N^2 + N) + (M N + M), N = M = 8 and d = 3
    assert got["right as a cell, y of 8 entries: parameters"] == (24 + 64 + 8) + (64 + 8)


def test_x9_a_state_that_has_not_seen_the_newest_letter_cannot_follow_it():
    got = numbers("X9")
    loss, least = got["printed: loss, and the least possible"]
    # Closed form: (H(1/5, 1/5, 2/5, 1/5) + 2/5 ln 2) / 4; what Adam leaves in 300 updates.
    assert least == pytest.approx(0.4024, abs=1e-4)
    assert least <= loss < least + 0.01
    assert got["printed: P(l | begins with e)"] == pytest.approx(0.4, abs=0.02)


def test_x9_the_state_that_has_seen_it_spells_hello():
    got = numbers("X9")
    loss, least = got["right: loss, and the least possible"]
    assert least <= loss < least + 0.01
    assert got["right: P(l | begins with e)"] > 0.98
    assert min(got["right: P(l | el), P(o | ll)"]) > 0.98


def test_x10_scaling_the_loss_moves_underflow_by_as_many_steps_as_bits():
    got = numbers("X10")
    assert got["last lag with a gradient"] == 149
    assert got["last lag with a gradient, loss times 2^10"] == 159


def test_x10_scaling_the_loss_changes_no_ratio_and_in_float64_no_bit():
    got = numbers("X10")
    ratio = "gradient at lag 100, by that at lag 99"
    assert got[ratio] == got[f"{ratio}, loss times 2^10"] == 0.5
    assert got["float64, scaled back: gradients that differ"] == 0


# The numbers of the design notes.
@pytest.mark.parametrize("bias, known", [(0, 1.0), (1, 2.2), (2, 5.5), (3, 14.3), (5, 103.0)])
def test_x11_a_cell_state_halves_as_the_forget_bias_says(bias, known):
    half_life = numbers("X11")[f"forget bias {bias}: half-life of dc in steps"]
    assert half_life == pytest.approx(known, abs=0.5 if bias == 5 else 0.05)
    f = 1 / (1 + np.exp(-float(bias)))
    # 20 factors of f, each to 4 ulp, then a logarithm of what is left, 0.13 or smaller.
    assert half_life == pytest.approx(-np.log(2) / np.log(f), rel=1e-12)


def test_x12_bounded_activations_do_not_bound_the_gradient():
    got = numbers("X12")
    # tanh has slope 1 to 1e-6 while h is below 1e-3; it grows from 1e-12 by 6e8.
    assert got["tanh: norm of dh_50/dh_0, by 1.5^50"] == pytest.approx(1.0, abs=1e-5)


def test_x12_relu_with_the_identity_learns_what_tanh_does_not():
    got = numbers("X12")
    # Guessing the mean leaves 1/6. Four seeds gave 0.03 to 0.054, and 0.160 to 0.172.
    assert got["ReLU and identity: error on the adding problem"] < 0.1
    assert got["tanh: error on the adding problem"] > 0.14


def test_x13_the_gradient_gets_better_with_longer_chunks_beyond_25():
    got = numbers("X13")
    errors = [got[f"relative error of the gradient, chunks of {k}"] for k in (5, 25, 50, 100, 200)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] > 0.1
    assert errors[-1] == 0.0
    assert got["2000 steps in one piece: norm of dh_T/dx at lag 100"] > 1e-6


def test_x14_recurrent_arrows_are_those_along_time():
    got = numbers("X14")
    assert got["whole: pairs with s < t, with s = t"] == (10, 5)
    assert got["no recurrent weights: the same"] == (0, 5)
    assert got["no feed-forward weights: the same"] == (0, 0)


def test_x15_the_printed_chain_rule_holds_for_the_transposed_matrix():
    got = numbers("X15")
    assert re.search(r"\(3, 8\) and \(3,\)", got["printed, h2 of 3 entries"])
    assert got["printed, h2 of 8 entries: relative error"] > 0.1
    assert got["right, h2 of 8 entries: relative error"] < ROUNDING


def test_there_are_fifteen_errors_and_each_says_what_is_printed_and_what_is_right():
    assert list(errata.ERRATA) == [f"X{k}" for k in range(1, 16)]
    for function in errata.ERRATA.values():
        text = inspect.cleandoc(function.__doc__)
        assert re.search(r"^Printed \(S\d L\d+\): \S.*\n(.+\n)*Right: +\S", text, re.M)


def test_the_command_prints_one_error(capsys):
    assert errata.main(["x2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("X2  Take D at the step whose derivative it is.\n")
    assert "Printed (S2 L139)" in out
    assert "relative error of dh_2/dh_1 with the right D" in out


def test_the_command_prints_all_errors_in_order(capsys, monkeypatch):
    for name in errata.ERRATA:
        numbers(name)  # measured once for all tests
        known = lambda name=name: numbers(name)  # noqa: E731
        known.__doc__ = errata.ERRATA[name].__doc__
        monkeypatch.setitem(errata.ERRATA, name, known)
    assert errata.main([]) == 0
    assert re.findall(r"^X\d+", capsys.readouterr().out, re.M) == list(errata.ERRATA)


def test_an_error_that_is_not_in_the_register_is_refused_with_the_list(capsys):
    with pytest.raises(SystemExit) as stopped:
        errata.main(["X16"])
    assert stopped.value.code == 2
    assert "no error is named X16; there are X1, X2" in capsys.readouterr().err
