"""Derivatives as functions: grad, jvp, hvp."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.engine import tape
from minirnn.engine.tensor import Tensor, check_gradient, seed


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of ``outputs`` with respect to ``inputs``, always a tuple of Tensors.

    Parameters
    ----------
    outputs, inputs
        A Tensor, or a sequence of them. Inputs may be leaves or results.
    grad_outputs
        One gradient per output, of its shape; None where the output is one number.
    create_graph
        Make the gradients part of a graph, so that they can be differentiated again.
    retain_graph
        Keep the tape for another backward (None: as ``create_graph``).
    allow_unused
        Give None for an input that no output depends on, instead of an error.
    """
    outs, ins = _tuple(outputs), _tuple(inputs)
    given = (None,) * len(outs) if grad_outputs is None else _tuple(grad_outputs)
    if len(given) != len(outs):
        raise ValueError(
            f"grad: grad_outputs must hold one entry per output, {len(outs)}, got {len(given)}; "
            f"None stands for 1"
        )
    for name, tensors in (("outputs", outs), ("inputs", ins)):
        for i, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise TypeError(f"grad: {name}[{i}] must be a Tensor, got {type(t).__name__}")
            if not t.requires_grad:
                raise RuntimeError(
                    f"grad: {name}[{i}] does not require grad; set requires_grad=True before the "
                    f"forward, and leave no_grad"
                )
    douts: list[Any] = [
        seed(out, dout, "grad", f"grad_outputs[{i}]")
        for i, (out, dout) in enumerate(zip(outs, given, strict=True))
    ]
    if create_graph:
        douts = [
            d if isinstance(d, Tensor) else tape.constant(seed_array)
            for d, seed_array in zip(given, douts, strict=True)
        ]
    keep = create_graph if retain_graph is None else retain_graph
    mode = tape.enable_grad if create_graph else tape.no_grad
    with mode():
        found = tape.pull(outs, douts, ins, retain_graph=keep, create_graph=create_graph)
    return tuple(_result(found.get(t), i, t, create_graph, allow_unused) for i, t in enumerate(ins))


def _result(d: Any, i: int, t: Tensor, create_graph: bool, allow_unused: bool) -> Tensor | None:
    if d is None:
        if allow_unused:
            return None
        raise RuntimeError(
            f"grad: inputs[{i}] (shape {t.shape}) was not used to compute the outputs; pass "
            f"allow_unused=True to get None for it"
        )
    check_gradient(t, d)
    return d if create_graph else tape.constant(np.array(d))


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
