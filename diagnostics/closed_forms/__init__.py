"""Networks and maps whose numbers are known on paper, and what the diagnostics say of them.

One function per row of the tables of closed forms; `outcomes` runs them all. What differs by more
than the row's own mathematics allows is a miss.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from diagnostics.closed_forms import (
    exponents,
    gates,
    invariance,
    losses,
    maps,
    matrices,
    range_of_floats,
)
from diagnostics.closed_forms.outcome import Outcome

__all__ = ["ROWS", "Outcome", "outcomes"]

GRADIENTS, EXPONENTS = "gradient flow", "Lyapunov exponents"
# Table -> its rows, in the words of the tables -> what computes them.
ROWS = {
    GRADIENTS: {
        "orthogonal matrix": matrices.orthogonal_matrix,
        "normal matrix": matrices.normal_matrix,
        "permutation, Householder, rotation": matrices.isometries,
        "rho times orthogonal": matrices.scaled_orthogonal_matrix,
        "non-normal matrix": matrices.skewed_matrix,
        "Jordan block": matrices.jordan_block,
        "LSTM without recurrent weights": gates.lstm_forgets,
        "LSTM at the zero fixed point": gates.lstm_fixed_point,
        "GRU at the zero fixed point": gates.gru_fixed_point,
        "GRU without recurrent weights": gates.gru_keeps,
        "ReLU with positive weights": matrices.positive_relu,
        "identity ReLU network": matrices.identity_relu,
        "a loss at every step": losses.loss_at_every_step,
        "TBPTT of a linear scalar": losses.truncation_of_a_scalar,
        "TBPTT of any cell": losses.truncation_of_any_cell,
        "clipping by norm": losses.clipping_by_norm,
        "clipping inside the graph": losses.clipping_inside_the_graph,
        "scale of the loss": invariance.scaled_loss,
        "steps after the last loss, padding": invariance.steps_after_the_last_loss,
        "permuted and duplicated batch": invariance.batch_order,
        "range of float32": range_of_floats.powers_of_a_half,
    },
    EXPONENTS: {
        "constant matrix": exponents.constant_matrix,
        "orthogonal": exponents.orthogonal_exponents,
        "cat map": maps.cat_map,
        "logistic map": maps.logistic_map,
        "Henon map": maps.henon_map,
        "products of random matrices": exponents.random_matrices,
        "sum of all exponents": exponents.log_determinant,
        "scalar tanh": exponents.scalar_tanh,
        "tanh network without input": exponents.contracting_tanh,
        "LSTM and GRU at the zero fixed point": exponents.gated_fixed_points,
        "LSTM with its cell state left out": exponents.cell_state_counts,
        "the first k of all": exponents.fewer_exponents,
        "QR every q steps": exponents.rarer_decompositions,
        "coverage of the intervals": exponents.intervals_hold_the_truth,
    },
}


def outcomes(seed: int = 0) -> Iterator[Outcome]:
    """Run every row of both tables."""
    for number, (table, rows) in enumerate(ROWS.items()):
        for index, (row, run) in enumerate(rows.items()):
            for outcome in run(np.random.default_rng([seed, number, index])):
                yield replace(outcome, row=f"{table}: {row}")
