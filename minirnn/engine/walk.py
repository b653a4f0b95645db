"""The walk through the tape: gradients back from outputs, tangents forward to them.

It knows no arithmetic but ``+``.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy import ndarray

from minirnn.engine import tape
from minirnn.engine.tape import Grad, Node, Value, constant, emit, enable_grad, no_grad


def pull(
    outputs: Sequence[Value],
    douts: Sequence[Grad],
    inputs: Iterable[Value] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> dict[Value, Grad]:
    """Pull gradients of ``outputs`` back to every leaf, or to ``inputs`` only.

    Returns a dict from tensor to gradient; who got none is not in it.
    """
    if inputs is None:
        with no_grad():
            return _walk(outputs, douts, None, {}, retain_graph, False)
    targets = set(inputs)
    nodes, freed = _reach(outputs)
    leading = _leading(nodes, targets)
    wanted: dict[Node, list[Value]] = {}
    for value in targets:
        if value._node is not None:
            wanted.setdefault(value._node, []).append(value)
    with enable_grad() if create_graph else no_grad():
        found = _walk(outputs, douts, leading, wanted, retain_graph, create_graph)
    if freed and not targets <= found.keys():
        raise _freed(freed[0])
    return found


def _walk(
    outputs: Sequence[Value],
    douts: Sequence[Grad],
    leading: set[Node] | None,
    wanted: dict[Node, list[Value]],
    retain_graph: bool,
    create_graph: bool,
) -> dict[Value, Grad]:
    """Walk back through the nodes in ``leading`` (None: all); `pull` says the rest.

    The newest node that waits goes next: all that used its outputs is newer, so its gradients are
    complete. One long function, because a call per edge would cost as much as the walk.
    """
    found: dict[Value, Grad] = {}
    waiting: dict[Node, list[Grad]] = {}
    heap: list[tuple[int, Node]] = []
    owned: set[Any] = set()  # sums made here, which may be added to in place
    parents, grads = outputs, douts
    while True:
        # The lengths are checked below; the keyword strict= costs as much as the rest of this line.
        for parent, grad in zip(parents, grads):  # noqa: B905
            if grad is None or not parent.requires_grad:
                continue
            node = parent._node
            if node is None:
                before = found.get(parent)
                found[parent] = grad if before is None else _add(before, grad, parent, owned)
                continue
            arrived = waiting.get(node)
            if arrived is None:
                waiting[node] = arrived = [None] * node.outputs
                heappush(heap, (-node.time, node))
            index = parent._index
            before = arrived[index]
            arrived[index] = grad if before is None else _add(before, grad, (node, index), owned)
        if not heap:
            return found
        node = heappop(heap)[1]
        arrived = waiting.pop(node)
        if node in wanted:
            for value in wanted[node]:
                if arrived[value._index] is not None:
                    found[value] = arrived[value._index]
        if leading is not None and node not in leading:
            parents = grads = ()
            continue
        if node.vjp is None:
            raise _freed(node)
        if tape.last_write > node.time:
            _check_unwritten(node)
        parents = node.parents
        grads = _vjp_as_graph(node, arrived) if create_graph else node.vjp(*arrived)
        if len(grads) != len(parents):
            raise ValueError(
                f"{node.name}: its vjp must return one gradient per parent, {len(parents)}, "
                f"got {len(grads)}; return None for a parent without one"
            )
        if not retain_graph:
            node.release()


def _add(before: Grad, grad: Grad, key: Any, owned: set[Any]) -> Grad:
    """Sum two gradients of one tensor, in place from the third on."""
    if key in owned:
        return np.add(before, grad, before)
    total = before + grad
    if total.__class__ is ndarray:
        owned.add(key)
    return total


def _reach(outputs: Iterable[Value]) -> tuple[list[Node], list[Node]]:
    """Return the nodes behind ``outputs``, oldest first, and those of them that were freed."""
    stack = [value._node for value in outputs if value._node is not None]
    seen = set(stack)
    while stack:
        for parent in stack.pop().parents:
            node = parent._node
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    nodes = sorted(seen, key=lambda node: node.time)
    return nodes, [node for node in nodes if node.vjp is None]


def _leading(nodes: Iterable[Node], targets: Iterable[Value]) -> set[Node]:
    """Return those of ``nodes``, oldest first, from which a way leads back to a target."""
    targets = set(targets)
    leading: set[Node] = set()
    for node in nodes:
        for parent in node.parents:
            if parent in targets or parent._node in leading:
                leading.add(node)
                break
    return leading


def _vjp_as_graph(node: Node, douts: Sequence[Grad]) -> Sequence[Grad]:
    """Return the gradients of a node's parents as a graph: by its vjp on Tensors, or replayed."""
    if node.replay is not None:
        return _replay(node, douts)
    assert node.vjp is not None
    try:
        grads = node.vjp(*douts)
    except TypeError as error:  # what NumPy and kernels say when they meet a Tensor
        raise _arrays_only(node) from error
    if any(isinstance(grad, ndarray | np.generic) for grad in grads):
        raise _arrays_only(node)
    return grads


def _replay(node: Node, douts: Sequence[Grad]) -> Sequence[Grad]:
    """Gradients of a node's parents as a graph, through its outputs computed again."""
    assert node.replay is not None
    # Aliases, because a tensor that is two parents at once has a gradient as each of them.
    aliases = [emit(parent._data, (parent,), lambda d: (d,), "alias") for parent in node.parents]
    outputs = node.replay(*aliases)
    pairs = [
        (out, dout)
        for out, dout in zip(outputs, douts, strict=True)
        if dout is not None and out.requires_grad
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
    nodes, freed = _reach(outputs)
    if freed:
        raise _freed(freed[0])
    leading = _leading(nodes, known)
    made: dict[Node, list[ndarray | None]] = {}
    # One tensor for each output that is used: a node knows its outputs only by who reads them.
    results: dict[Node, dict[int, Value]] = {}
    for value in (*outputs, *(parent for node in nodes for parent in node.parents)):
        if value._node is not None:
            results.setdefault(value._node, {})[value._index] = value

    def tangent(value: Value) -> ndarray | None:
        if value in known:
            return known[value]
        return None if value._node not in leading else made[value._node][value._index]

    for node in nodes:
        if node in leading:
            moves = [tangent(parent) for parent in node.parents]
            if node.jvp is not None:
                made[node] = list(node.jvp(*moves))
            else:
                made[node] = _jvp_by_vjp(node, moves, results[node])
    return [tangent(output) for output in outputs]


def _jvp_by_vjp(
    node: Node, moves: Sequence[ndarray | None], results: dict[int, Value]
) -> list[ndarray | None]:
    """Tangents of a node's outputs by differentiating its vjp."""
    douts: list[Any] = [None] * node.outputs
    for index, value in results.items():
        douts[index] = constant(np.zeros_like(value._data))
        douts[index].requires_grad = True
    with enable_grad():
        grads = _vjp_as_graph(node, douts)
    pairs = [
        (grad, move)
        for grad, move in zip(grads, moves, strict=True)
        if grad is not None and move is not None and grad.requires_grad
    ]
    targets = [dout for dout in douts if dout is not None]
    found = pull([grad for grad, _ in pairs], [move for _, move in pairs], targets)
    return [None if dout is None else found.get(dout) for dout in douts]


def _check_unwritten(node: Node) -> None:
    """Raise if a parent was written after this node read it."""
    for number, parent in enumerate(node.parents):
        if parent.version > node.time:
            raise RuntimeError(
                f"backward: operand {number} of {node.name} (shape {parent._data.shape}) was "
                f"written by assign() after the forward that read it, so its gradient would be "
                f"wrong; run forward again, or write after backward"
            )


def _freed(node: Node) -> RuntimeError:
    return RuntimeError(
        f"backward: the tape through {node.name} was freed by an earlier backward; run forward "
        f"again, or give the earlier one retain_graph=True"
    )


def _arrays_only(node: Node) -> RuntimeError:
    return RuntimeError(
        f"{node.name}: its vjp works on arrays only, so that derivatives of it cannot be taken "
        f"(create_graph, jvp without a jvp rule); give record(..., replay=) the same operation "
        f"made of recorded ones"
    )
