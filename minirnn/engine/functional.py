"""Derivatives as functions: grad, jvp, hvp."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minirnn.engine import tape, walk
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
    outs, ins = as_tuple(outputs), as_tuple(inputs)
    given = (None,) * len(outs) if grad_outputs is None else as_tuple(grad_outputs)
    if len(given) != len(outs):
        raise ValueError(
            f"grad: grad_outputs must hold one entry per output, {len(outs)}, got {len(given)}; "
            f"None stands for 1"
        )
    for name, tensors in (("outputs", outs), ("inputs", ins)):
        for i, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise TypeError(
                    f"grad: {name}[{i}] must be a Tensor, got {type(t).__name__}; "
                    f"pass the tensor itself, not its numpy()"
                )
            if not t.requires_grad:
                raise RuntimeError(
                    f"grad: {name}[{i}] does not require grad; set requires_grad=True before the "
                    f"forward, and leave no_grad"
                )
    douts: list[Any] = []
    for i, (out, dout) in enumerate(zip(outs, given, strict=True)):
        array = seed(out, dout, "grad", f"grad_outputs[{i}]")
        if create_graph:
            douts.append(dout if isinstance(dout, Tensor) else tape.constant(array))
        else:
            douts.append(array)
    keep = create_graph if retain_graph is None else retain_graph
    found = walk.pull(outs, douts, ins, retain_graph=keep, create_graph=create_graph)
    return tuple(_result(found.get(t), i, t, allow_unused) for i, t in enumerate(ins))


def _result(d: Any, i: int, t: Tensor, allow_unused: bool) -> Tensor | None:
    """Return one gradient as a Tensor of its own."""
    if d is None:
        if allow_unused:
            return None
        raise RuntimeError(
            f"grad: inputs[{i}] (shape {t.shape}) was not used to compute the outputs; pass "
            f"allow_unused=True to get None for it"
        )
    check_gradient(t, d)
    # A copy: the same array may be the gradient of two inputs.
    return d if isinstance(d, Tensor) else tape.constant(np.array(d))


def jvp(fn: Callable[..., Any], inputs: Any, tangents: Any) -> tuple[Any, Any]:
    """Return ``fn``'s outputs and how they move when the inputs move along ``tangents``.

    The forward is recorded, then tangents are pushed along the tape: a recurrent layer's by its
    own fused rule, that of other operations through their vjp.

    Parameters
    ----------
    fn
        A function of as many of the inputs as it takes; those that it closes over, such as a
        layer's parameters, count by identity.
    inputs
        A Tensor or an array, or a sequence of them.
    tangents
        One per input, of its shape.

    Returns
    -------
    outputs, output_tangents
        Both in the structure that ``fn`` returned, as Tensors without a graph.
    """
    inputs = as_tuple(inputs)
    moves = _directions("jvp", "tangents", inputs, as_tuple(tangents))
    with requiring(inputs) as leaves, tape.enable_grad():
        outputs = call(fn, leaves)
        flat = flatten(outputs)
        found = walk.push(flat, leaves, moves)
    results = iter(
        tape.constant(np.zeros_like(out._data) if move is None else np.array(move))
        for out, move in zip(flat, found, strict=True)
    )
    return _map(lambda out: out.detach(), outputs), _map(lambda out: next(results), outputs)


def hvp(fn: Callable[..., Any], inputs: Any, vectors: Any) -> tuple[np.ndarray, ...]:
    """Return the Hessian of ``fn`` times ``vectors``, one ndarray per input.

    ``fn`` gives one number; it and ``inputs`` are as in `jvp`.
    """
    inputs = as_tuple(inputs)
    directions = _directions("hvp", "vectors", inputs, as_tuple(vectors))
    with requiring(inputs) as leaves, tape.enable_grad():
        y = call(fn, leaves)
        first = grad(y, leaves, create_graph=True, allow_unused=True)
        pairs = [
            (d, v)
            for d, v in zip(first, directions, strict=True)
            if d is not None and d.requires_grad
        ]
        second = walk.pull([d for d, _ in pairs], [v for _, v in pairs], leaves)
    return tuple(
        np.array(second[leaf]) if leaf in second else np.zeros_like(leaf._data) for leaf in leaves
    )


def _directions(
    place: str, name: str, inputs: tuple[Any, ...], vectors: tuple[Any, ...]
) -> list[np.ndarray]:
    """Return one array per input, checked against it."""
    if len(inputs) != len(vectors):
        raise ValueError(
            f"{place}: {name} must hold one array per input, {len(inputs)}, got {len(vectors)}; "
            f"zeros let an input stand still"
        )
    arrays = [v._data if isinstance(v, Tensor) else np.asarray(v) for v in vectors]
    for i, (value, array) in enumerate(zip(inputs, arrays, strict=True)):
        data = value._data if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != data.shape or array.dtype != data.dtype:
            raise ValueError(
                f"{place}: {name}[{i}] must have the shape {data.shape} and dtype {data.dtype} of "
                f"its input, got {array.shape} and {array.dtype}"
            )
    return arrays


@contextmanager
def requiring(inputs: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Make every input a Tensor that requires grad inside this block; Tensors stay themselves."""
    leaves = [t if isinstance(t, Tensor) else Tensor(t) for t in inputs]
    before = [leaf.requires_grad for leaf in leaves]
    try:
        for leaf in leaves:
            leaf.requires_grad = True
        yield leaves
    finally:
        for leaf, required in zip(leaves, before, strict=True):
            leaf.requires_grad = required


def call(fn: Callable[..., Any], inputs: Sequence[Any]) -> Any:
    """Call ``fn`` with as many of the inputs as it takes; it closes over the rest."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # builtins without one
        return fn(*inputs)
    for count in range(len(inputs), -1, -1):
        try:
            signature.bind(*inputs[:count])
        except TypeError:
            continue
        return fn(*inputs[:count])
    return fn(*inputs)  # takes none of this: let Python say so


def flatten(outputs: Any) -> list[Tensor]:
    """Return the Tensors in nested tuples and lists, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, tuple | list):
        return [t for part in outputs for t in flatten(part)]
    raise TypeError(
        f"fn must return Tensors, or tuples of them, got {type(outputs).__name__}; compute with "
        f"minirnn's functions"
    )


def _map(function: Callable[[Tensor], Tensor], outputs: Any) -> Any:
    """Apply ``function`` to every Tensor in nested tuples and lists."""
    if isinstance(outputs, Tensor):
        return function(outputs)
    return type(outputs)(_map(function, part) for part in outputs)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a sequence of tensors, or anything that yields them, as a tuple; one stands alone."""
    several = isinstance(value, Iterable) and not hasattr(value, "__array__")
    return tuple(value) if several else (value,)
