"""The registry of cells: names and shapes that others rely on, and counts of parameters."""

import importlib
import pickle

import numpy as np
import pytest

import minirnn
from minirnn import cells
from minirnn.equations.plan import plan
from tests import naive_steps

GAINS = "gain_i gain_f gain_g gain_o gain_c shift_i shift_f shift_g shift_o shift_c"
GRU_GAINS = "gain_r gain_z gain_xn gain_hn shift_r shift_z shift_xn shift_hn"
FROM_GATES = "i_i i_o g_i g_o o_i o_o"
FGR = "i_i i_f i_o f_i f_f f_o o_i o_f o_o"
# name: gates, states, vectors, blocks ("" for the gates), unbiased blocks, stages, products.
# They decide state_dict, the tuples of states and the names that watch shows.
TABLE = {
    "rnn": ("h", "h", "", "", "", 1, 1),
    "rnn_relu": ("h", "h", "", "", "", 1, 1),
    "rnn_logistic": ("h", "h", "", "", "", 1, 1),
    "elman": ("h", "y h", "", "h y", "", 2, 2),
    "jordan": ("h", "y", "", "h y", "", 2, 2),
    "lstm": ("i f g o", "h c", "", "", "", 1, 1),
    "lstm_peephole": ("i f g o", "h c", "p_i p_f p_o", "", "", 1, 1),
    "lstm_cifg": ("f g o", "h c", "", "", "", 1, 1),
    "lstm_1997": ("i g o", "h c i o", "", f"i g o {FROM_GATES}", FROM_GATES, 1, 3),
    "lstm_1997_truncated": ("i g o", "h c i o", "", f"i g o {FROM_GATES}", FROM_GATES, 1, 3),
    "gru": ("r z n", "h", "", "", "", 1, 1),
    "gru_write": ("r z n", "h", "", "", "", 1, 1),
    "gru_before": ("r z n", "h", "", "", "", 2, 2),
    "gru_before_write": ("r z n", "h", "", "", "", 2, 2),
    "gru_none": ("r z n", "h", "", "", "", 1, 1),
    "gru_none_write": ("r z n", "h", "", "", "", 1, 1),
    "greff_v": ("i f g o", "h c", "p_i p_f p_o", "", "", 1, 1),
    "greff_nig": ("f g o", "h c", "p_f p_o", "", "", 1, 1),
    "greff_nfg": ("i g o", "h c", "p_i p_o", "", "", 1, 1),
    "greff_nog": ("i f g", "h c", "p_i p_f", "", "", 1, 1),
    "greff_niaf": ("i f g o", "h c", "p_i p_f p_o", "", "", 1, 1),
    "greff_noaf": ("i f g o", "h c", "p_i p_f p_o", "", "", 1, 1),
    "greff_np": ("i f g o", "h c", "", "", "", 1, 1),
    "greff_cifg": ("i g o", "h c", "p_i p_o", "", "", 1, 1),
    "greff_fgr": ("i f g o", "h c i f o", "p_i p_f p_o", f"i f g o {FGR}", FGR, 1, 4),
    "depth_gated": ("i f g o d", "h c", "w_c w_l", "i f g o", "", 1, 1),
    "clockwork": ("h", "h", "", "", "", 1, 1),
    "mgu": ("f n", "h", "", "", "", 2, 2),
    "mut1": ("r z n", "h", "", "r n", "", 2, 2),
    "mut2": ("r z n", "h", "", "", "", 2, 2),
    "mut3": ("r z n", "h", "", "", "", 2, 3),
    "ligru": ("z n", "h", "", "", "", 1, 1),
    "lstm_layernorm": ("i f g o", "h c", GAINS, "", "", 5, 1),
    "gru_layernorm": ("r z n", "h", GRU_GAINS, "", "", 3, 1),
}


def test_the_registry_has_the_cells_of_the_table():
    assert set(TABLE) <= set(cells.names())
    assert len(set(cells.names())) == len(cells.names())


def test_every_cell_of_the_table_has_a_hand_written_step():
    assert set(TABLE) <= set(naive_steps.STEPS)


@pytest.mark.parametrize("name", TABLE)
def test_names_of_a_cell_are_those_that_others_rely_on(name):
    gates, states, vectors, blocks, unbiased, _, _ = TABLE[name]
    c = cells.get(name)
    assert c.name == name
    assert c.gates == tuple(gates.split())
    assert c.state == tuple(states.split())
    assert c.vectors == tuple(vectors.split())
    assert c.products == tuple((blocks or gates).split())
    assert c.unbiased == tuple(unbiased.split())


@pytest.mark.parametrize("name", TABLE)
def test_a_cell_has_the_stages_and_products_of_its_equations(name):
    *_, stages, products = TABLE[name]
    made = plan(cells.get(name))
    assert len(made.forward) == stages
    assert len(made.groups) == products


def test_clockwork_has_four_periods_and_one_triangular_block():
    c = cells.get("clockwork")
    assert c.constants == {"period": (1, 2, 4, 8)} and c.upper == ("h",)


def test_a_layer_norm_begins_as_the_norm_alone():
    for name in ("lstm_layernorm", "gru_layernorm"):
        layer = minirnn.Recurrent(name, 3, 5, seed=0)
        for key, value in layer.named_parameters():
            if key.startswith("vector_"):
                assert (value.numpy() == (1 if "gain" in key else 0)).all()


@pytest.mark.parametrize("name", TABLE)
def test_a_cell_of_the_registry_survives_pickling(name):
    assert pickle.loads(pickle.dumps(cells.get(name))) is cells.get(name)


def test_every_file_of_equations_names_its_source():
    """A paper with its year, and whether the equations were seen or remembered."""
    for file in cells._FILES:
        text = importlib.import_module(f"minirnn.cells.{file}").__doc__
        assert any(f"({year})" in text for year in range(1980, 2030)), file
        assert "from memory" in text or "equation (" in text, file


# ---- counts -------------------------------------------------------------------------------------
# N units, d inputs; the notes' formulas have one bias a gate. A Jordan or Elman network has a
# readout of M units, here M = N. bias: none, one a name, and as Recurrent holds them.
FORMULAS = {
    "rnn": lambda N, d: (N * d + N * N, N, 2 * N),
    "elman": lambda N, d: (N * d + N * N + N * N, 2 * N, 3 * N),
    "lstm": lambda N, d: (4 * (N * d + N * N), 4 * N, 8 * N),
    "lstm_peephole": lambda N, d: (4 * (N * d + N * N) + 3 * N, 4 * N, 8 * N),
    "lstm_cifg": lambda N, d: (3 * (N * d + N * N), 3 * N, 6 * N),
    "lstm_1997": lambda N, d: (3 * (N * d + 3 * N * N), 3 * N, 6 * N),
    "gru": lambda N, d: (3 * (N * d + N * N), 3 * N, 6 * N),
    "greff_nig": lambda N, d: (3 * (N * d + N * N) + 2 * N, 3 * N, 6 * N),
    "greff_fgr": lambda N, d: (4 * (N * d + N * N) + 9 * N * N + 3 * N, 4 * N, 8 * N),
    "depth_gated": lambda N, d: (5 * N * d + 4 * N * N + 2 * N, 5 * N, 9 * N),
    "mgu": lambda N, d: (2 * (N * d + N * N), 2 * N, 4 * N),
    "mut1": lambda N, d: (3 * N * d + 2 * N * N, 3 * N, 5 * N),
    "lstm_layernorm": lambda N, d: (4 * (N * d + N * N) + 10 * N, 4 * N, 8 * N),
    "gru_layernorm": lambda N, d: (3 * (N * d + N * N) + 8 * N, 3 * N, 6 * N),
}
SAME_COUNT = {
    "rnn": ("rnn_relu", "rnn_logistic"),
    "elman": ("jordan",),
    "lstm": ("greff_np",),
    "lstm_peephole": ("greff_v", "greff_niaf", "greff_noaf"),
    "lstm_1997": ("lstm_1997_truncated",),
    "gru": (
        "gru_write", "gru_before", "gru_before_write", "gru_none", "gru_none_write", "mut2", "mut3",
    ),
    "greff_nig": ("greff_nfg", "greff_nog", "greff_cifg"),
    "mgu": ("ligru",),
}  # fmt: skip
COUNTS = FORMULAS | {name: FORMULAS[like] for like, names in SAME_COUNT.items() for name in names}


@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (3, 8), (17, 5), (64, 128)])
@pytest.mark.parametrize("name", [name for name in TABLE if name != "clockwork"])
def test_parameters_are_counted_by_the_formulas_of_the_papers(name, inputs, units):
    weights, once, twice = COUNTS[name](units, inputs)
    c = cells.get(name)
    assert c.num_params(inputs, units, bias=0) == weights
    assert c.num_params(inputs, units, bias=1) == weights + once
    assert c.num_params(inputs, units, bias=2) == weights + twice
    assert c.num_params(inputs, units) == weights + twice


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_recurrent_matrix_of_clockwork_has_the_entries_of_its_triangle(k):
    """Four modules of k units: k^2 g (g + 1) / 2 with g = 4."""
    c = cells.get("clockwork")
    assert c.num_params(3, 4 * k, bias=0) == 4 * k * 3 + k * k * 10
    assert c.num_params(3, 4 * k, bias=1) == 4 * k * 3 + k * k * 10 + 4 * k
    assert c.num_params(3, 4 * k) == 4 * k * 3 + k * k * 10 + 8 * k
    entries = minirnn.Recurrent("clockwork", 3, 4 * k, seed=0).weight_hh_l0.numpy()
    assert np.count_nonzero(entries) == k * k * 10


# Experiments of Hochreiter and Schmidhuber (1997): the number of weights that the paper prints.
HS97 = {
    "1, four blocks": (264, dict(n_in=7, n_out=7, blocks=4, cells=1, biases="gates")),
    "1, blocks of two": (276, dict(n_in=7, n_out=7, blocks=3, cells=2, biases="gates")),
    "2c, p = 50": (364, dict(n_in=54, n_out=2, blocks=2, cells=1, biases="none")),
    "2c, p = 1000": (6064, dict(n_in=1004, n_out=2, blocks=2, cells=1, biases="none")),
    "3": (102, dict(n_in=1, n_out=1, blocks=3, cells=1, biases="hidden")),
    "4 and 5": (93, dict(n_in=2, n_out=1, blocks=2, cells=2)),
    "6a": (156, dict(n_in=8, n_out=4, blocks=2, cells=2)),
    "6b": (308, dict(n_in=8, n_out=8, blocks=3, cells=2)),
}


@pytest.mark.parametrize("experiment", HS97)
def test_hs97_count_gives_the_weights_of_the_papers_tables(experiment):
    printed, network = HS97[experiment]
    assert cells.hs97_count(**network) == printed


def test_without_output_gates_a_block_has_one_unit_less():
    # One input, one output, one cell, one input gate: 2 * (1 + 2) + 1, biases 2 + 1.
    assert cells.hs97_count(1, 1, 1, 1, out_gates=False) == 10


def test_one_cell_a_block_counts_as_the_hidden_layer_of_lstm_1997():
    """The cell of the registry is the network without output units, all hidden units biased."""
    for inputs, units in ((3, 8), (7, 4)):
        network = cells.hs97_count(inputs, 1, units, 1, biases="hidden")
        assert network - units == cells.get("lstm_1997").num_params(inputs, units, bias=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(n_in=0), "n_in must be at least 1, got 0"),
        (dict(biases="some"), "biases must be one of all, hidden, gates, none, got 'some'"),
    ],
)
def test_hs97_count_refuses_what_is_no_network(arguments, message):
    with pytest.raises(ValueError, match=message):
        cells.hs97_count(**{"n_in": 1, "n_out": 1, "blocks": 1, "cells": 1} | arguments)
