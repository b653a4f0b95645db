"""An embedding folded into the weights of the layer that reads it.

The product of W_ih with one of V embeddings is one of V rows: they are computed once, picked by id
in the forward pass, and in the backward pass their gradients are summed by id before the products
that give dW_ih and the gradient of the embedding. Three of the six large products of a training
step become copies and sums.
"""

from dataclasses import dataclass

import numpy as np

from minirnn.kernels import dense, product
from minirnn.kernels.cellkernel import CellKernel, Packed


@dataclass(frozen=True)
class Fold:
    """What stands for the input of a pass.

    embedding: (V, I); ids: int64, (T, B), or of the internal rows (count,); table: (V, columns),
    ``W_ih embedding + b_ih`` in the order of the gates' buffers.
    """

    embedding: np.ndarray
    ids: np.ndarray
    table: np.ndarray


def table_of(kernel: CellKernel, weights: Packed, embedding: np.ndarray) -> np.ndarray:
    """Return the table of a `Fold`, (V, columns)."""
    return dense.apply(embedding, kernel.input_panels(weights), len(kernel.segment_columns))


def close(
    kernel: CellKernel, weights: Packed, fold: Fold, out: dict[str, np.ndarray],
    scratch: np.ndarray, want_weights: bool, want_input: bool,
) -> None:  # fmt: skip
    """Write the gradients of W_ih, of its bias and of the embedding from that of the table.

    out: "table": gradient of the table, (V, columns); "x" (V, I), "weight_ih" and "bias_ih.<s>" for
    every segment: what is written, rows and columns rounded up to whole vectors. scratch:
    (threads, bytes).
    """
    table, embedding, name = out["table"], fold.embedding, kernel.dtype.name
    inputs, jobs, kept = embedding.shape[1], [], []
    if want_input:
        panels = kernel.input_rows(weights)
        jobs.append(product.rows_job(name, table, table.shape[1], panels, inputs, out["x"]))
    if want_weights:
        first = 0
        for s, names in enumerate(kernel.plan.segments):
            last = first + len(names) * kernel.padded
            places = np.array([kernel.cell.gates.index(n) for n in names], np.int64)
            kept.append(places)
            jobs.append(product.transposed_job(
                name, table[:, first:last], len(names), places, embedding, inputs,
                out["weight_ih"], sums=out[f"bias_ih.{s}"], units=kernel.hidden,
            ))  # fmt: skip
            first = last
    dense.run(jobs, 2.0 * table.size * inputs * len(jobs), scratch)
