"""The tape: which operation made which tensor, and the walk back through them.

The tape knows no arithmetic but ``+``: an operation hands it a *vjp*, a pure function from gradients
of its outputs to gradients of its parents, and the tape alone adds them up. One clock orders
everything: a node carries the time of its birth, so that the newest node that waits is always the
next to be walked, and a tensor carries the time of its last write, so that a write between forward
and backward is found by one comparison.
"""

import inspect
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ContextDecorator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor

# A gradient is an ndarray, or a Tensor where create_graph asks for a graph; None is "no gradient".
Grad = Any
Vjp = Callable[..., Sequence[Grad]]

clock = itertools.count(1).__next__
_new = object.__new__


class _Mode(threading.local):
    enabled = True  # the class attribute is what every thread begins with


_mode = _Mode()


class Node:
    """One recorded operation.

    ``parents`` are the tensors it read and ``vjp`` the rule back to them; both are dropped by a
    backward that frees the tape. A node holds no reference to its outputs (they hold the node), so
    that there are no cycles and memory is freed at once.
    """

    __slots__ = (
        "__weakref__",
        "jvp",
        "name",
        "outputs",
        "parents",
        "replay",
        "time",
        "vjp",
    )

    time: int
    name: str
    parents: "Sequence[Value]"
    vjp: Vjp | None
    outputs: int  # how many
    jvp: Callable[..., Sequence[Grad]] | None
    replay: "Callable[..., Sequence[Tensor]] | None"

    def __repr__(self) -> str:
        return f"<{self.name} at {self.time}>"

    def release(self) -> None:
        """Drop the rules and all they hold."""
        self.vjp = self.jvp = self.replay = None
        self.parents = ()


class Value:
    """What the tape knows of a tensor; `Tensor` adds what a user does with it.

    A tensor made by a recorded operation is output number ``_index`` of ``_node``; a leaf has no
    node. ``_base`` is the tensor whose memory this one shows (None: its own), ``_written`` the time
    of the last write to it.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_data",
        "_index",
        "_node",
        "_written",
        "grad",
        "requires_grad",
    )

    _data: ndarray
    _node: Node | None
    _index: int
    _base: "Value | None"
    _written: int
    requires_grad: bool
    grad: ndarray | None

    @property
    def version(self) -> int:
        """Time of the last write to this tensor's memory, 0 if there was none; only ever grows."""
        base = self._base
        return self._written if base is None else base._written


# The class of every tensor that `record` makes: Tensor, put here by tensor.py, which is above.
tensor_type: "type[Tensor]"

_write_lock = threading.Lock()
_last_write = 0


def wrote(value: Value) -> None:
    """Date a write to ``value``'s memory."""
    global _last_write
    with _write_lock:
        value._written = _last_write = clock()


def constant(array: Any, base: Value | None = None) -> "Tensor":
    """Return a tensor around an array, without a copy, a check or a place on the tape."""
    out = _new(tensor_type)
    out._data = array if array.__class__ is ndarray else np.asarray(array)
    out._node = out.grad = None
    out._base = base
    out._index = out._written = 0
    out.requires_grad = False
    return out


def emit(array: Any, parents: tuple[Value, ...], vjp: Vjp, name: str) -> "Tensor":
    """`record` for an operation with one output: what the engine's own operations call."""
    out = _new(tensor_type)
    # NumPy answers with a scalar where the result has no dimensions.
    out._data = array if array.__class__ is ndarray else np.asarray(array)
    out._base = out.grad = None
    out._index = out._written = 0
    for parent in parents:
        if parent.requires_grad:
            if _mode.enabled:
                out._node = node = _new(Node)
                node.time = clock()
                node.name = name
                node.parents = parents
                node.vjp = vjp
                node.outputs = 1
                node.jvp = node.replay = None
                out.requires_grad = True
                return out
            break
    out._node = None
    out.requires_grad = False
    return out


def record(
    outputs: Sequence[ndarray],
    parents: Sequence[Value],
    vjp: Vjp,
    jvp: Callable[..., Sequence[Grad]] | None = None,
    replay: "Callable[..., Sequence[Tensor]] | None" = None,
    name: str = "op",
) -> "tuple[Tensor, ...]":
    """Put an operation on the tape and return its outputs as tensors.

    Parameters
    ----------
    outputs
        The arrays it computed.
    parents
        The tensors it read.
    vjp
        ``vjp(*douts)`` gives one gradient per parent, or None for none. ``douts[i]`` is the gradient
        of output i, None where it got none. It must be pure: the tape adds.
        It gets Tensors where ``create_graph`` asks for a graph, unless there is a ``replay``.
    jvp
        ``jvp(*tangents)`` gives one tangent per output; ``tangents[i]`` is None where parent i
        stands still.
    replay
        ``replay(*parents)`` computes the outputs again from recorded operations, for derivatives of
        derivatives through an operation whose ``vjp`` knows arrays only.
    name
        What errors call it.
    """
    tensors = tuple(constant(array) for array in outputs)
    if _mode.enabled and any(parent.requires_grad for parent in parents):
        node = _new(Node)
        node.time = clock()
        node.name = name
        node.parents = tuple(parents)
        node.vjp, node.jvp, node.replay = vjp, jvp, replay
        node.outputs = len(tensors)
        for index, out in enumerate(tensors):
            out._node, out._index, out.requires_grad = node, index, True
    return tensors


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return _mode.enabled


class _GradMode(ContextDecorator):
    """Set recording on or off inside a ``with`` block or a decorated function."""

    _enabled: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __call__(self, func: Any) -> Any:
        if inspect.isgeneratorfunction(func):
            raise TypeError(
                f"{type(self).__name__}: {func.__name__} is a generator function, whose body runs "
                f"after the decorator is through; write `with` inside it"
            )
        return super().__call__(func)

    def __enter__(self) -> None:
        self._before.append(_mode.enabled)
        _mode.enabled = self._enabled

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = self._before.pop()


class no_grad(_GradMode):  # noqa: N801 - PyTorch's name
    """Record nothing inside this block; ``with no_grad():`` or ``@no_grad()``."""

    _enabled = False


class enable_grad(_GradMode):  # noqa: N801 - PyTorch's name
    """Record inside this block, even within `no_grad`."""

    _enabled = True


def pull(
    outputs: Sequence[Value],
    douts: Sequence[Grad],
    inputs: Iterable[Value] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> dict[Value, Grad]:
    """Pull gradients of ``outputs`` back to every leaf, or to ``inputs`` only.

    Returns a dict from tensor to gradient; who got none is not in it. The newest node that waits
    goes next: all that used its outputs is newer, so its gradients are complete.
    """
    found: dict[Value, Grad] = {}
    waiting: dict[Node, list[Grad]] = {}
    heap: list[tuple[int, Node]] = []
    owned: set[Any] = set()  # sums made here, which may be added to in place
    wanted: dict[Node, list[Value]] = {}
    on_the_way: set[Node] | None = None
    if inputs is not None:
        inputs = set(inputs)
        on_the_way = _leading_to(inputs, outputs)
        for value in inputs:
            if value._node is not None:
                wanted.setdefault(value._node, []).append(value)
    parents, grads = outputs, douts

    while True:
        for parent, grad in zip(parents, grads, strict=True):
            if grad is None or not parent.requires_grad:
                continue
            node = parent._node
            if node is None:
                if parent in found:
                    found[parent] = _add(found[parent], grad, parent, owned)
                else:
                    found[parent] = grad
                continue
            arrived = waiting.get(node)
            if arrived is None:
                if node.outputs == 1:
                    waiting[node] = [grad]
                else:
                    waiting[node] = arrived = [None] * node.outputs
                    arrived[parent._index] = grad
                heappush(heap, (-node.time, node))
                continue
            index = parent._index
            before = arrived[index]
            arrived[index] = grad if before is None else _add(before, grad, (node, index), owned)
        if not heap:
            return found
        node = heappop(heap)[1]
        arrived = waiting.pop(node)
        if on_the_way is not None:
            for value in wanted.get(node, ()):
                if arrived[value._index] is not None:
                    found[value] = arrived[value._index]
            if node not in on_the_way:
                parents = grads = ()
                continue
        vjp = node.vjp
        if vjp is None:
            raise _freed(node)
        parents = node.parents
        if _last_write > node.time:
            _check_unwritten(node)
        grads = _replay(node, arrived) if create_graph and node.replay else vjp(*arrived)
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
        return np.add(before, grad, out=before)
    total = before + grad
    if total.__class__ is ndarray:
        owned.add(key)
    return total


def _leading_to(inputs: set[Value], outputs: Iterable[Value]) -> set[Node]:
    """Return the nodes from which a way leads back to one of ``inputs``."""
    leading: set[Node] = set()
    for node in sorted(reachable(outputs), key=lambda node: node.time):
        for parent in node.parents:
            if parent in inputs or parent._node in leading:
                leading.add(node)
                break
    return leading


def reachable(outputs: Iterable[Value]) -> set[Node]:
    """Return all nodes behind ``outputs``."""
    stack = [value._node for value in outputs if value._node is not None]
    seen = set(stack)
    while stack:
        for parent in stack.pop().parents:
            node = parent._node
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    return seen


def _replay(node: Node, douts: Sequence[Grad]) -> Sequence[Grad]:
    """Gradients of a node's parents as a graph, through its outputs computed again."""
    assert node.replay is not None
    # Aliases: a tensor that is two parents at once has a gradient as each of them.
    aliases = [emit(parent._data, (parent,), lambda d: (d,), "alias") for parent in node.parents]
    with enable_grad():
        outputs = node.replay(*aliases)
    pairs = [
        (out, dout)
        for out, dout in zip(outputs, douts, strict=True)
        if dout is not None and out.requires_grad
    ]
    grads = pull(
        [out for out, _ in pairs],
        [dout for _, dout in pairs],
        [alias for alias in aliases if alias.requires_grad],
        retain_graph=True,
        create_graph=True,
    )
    return [grads.get(alias) for alias in aliases]


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
