"""Fused derivatives beyond the gradient: tangents of a run, and derivatives of its gradients."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor, grad, record
from minirnn.equations.tangent import MOVED, tangent_cell
from minirnn.kernels.backward import backward
from minirnn.kernels.cellkernel import Packed, cell_kernel
from minirnn.kernels.forward import Run
from minirnn.kernels.rows import arrange
from minirnn.layers.direction import Direction
from minirnn.layers.packed import recurrent_bias
from minirnn.layers.reference import run_reference

Array = np.ndarray


class TangentRun:
    """Values and tangents of a run, computed together by the kernels of the tangent cell.

    tangents: one array or None (it stands still) for each of ``run.inputs``.
    """

    def __init__(self, run: Direction, tangents: list[Array | None], keep: bool) -> None:
        self.run = run
        zeros = [np.zeros_like(t._data) if d is None else d for t, d in
                 zip(run.inputs, tangents, strict=True)]  # fmt: skip
        self.moves = run.with_inputs([Tensor(np.ascontiguousarray(d)) for d in zeros])
        first = 1 + len(run.state) + len(run.below)
        self.weights = any(d is not None for d in tangents[first:])
        cell = tangent_cell(run.cell, self.weights)
        rows = arrange(run.x.shape[0], run.x.shape[1], run.lengths, run.reverse)
        both = (run, self.moves)
        states = [s._data for r in both for s in r.state]
        below = [s._data for r in both for s in r.below]
        self.made = Run(
            cell_kernel(cell, run.dtype, run.hidden_size), self._packed(),
            np.concatenate([run.x._data, self.moves.x._data], axis=2),
            dict(zip(cell.state, states, strict=True)), rows, keep, run.start,
            dict(zip(cell.state, below, strict=False)),
        )  # fmt: skip

    def _packed(self) -> Packed:
        """Stack the weights: [[W, 0], [W', W]] for the inputs, [U; U; U'] for the products."""
        run, moves = self.run, self.moves
        w, dw = run.parameters["weight_ih"]._data, moves.parameters["weight_ih"]._data
        weight_ih = np.block([[w, np.zeros_like(w)], [dw, w]])
        mask = run.upper_mask()
        u, du = (
            r.parameters["weight_hh"]._data * (1 if mask is None else mask) for r in (run, moves)
        )
        weight_hh = np.concatenate([u, u, du] if self.weights else [u, u])
        bias_ih = bias_hh = None
        if "bias_ih" in run.parameters:
            bias_ih = np.concatenate([r.parameters["bias_ih"]._data for r in (run, moves)])
            b, db = (recurrent_bias(r) for r in (run, moves))
            bias_hh = np.concatenate([b, np.zeros_like(b), *([db] if self.weights else [])])
        vectors = {}
        for name in run.cell.vectors:
            vectors[name] = run.parameters[f"vector_{name}"]._data
            if self.weights:
                vectors[name + MOVED] = moves.parameters[f"vector_{name}"]._data
        return Packed(
            np.ascontiguousarray(weight_ih), weight_hh, bias_ih, bias_hh,
            vectors | run.constants(),
        )  # fmt: skip

    def tangents(self) -> list[Array]:
        """Return the tangents of the run's outputs: output, final states, sequences."""
        cell, made = self.run.cell, self.made
        moved = {k: s._data for k, s in zip(cell.state, self.moves.state, strict=True)}
        out = [made.output(cell.state[0] + MOVED)]
        out += [made.final(k + MOVED, moved[k]) for k in cell.state]
        return out + [made.output(k + MOVED) for k in self.run.sequences]

    def gradient_moved(self, douts: list[Array | None]) -> list[Array | None]:
        """Return the derivative by ``run.inputs`` of the sum of douts times the tangents."""
        run, cell = self.run, self.run.cell
        d_output, *others = douts
        final = zip(cell.state, others, strict=False)
        sequences = zip((cell.state[0], *run.sequences), (d_output, *others[len(cell.state) :]),
                        strict=True)  # fmt: skip
        got = backward(
            self.made,
            {k + MOVED: d for k, d in sequences if d is not None},
            {k + MOVED: d for k, d in final if d is not None},
        )
        assert got.x is not None and got.bias_ih is not None and got.bias_hh is not None
        out: list[Any] = [got.x[:, :, : run.x.shape[2]]]
        out += [got.state[k] for k in cell.state]
        out += [got.below[k] for k, _ in zip(cell.state, run.below, strict=False)]
        assert got.weight_ih is not None and got.weight_hh is not None
        gates, inputs = len(cell.gates) * run.hidden_size, run.x.shape[2]
        blocks = len(cell.products) * run.hidden_size
        by_name = {
            "weight_ih": got.weight_ih[:gates, :inputs] + got.weight_ih[gates:, inputs:],
            "weight_hh": got.weight_hh[:blocks] + got.weight_hh[blocks : 2 * blocks],
            "bias_ih": got.bias_ih[:gates],
            "bias_hh": recurrent_bias(run, got.bias_hh[:blocks]),
        }
        mask = run.upper_mask()
        if mask is not None:
            by_name["weight_hh"] = by_name["weight_hh"] * mask
        for name in run.parameters:
            vector = name.removeprefix("vector_")
            out.append(by_name[name] if name in by_name else got.vectors[vector])
        got.release()
        return out


def gradient_on_tape(
    run: Direction, gradients: list[Array | None], douts: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Put the gradients of a run on the tape, as a node of its inputs and of the cotangents.

    The derivative of that node is a `TangentRun`; the derivative of that one goes by the reference.
    gradients: one array or None for each of ``run.inputs``.
    """
    kept = [i for i, g in enumerate(gradients) if g is not None and run.inputs[i].requires_grad]
    given = [i for i, d in enumerate(douts) if d is not None]
    count = len(run.inputs)

    def vjp(*cotangents: Any) -> list[Array | None]:
        moves: list[Array | None] = [None] * count
        for i, w in zip(kept, cotangents, strict=True):
            moves[i] = w
        moving = TangentRun(run, moves, keep=True)
        plain = [None if d is None else d._data for d in douts]
        inputs = moving.gradient_moved(plain)
        tangents = moving.tangents()
        return [*inputs, *(tangents[i] for i in given)]

    def replay(*parents: Tensor) -> tuple[Tensor, ...]:
        outputs = run_reference(run.with_inputs(parents[:count]))
        cotangents = parents[count:]
        found = grad(
            [outputs[i] for i in given], [parents[i] for i in kept], list(cotangents),
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        return tuple(
            g if g is not None else parents[i] * 0.0 for g, i in zip(found, kept, strict=True)
        )

    parents = [*run.inputs, *(d for d in douts if d is not None)]
    arrays = [g for i, g in enumerate(gradients) if g is not None and i in kept]
    made = record(arrays, parents, vjp, replay=replay, name=f"gradient of {run.cell.name}")
    out: list[Tensor | None] = [None] * count
    for i, tensor in zip(kept, made, strict=True):
        out[i] = tensor
    return out
