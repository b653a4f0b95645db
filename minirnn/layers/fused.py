"""A direction run by the fused kernels, as one node of the tape."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor, is_grad_enabled, record
from minirnn.kernels.backward import Gradients, backward
from minirnn.kernels.cellkernel import CellKernel, Packed, cell_kernel
from minirnn.kernels.forward import Run
from minirnn.kernels.rows import arrange
from minirnn.layers.direction import Direction
from minirnn.layers.reference import run_reference


class PackedWeights:
    """Packed weights of one direction, made again when a parameter has been written to."""

    def __init__(self) -> None:
        self._key: Any = None
        self._packed: Packed | None = None

    def get(self, run: Direction) -> Packed:
        """Return the direction's weights for the kernels."""
        key = tuple((id(p._data), p.version) for p in run.parameters.values())
        if self._packed is None or key != self._key:
            self._packed, self._key = _pack(run), key
        return self._packed


def _pack(run: Direction) -> Packed:
    arrays = {n: p._data for n, p in run.parameters.items()}
    bias_hh = arrays.get("bias_hh")
    if bias_hh is not None and run.cell.unbiased:
        size = run.hidden_size
        full = np.zeros(len(run.cell.products) * size, run.dtype)
        for i, name in enumerate(run.cell.products):
            if name in run.cell.biased:
                at = run.cell.biased.index(name) * size
                full[i * size : (i + 1) * size] = bias_hh[at : at + size]
        bias_hh = full
    vectors = {n: arrays[f"vector_{n}"] for n in run.cell.vectors} | run.constants()
    mask = run.upper_mask()
    weight_hh = arrays["weight_hh"] if mask is None else arrays["weight_hh"] * mask
    return Packed(arrays["weight_ih"], weight_hh, arrays.get("bias_ih"), bias_hh, vectors)


def start_run(run: Direction, packed: Packed, keep: bool) -> Run:
    """Run the forward pass."""
    kernel: CellKernel = cell_kernel(run.cell, run.dtype.name, run.hidden_size)
    rows = arrange(run.x.shape[0], run.x.shape[1], run.lengths, run.reverse)
    state = {k: s._data for k, s in zip(run.cell.state, run.state, strict=True)}
    below = {k: s._data for k, s in zip(run.cell.state, run.below, strict=False)}
    return Run(kernel, packed, run.x._data, state, rows, keep, run.start, below)


def run_fused(run: Direction, weights: PackedWeights, view: Any = None) -> tuple[Tensor, ...]:
    """Run a direction: the output (T, B, H) in the order of x, then the final states (B, H).

    For a cell that reads the level below, its other states after every step (T, B, H) follow.
    view: a `minirnn.layers.views.FusedView` that is told of the passes, or None.
    """
    needs = is_grad_enabled() and any(t.requires_grad for t in run.inputs)
    made = start_run(run, weights.get(run), keep=needs or view is not None)
    if view is not None:
        view.attach(made)
    cell = run.cell
    outputs = [made.output(cell.state[0])]
    outputs += [made.final(k, s._data) for k, s in zip(cell.state, run.state, strict=True)]
    outputs += [made.output(k) for k in run.sequences]
    if not needs:
        return record(outputs, run.inputs, _no_vjp, name=cell.name)
    wants_x = run.x.requires_grad
    wants_weights = any(p.requires_grad for p in run.parameters.values())
    names = list(run.parameters)

    def vjp(d_output: Any, *others: Any) -> list[Any]:
        final = {k: d for k, d in zip(cell.state, others, strict=False) if d is not None}
        sequences = zip((cell.state[0], *run.sequences), (d_output, *others[len(cell.state) :]),
                        strict=True)  # fmt: skip
        outside = {k: d for k, d in sequences if d is not None}
        got = backward(
            made, outside, final, weights=wants_weights, input=wants_x, watch=view is not None
        )
        if view is not None:
            view.tell(got, final)
        else:
            got.lease.release()
        states = [got.state[k] for k in cell.state]
        under = [got.below[k] for k, _ in zip(cell.state, run.below, strict=False)]
        return [got.x, *states, *under, *(_gradient(run, got, n) for n in names)]

    def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
        return run_reference(run.with_inputs(inputs))

    return record(outputs, run.inputs, vjp, replay=replay, name=cell.name)


def _no_vjp(*_: Any) -> list[Any]:
    return []


def _gradient(run: Direction, got: Gradients, name: str) -> np.ndarray | None:
    """Return the gradient of a parameter by its name."""
    if name.startswith("vector_"):
        return got.vectors.get(name.removeprefix("vector_"))
    value: np.ndarray | None = getattr(got, name)
    if name == "weight_hh" and value is not None and (mask := run.upper_mask()) is not None:
        return value * mask
    if name == "bias_hh" and value is not None and run.cell.unbiased:
        kept = [i for i, k in enumerate(run.cell.products) if k in run.cell.biased]
        value = value.reshape(-1, run.hidden_size)[kept].reshape(-1)
    return value
