"""The walk through the tape: gradients back from outputs, tangents forward to them.

It knows no arithmetic but ``+``.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush, heappushpop
from typing import Any

import numpy as np
from numpy import ndarray

from minirnn.engine import tape
from minirnn.engine.tape import (
    Grad,
    Rules,
    Value,
    constant,
    emit,
    enable_grad,
    freed,
    no_grad,
    part,
)


def pull(
    outputs: Sequence[Value],
    douts: Sequence[Grad],
    inputs: Iterable[Value] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
    owned: set[Value] | None = None,
) -> dict[Value, Grad]:
    """Pull gradients of ``outputs`` back to every leaf, or to ``inputs`` too.

    Returns a dict from tensor to gradient; who got none is not in it. Those of which nobody else
    has the gradient's array are put into ``owned``.
    """
    owned = set() if owned is None else owned
    if inputs is None:
        with no_grad():
            return _walk(outputs, douts, set(), None, retain_graph, False, owned)
    targets = set(inputs)
    results = _reach(outputs)
    leading = _leading(results, targets)
    gone = [node for node in results if node._vjp is freed]
    with enable_grad() if create_graph else no_grad():
        found = _walk(outputs, douts, targets, leading, retain_graph, create_graph, owned)
    if gone and not targets <= found.keys():
        freed(gone[0], None)
    return found


def _walk(
    outputs: Sequence[Value],
    douts: Sequence[Grad],
    targets: set[Value],
    leading: set[Value] | None,
    retain_graph: bool,
    create_graph: bool,
    owned: set[Value],
) -> dict[Value, Grad]:
    """Walk back through what is in ``leading`` (None: all); `pull` says the rest.

    The newest tensor that waits goes next: all that was made of it is newer, so its gradient is
    complete. One long function, because a call per edge would cost as much as the walk.
    """
    found: dict[Value, Grad] = {}
    waiting: dict[Value, Grad] = {}  # leaves wait to the end
    heap: list[tuple[int, Value]] = []
    parents, grads = outputs, douts
    while True:
        first: Value | None = None  # in a chain it is the only one, and is next without waiting
        d: Grad = None  # its gradient
        number = 0  # counted by hand: zip() would cost as much as all else in this loop
        for grad in grads:
            parent = parents[number]
            number += 1
            if grad is None or not parent.requires_grad:
                continue
            if parent is first:
                d = _add(d, grad, parent, owned)
            elif parent in waiting:
                waiting[parent] = _add(waiting[parent], grad, parent, owned)
            elif parent._vjp is None:
                waiting[parent] = grad
            elif first is None:
                first, d = parent, grad
            else:
                waiting[parent] = grad
                heappush(heap, (-parent._time, parent))
        if first is not None and not heap:
            node = first
        elif first is not None:
            waiting[first] = d
            node = heappushpop(heap, (-first._time, first))[1]
            d = waiting.pop(node)
        elif heap:
            node = heappop(heap)[1]
            d = waiting.pop(node)
        else:
            return waiting | found
        if leading is not None:
            if node in targets:
                found[node] = d
            if node not in leading:
                parents = grads = ()
                continue
        parents = node._parents
        if tape.last_write > node._time:
            _check_unwritten(node)
        grads = _vjp_as_graph(node, d) if create_graph else node._vjp(node, d)  # type: ignore[misc]
        if d.__class__ is dict and node._vjp.fresh and not create_graph:  # type: ignore[union-attr]
            # These arrays are ours, like the sums that are made here.
            pairs = zip(parents, grads, strict=True)
            owned.update([p for p, grad in pairs if grad is not None and p not in waiting])
        if not retain_graph:
            node._vjp = freed
            node._parents = ()


def _add(before: Grad, grad: Grad, key: Value, owned: set[Value]) -> Grad:
    """Sum two gradients of one tensor, in place if the array is the walk's own."""
    if before.__class__ is dict:  # of outputs of one `record`, each of which comes once
        before.update(grad)
        return before
    if key in owned:
        return np.add(before, grad, before)
    total = before + grad
    if total.__class__ is ndarray:
        owned.add(key)
    return total


def _reach(outputs: Iterable[Value]) -> list[Value]:
    """Return the results of operations among ``outputs`` and behind them, oldest first."""
    stack = [value for value in outputs if value._vjp is not None]
    seen = set(stack)
    while stack:
        for parent in stack.pop()._parents:
            if parent._vjp is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda value: value._time)


def _leading(results: Iterable[Value], targets: Iterable[Value]) -> set[Value]:
    """Return those of ``results``, oldest first, from which a way leads back to a target."""
    targets = set(targets)
    leading: set[Value] = set()
    for node in results:
        for parent in node._parents:
            if parent in targets or parent in leading:
                leading.add(node)
                break
    return leading


def _vjp_as_graph(node: Value, d: Grad) -> Sequence[Grad]:
    """Return the gradients of a node's parents as a graph: by its vjp on Tensors, or replayed."""
    vjp = node._vjp
    assert vjp is not None
    if isinstance(vjp, Rules) and vjp.replay is not None:
        return _replay(node, vjp.replay, d)
    try:
        grads = vjp(node, d)
    except TypeError as error:  # what NumPy and kernels say when they meet a Tensor
        raise _arrays_only(node) from error
    if any(isinstance(grad, ndarray | np.generic) for grad in grads):
        raise _arrays_only(node)
    return grads


def _replay(node: Value, replay: Any, douts: dict[int, Grad]) -> Sequence[Grad]:
    """Gradients of a node's parents as a graph, through its outputs computed again."""
    # Aliases, because a tensor that is two parents at once has a gradient as each of them.
    aliases = [emit(p._data, (p,), lambda _, d: (d,), "alias") for p in node._parents]
    pairs = [
        (out, douts[index])
        for index, out in enumerate(replay(*aliases))
        if index in douts and out.requires_grad
    ]
    targets = [alias for alias in aliases if alias.requires_grad]
    outs, grads = [out for out, _ in pairs], [dout for _, dout in pairs]
    found = pull(outs, grads, targets, retain_graph=True, create_graph=True)
    return [found.get(alias) for alias in aliases]


def push(
    outputs: Sequence[Value], inputs: Sequence[Value], tangents: Sequence[ndarray]
) -> list[ndarray | None]:
    """Push tangents of ``inputs`` forward along the tape to ``outputs``; None is no dependence.

    A node without a jvp is differentiated through its vjp, which is linear in the gradients that it
    takes: the derivative of that map, transposed, is the jvp.
    """
    known = dict(zip(inputs, tangents, strict=True))
    results = _reach(outputs)
    leading = _leading(results, known)
    made: dict[Value, Any] = {}  # tangents; of a node with the rules of a `record`, by output
    parts: dict[Value, dict[int, Value]] = {}
    for node in results:
        if node._vjp is freed:
            freed(node, None)
        if node._vjp is part:
            parts.setdefault(node._parents[0], {})[node._index] = node

    def tangent(value: Value) -> ndarray | None:
        return known[value] if value in known else made.get(value)

    for node in results:
        if node not in leading:
            continue
        if node._vjp is part:
            made[node] = made[node._parents[0]][node._index]
            continue
        moves = [tangent(parent) for parent in node._parents]
        if not isinstance(node._vjp, Rules):
            made[node] = _jvp_by_vjp(node, moves, {0: node})[0]
        elif (jvp := node._vjp.jvp) is None:
            made[node] = _jvp_by_vjp(node, moves, parts[node])
        else:
            made[node] = jvp(*moves)
    return [tangent(output) for output in outputs]


def _jvp_by_vjp(
    node: Value, moves: Sequence[ndarray | None], outputs: dict[int, Value]
) -> dict[int, ndarray | None]:
    """Tangents of a node's outputs by differentiating its vjp."""
    douts = {index: constant(np.zeros_like(out._data)) for index, out in outputs.items()}
    for dout in douts.values():
        dout.requires_grad = True
    with enable_grad():
        grads = _vjp_as_graph(node, douts if isinstance(node._vjp, Rules) else douts[0])
    pairs = [
        (grad, move)
        for grad, move in zip(grads, moves, strict=True)
        if grad is not None and move is not None and grad.requires_grad
    ]
    found = pull([grad for grad, _ in pairs], [move for _, move in pairs], douts.values())
    return {index: found.get(dout) for index, dout in douts.items()}


def _check_unwritten(node: Value) -> None:
    """Raise if a parent was written after this node read it."""
    for number, parent in enumerate(node._parents):
        if parent.version > node._time:
            raise RuntimeError(
                f"backward: operand {number} of {node._name} (shape {parent._data.shape}) was "
                f"written by assign() after the forward that read it, so its gradient would be "
                f"wrong; run forward again, or write after backward"
            )


def _arrays_only(node: Value) -> RuntimeError:
    return RuntimeError(
        f"{node._name}: its vjp works on arrays only, so that derivatives of it cannot be taken "
        f"(create_graph, jvp without a jvp rule); give record(..., replay=) the same operation "
        f"made of recorded ones"
    )
