"""A direction run by the fused kernels, as one node of the tape."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor, is_grad_enabled, record
from minirnn.kernels.backward import Gradients, backward
from minirnn.kernels.cellkernel import CellKernel, Packed, cell_kernel
from minirnn.kernels.fold import Fold, table_of
from minirnn.kernels.forward import Run
from minirnn.kernels.frame import CONSUME, RECORD, WATCH
from minirnn.kernels.rows import arrange
from minirnn.layers.direction import Direction
from minirnn.layers.packed import PackedWeights, recurrent_bias, same, stamp
from minirnn.layers.tangent import TangentRun, gradient_on_tape


def start_run(run: Direction, packed: Packed, keep: bool) -> Run:
    """Run the forward pass."""
    kernel: CellKernel = cell_kernel(run.cell, run.dtype, run.hidden_size)
    rows = arrange(*run.shape, run.lengths, run.reverse)
    state = {k: s._data for k, s in zip(run.cell.state, run.state, strict=True)}
    below = {k: s._data for k, s in zip(run.cell.state, run.below, strict=False)}
    x = run.x._data if run.ids is None else _fold(run, kernel, packed)
    return Run(kernel, packed, x, state, rows, keep, run.start, below)


def _fold(run: Direction, kernel: CellKernel, packed: Packed) -> Fold:
    """Return a fold with the table of these weights, made anew when the embedding was written."""
    assert run.ids is not None
    key, known = stamp([run.x]), packed.parts.get("fold")
    if known is None or not same(key, known[0]):
        known = packed.parts["fold"] = (key, table_of(kernel, packed, run.x._data))
    return Fold(run.x._data, run.ids, known[1])


def run_fused(run: Direction, weights: PackedWeights, view: Any = None) -> tuple[Tensor, ...]:
    """Run a direction: the output (T, B, H) in the order of x, then the final states (B, H).

    For a cell that reads the level below, its other states after every step (T, B, H) follow.
    view: a `minirnn.layers.views.FusedView` that is told of the passes, or None.
    """
    inputs = run.inputs
    needs = is_grad_enabled() and any([t.requires_grad for t in inputs])
    made = start_run(run, weights.get(run), keep=needs or view is not None)
    if view is not None:
        view.attach(made)
    cell = run.cell
    outputs = [made.output(cell.state[0])]
    outputs += [made.final(k, s._data) for k, s in zip(cell.state, run.state, strict=True)]
    outputs += [made.output(k) for k in run.sequences]
    if not needs:
        return record(outputs, inputs, _no_vjp, name=cell.name)
    wants_x = run.x.requires_grad
    wants_weights = any(p.requires_grad for p in run.parameters.values())
    names = list(run.parameters)

    def vjp(*douts: Any) -> list[Any]:
        graph = any(isinstance(d, Tensor) for d in douts)  # create_graph
        d_output, *others = [d._data if isinstance(d, Tensor) else d for d in douts]
        final = {k: d for k, d in zip(cell.state, others, strict=False) if d is not None}
        sequences = zip((cell.state[0], *run.sequences), (d_output, *others[len(cell.state) :]),
                        strict=True)  # fmt: skip
        outside = {k: d for k, d in sequences if d is not None}
        got = backward(
            made,
            outside,
            final,
            weights=wants_weights,
            input=wants_x,
            mode=CONSUME if view is None else WATCH if view.keep else RECORD,
        )
        states = [got.state[k] for k in cell.state]
        under = [got.below[k] for k, _ in zip(cell.state, run.below, strict=False)]
        gradients = [got.x, *states, *under, *(_gradient(run, got, n) for n in names)]
        if view is not None:
            view.tell(got, final)
        else:
            got.release()
        return gradient_on_tape(run, gradients, douts) if graph else gradients

    def jvp(*tangents: np.ndarray | None) -> list[np.ndarray]:
        moves = list(tangents)
        if run.ids is not None and moves[0] is not None:
            moves[0] = moves[0][run.ids]
        return TangentRun(run.unfolded(), moves, keep=False).tangents()

    def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
        return run_fused(run.with_inputs(inputs).unfolded(), weights)

    again = None if run.ids is None else replay
    return record(outputs, inputs, vjp, jvp, again, cell.name, fresh=True)


def _no_vjp(*_: Any) -> list[Any]:
    return []


def _gradient(run: Direction, got: Gradients, name: str) -> np.ndarray | None:
    """Return the gradient of a parameter by its name."""
    if name.startswith("vector_"):
        return got.vectors.get(name.removeprefix("vector_"))
    value: np.ndarray | None = getattr(got, name)
    if name == "weight_hh" and value is not None and (mask := run.upper_mask()) is not None:
        return value * mask
    if name == "bias_hh" and value is not None:
        return recurrent_bias(run, value)
    return value
