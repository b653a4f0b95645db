"""The tape: which operation made which tensor.

An operation puts itself here with a *vjp*, a pure function from gradients of its outputs to
gradients of its parents; walk.py goes back through them. One clock orders everything: a node
carries the time of its birth, so that newer nodes are walked first, and a tensor the time of its
last write, so that a write between forward and backward is found by one comparison.
"""

import inspect
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator
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


# The class of every tensor that `record` makes: tensor.py, which is above, puts Tensor here.
tensor_type: Any = Value

_write_lock = threading.Lock()
last_write = 0  # of any tensor: a node that is newer needs no look at its parents


def wrote(value: Value) -> None:
    """Date a write to ``value``'s memory."""
    global last_write
    with _write_lock:
        value._written = last_write = clock()


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
        ``vjp(*douts)`` gives one gradient per parent, or None for none. ``douts[i]`` is the
        gradient of output i, None where it got none, in any memory order and maybe shared: it is
        read, never written. It must be pure: the tape adds.
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


class no_grad(_GradMode):
    """Record nothing inside this block; ``with no_grad():`` or ``@no_grad()``."""

    _enabled = False


class enable_grad(_GradMode):
    """Record inside this block, even within `no_grad`."""

    _enabled = True
