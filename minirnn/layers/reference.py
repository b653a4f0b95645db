"""The reference: a cell's equations on Tensors, one step at a time, without any kernel.

It is the oracle of the conformance tests, the path for derivatives of derivatives, and what layers
run where the JIT is switched off.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np

from minirnn.engine import Tensor, stack, where
from minirnn.layers.direction import Direction

_forced: ContextVar[bool] = ContextVar("minirnn_use_reference", default=False)


@contextlib.contextmanager
def use_reference() -> Iterator[None]:
    """Make recurrent layers run the reference inside this block: a context manager.

    The same equations, operation by operation on the tape, without a kernel: what kernels are
    tested against, and a way to run a cell once without compiling it.
    """
    token = _forced.set(True)
    try:
        yield
    finally:
        _forced.reset(token)


def forced() -> bool:
    """Whether layers are told to run the reference."""
    return _forced.get()


class Block:
    """Block k of the recurrent matrix: ``block @ v`` is ``v U_k^T + b_k``.  weight: (H, H)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.transposed, self.bias = weight.transpose(0, 1), bias

    def __matmul__(self, v: Any) -> Tensor:
        product = v @ self.transposed
        return product if self.bias is None else product + self.bias


def blocks(run: Direction) -> dict[str, Block]:
    """Return the blocks of the recurrent matrix by name."""
    size, weight = run.hidden_size, run.parameters["weight_hh"]
    mask = run.upper_mask()
    if mask is not None:
        weight = weight * mask
    bias = run.parameters.get("bias_hh")
    made = {}
    for i, name in enumerate(run.cell.products):
        b = None
        if bias is not None and name in run.cell.biased:
            at = run.cell.biased.index(name) * size
            b = bias[at : at + size]
        made[name] = Block(weight[i * size : (i + 1) * size], b)
    return made


def read(run: Direction) -> Tensor:
    """Return x in processing order, (T, B, I); padding counts as zeros."""
    x, lengths = run.x, run.lengths
    if lengths is not None:  # before anything else touches it: the padding may hold NaN
        alive = (np.arange(x.shape[0])[:, None] < lengths)[:, :, None]
        x = where(np.broadcast_to(alive, x.shape), x, np.zeros((), run.dtype))
    return in_processing_order(run, x)


def project(run: Direction) -> Tensor:
    """Return ``W x_t + b_ih`` in processing order, (T, B, G*H); padding counts as zeros."""
    wx = read(run) @ run.parameters["weight_ih"].transpose(0, 1)
    bias = run.parameters.get("bias_ih")
    return wx if bias is None else wx + bias


def in_processing_order(run: Direction, sequence: Tensor) -> Tensor:
    """Return a sequence (T, B, C) that lies like x in the order in which it is processed."""
    order = run.processing_order()
    if order is None:
        return sequence
    return sequence.reshape(-1, sequence.shape[2])[order]


def vectors(run: Direction) -> SimpleNamespace:
    """Return what the equations read as ``p``."""
    named = {n: run.parameters[f"vector_{n}"] for n in run.cell.vectors}
    return SimpleNamespace(**named, **run.constants())


def run_reference(run: Direction) -> tuple[Tensor, ...]:
    """Run a direction: the output (T, B, H) in the order of x, then the final states (B, H).

    For a cell that reads the level below, its other states after every step (T, B, H) follow.
    """
    cell, size = run.cell, run.hidden_size
    steps, batch = run.x.shape[:2]
    if steps == 0 or batch == 0:
        empty = (run.x.sum() + sum(p.sum() for p in run.parameters.values())) * 0.0
        output = Tensor(np.zeros((steps, batch, size), run.dtype))
        output = output + empty if steps else output
        return (output, *(s + empty for s in run.state), *(output for _ in run.sequences))
    wx = project(run)
    u = SimpleNamespace(**blocks(run))
    p = vectors(run)
    below = [in_processing_order(run, s) for s in run.below]
    state = run.state
    kept: list[list[Tensor]] = [[] for _ in (cell.state[0], *run.sequences)]
    for t in range(steps):
        row = wx[t]
        gates = {k: row[:, i * size : (i + 1) * size] for i, k in enumerate(cell.gates)}
        prev = SimpleNamespace(**dict(zip(cell.state, state, strict=True)))
        under = SimpleNamespace(**{k: s[t] for k, s in zip(cell.state, below, strict=False)})
        new = cell(SimpleNamespace(**gates), u, prev, p=p, t=run.start + t, below=under)
        new = tuple(_full(v, state[0]) for v in new)
        if run.lengths is not None:
            alive = np.broadcast_to((t < run.lengths)[:, None], (batch, size))
            zero = np.zeros((), run.dtype)
            for rows, value in zip(kept, new, strict=False):
                rows.append(where(alive, value, zero))
            state = tuple(where(alive, a, b) for a, b in zip(new, state, strict=True))
        else:
            for rows, value in zip(kept, new, strict=False):
                rows.append(value)
            state = new
    # The order is its own inverse.
    output, *others = (in_processing_order(run, stack(rows, dim=0)) for rows in kept)
    return (output, *state, *others)


def _full(value: Any, like: Tensor) -> Tensor:
    """Give a state that the equations set to a number, or to a vector, its full shape."""
    if isinstance(value, Tensor) and value.shape == like.shape:
        return value
    return value + like.detach() * 0.0
