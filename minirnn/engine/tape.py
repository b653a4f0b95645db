"""The tape: which operation made which tensor.

A tensor is its own node. One that an operation made holds its *parents*, the tensors that were
read, and a *vjp*, a pure function from its gradient to theirs; walk.py goes back through them. One
clock orders everything: such a tensor carries the time of its birth, so that newer ones are walked
first, and every tensor the time of its last write, so that a write between forward and backward is
found by one comparison.
"""

import inspect
import itertools
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor

# A gradient is an ndarray, or a Tensor where create_graph asks for a graph; None is "no gradient".
Grad = Any
# vjp(out, d): the gradients of out's parents, from the tensor itself and its gradient.
Vjp = Callable[[Any, Grad], Sequence[Grad]]

clock = itertools.count(1).__next__
_new = object.__new__


class _Mode(threading.local):
    enabled = True  # the class attribute is what every thread begins with


_mode = _Mode()
# One entry per open block of no_grad and enable_grad, of all threads: while there is none, no
# thread needs to look up its mode. A list, because append and pop need no lock.
_open: list[None] = []


class Value:
    """What the tape knows of a tensor; `Tensor` adds what a user does with it.

    ``_data`` are its numbers, ``_base`` is the tensor whose memory it shows (None: its own),
    ``_written`` the time of the last write to it. One that an operation made has ``_parents`` and a
    ``_vjp``, the ``_name`` of the operation and the ``_time`` of its birth; ``_vjp`` is `freed`
    after a backward that freed the tape, and None in a leaf. Nothing points from a tensor to what
    was made of it, so that there are no cycles and memory is freed at once.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_data",
        "_index",  # which output of a `record` this is
        "_name",
        "_parents",
        "_time",
        "_vjp",
        "_written",
        "grad",
        "requires_grad",
    )

    _data: ndarray
    _base: "Value | None"
    _written: int
    _parents: "Sequence[Value]"
    _vjp: Vjp | None
    _name: str
    _time: int
    _index: int
    requires_grad: bool
    grad: ndarray | None

    @property
    def version(self) -> int:
        """Time of the last write to this tensor's memory, 0 if there was none; only ever grows."""
        base = self._base
        return self._written if base is None else base._written


# The class of every tensor that an operation makes: tensor.py, which is above, puts Tensor here.
tensor_type: Any = Value

_write_lock = threading.Lock()
last_write = 0  # of any tensor: what was made later needs no look at its parents


def wrote(value: Value) -> None:
    """Date a write to ``value``'s memory."""
    global last_write
    with _write_lock:
        value._written = last_write = clock()


def freed(out: Value, d: Grad) -> Sequence[Grad]:
    """Stand where the vjp of ``out`` was before a backward freed it."""
    raise RuntimeError(
        f"backward: the tape through {out._name} was freed by an earlier backward; run forward "
        f"again, or give the earlier one retain_graph=True"
    )


def constant(array: Any, base: Value | None = None) -> "Tensor":
    """Return a tensor around an array, without a copy, a check or a place on the tape."""
    out = _new(tensor_type)
    out._data = array if array.__class__ is ndarray else np.asarray(array)
    out._base = base
    out._written = 0
    out._parents = ()
    out._vjp = out.grad = None
    out.requires_grad = False
    return out


def emit(array: Any, parents: tuple[Value, ...], vjp: Vjp, name: str) -> "Tensor":
    """Put an operation with one output on the tape: what the engine's own operations call."""
    out = _new(tensor_type)
    # NumPy answers with a scalar where the result has no dimensions.
    out._data = array if array.__class__ is ndarray else np.asarray(array)
    out._base = out.grad = None
    out._written = 0
    for parent in parents:
        if parent.requires_grad:
            if not _open or _mode.enabled:
                out._parents = parents
                out._vjp = vjp
                out._name = name
                out._time = clock()
                out.requires_grad = True
                return out
            break
    out._parents = ()
    out._vjp = None
    out.requires_grad = False
    return out


def record(
    outputs: Sequence[ndarray],
    parents: Sequence[Value],
    vjp: Callable[..., Sequence[Grad]],
    jvp: Callable[..., Sequence[Grad]] | None = None,
    replay: "Callable[..., Sequence[Tensor]] | None" = None,
    name: str = "op",
    fresh: bool = False,
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
    fresh
        Whether the arrays that ``vjp`` returns are the tape's to keep: nobody else holds them, and
        no two share memory. Sums are then made in them, and ``grad`` is one of them, not a copy.
    """
    tensors = tuple(constant(array) for array in outputs)
    if _mode.enabled and any(parent.requires_grad for parent in parents):
        # One more node, without numbers, has the rules; every output is a part of it.
        whole: Any = constant(())
        whole._parents, whole._vjp = tuple(parents), Rules(len(tensors), vjp, jvp, replay, fresh)
        whole._name, whole._time, whole.requires_grad = name, clock(), True
        parts_of = (whole,)
        for index, out in enumerate(tensors):
            out._parents, out._vjp, out._index = parts_of, part, index
            out._name, out._time, out.requires_grad = name, clock(), True
    return tensors


class Rules:
    """What `record` was told; called as every vjp is. The gradient is a dict {output: its}."""

    __slots__ = ("fresh", "jvp", "outputs", "replay", "vjp")

    def __init__(
        self,
        outputs: int,
        vjp: Callable[..., Sequence[Grad]],
        jvp: Callable[..., Sequence[Grad]] | None,
        replay: "Callable[..., Sequence[Tensor]] | None",
        fresh: bool,
    ) -> None:
        self.outputs, self.vjp, self.jvp, self.replay = outputs, vjp, jvp, replay
        self.fresh = fresh

    def __call__(self, whole: Value, douts: dict[int, Grad]) -> Sequence[Grad]:
        """Return one gradient per parent."""
        grads = self.vjp(*map(douts.get, range(self.outputs)))
        if len(grads) != len(whole._parents):
            raise ValueError(
                f"{whole._name}: its vjp must return one gradient per parent, "
                f"{len(whole._parents)}, got {len(grads)}; return None for a parent without one"
            )
        return grads


def part(out: Value, d: Grad) -> tuple[Grad]:
    """Pass the gradient of one output of a `record` on to the node that holds its rules."""
    return ({out._index: d},)


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return _mode.enabled


class _GradMode:
    """Set recording on or off inside a ``with`` block or a decorated function."""

    _enabled: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function: every call is a block of its own."""
        if inspect.isgeneratorfunction(func):
            raise TypeError(
                f"{type(self).__name__}: {func.__name__} is a generator function, whose body runs "
                f"after the decorator is through; write `with` inside it"
            )

        @wraps(func)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return func(*args, **kwargs)

        return decorated

    def __enter__(self) -> None:
        _open.append(None)
        self._before.append(_mode.enabled)
        _mode.enabled = self._enabled

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = self._before.pop()
        _open.pop()


class no_grad(_GradMode):
    """Record nothing inside this block; ``with no_grad():`` or ``@no_grad()``."""

    _enabled = False


class enable_grad(_GradMode):
    """Record inside this block, even within `no_grad`."""

    _enabled = True
