"""Tensor: an array that remembers how it was made."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from minirnn.engine import linear, movement, piecewise, pointwise, reductions, tape, walk
from minirnn.engine.dual import to_array


class Tensor(tape.Value):
    """An array of float32 or float64 that remembers how it was made.

    Operators broadcast as NumPy's do; a Python number takes the tensor's dtype, and mixing float32
    with float64 is a TypeError. Tensors are written with `assign` only.

    Parameters
    ----------
    array
        An array of floats, copied; lists and numbers become float64.
    requires_grad
        Whether ``backward`` should leave a gradient in ``grad``.
    """

    __slots__ = ()
    __array_ufunc__ = None  # array + tensor is the tensor's business

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        self._data = to_array(array, "Tensor")
        self._base = self._vjp = self.grad = None
        self._parents = ()
        self._written = 0
        self.requires_grad = requires_grad

    # What it is.

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every dimension."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._data.ndim

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self._data.dtype

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._data.size

    @property
    def T(self) -> "Tensor":
        """The same numbers with the dimensions in reverse."""
        return movement.permute(self, range(self._data.ndim)[::-1])

    def numpy(self) -> ndarray:
        """Return a read-only view of the numbers; it sees what `assign` writes."""
        view = self._data.view()
        view.flags.writeable = False
        return view

    def item(self) -> float:
        """Return the only entry as a Python number."""
        if self._data.size != 1:
            raise ValueError(
                f"item: the tensor must have one entry, got shape {self.shape}; index or sum first"
            )
        return self._data.item()

    def detach(self) -> "Tensor":
        """Return a tensor of the same memory that passes no gradient."""
        return tape.constant(self._data, self if self._base is None else self._base)

    stop = detach

    def assign(self, array: Any) -> None:
        """Write ``array``, of this shape and dtype; the tensor becomes a leaf if it was none."""
        new = array._data if isinstance(array, tape.Value) else np.asarray(array)
        if new.shape != self._data.shape:
            raise ValueError(
                f"assign: array must have the tensor's shape {self.shape}, got {new.shape}"
            )
        if new.dtype != self._data.dtype:
            raise TypeError(
                f"assign: array must have the tensor's dtype {self.dtype}, got {new.dtype}; "
                f"convert it with array.astype(tensor.dtype)"
            )
        if self._base is not None:
            raise RuntimeError(
                "assign: this tensor shows the memory of another (detach, reshape, indexing); "
                "assign to that one, or to Tensor(this)"
            )
        self._data[...] = new
        tape.wrote(self)
        if self._vjp is not None:
            # What was computed is overwritten: from now on a constant, as in PyTorch.
            self._vjp, self._parents, self.requires_grad = None, (), False

    # Derivatives.

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the ``grad`` of every leaf it came from.

        Parameters
        ----------
        gradient
            Gradient with respect to this tensor, of its shape; may be left out if that is one
            number, and is 1 then.
        retain_graph
            Keep the tape for another backward; otherwise it is freed on the way.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward: the tensor does not depend on anything with requires_grad=True "
                "(or was computed under no_grad); set it before the forward"
            )
        dself = seed(self, gradient, "backward", "gradient")
        owned: set[tape.Value] = set()
        found = walk.pull((self,), (dself,), retain_graph=retain_graph, owned=owned)
        for leaf, grad in found.items():
            check_gradient(leaf, grad)
            if leaf.grad is not None:
                leaf.grad = leaf.grad + grad
            else:  # a copy where others may have this array, another leaf for example
                leaf.grad = grad if leaf in owned else np.array(grad)

    # Operators; the functions themselves are the methods, which saves a call.

    __add__ = pointwise.add
    __sub__ = pointwise.sub
    __mul__ = pointwise.mul
    __truediv__ = pointwise.div
    __pow__ = pointwise.power
    __rpow__ = pointwise.rpower
    __neg__ = pointwise.neg
    __matmul__ = linear.matmul
    __getitem__ = linear.getitem

    def __radd__(self, other: Any) -> "Tensor":
        return pointwise.add(other, self)

    def __rsub__(self, other: Any) -> "Tensor":
        return pointwise.sub(other, self)

    def __rmul__(self, other: Any) -> "Tensor":
        return pointwise.mul(other, self)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return pointwise.div(other, self)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return linear.matmul(other, self)

    # The functions that are methods too.

    exp = pointwise.exp
    log = pointwise.log
    sqrt = pointwise.sqrt
    rsqrt = pointwise.rsqrt
    tanh = pointwise.tanh
    sigmoid = pointwise.sigmoid
    relu = piecewise.relu
    abs = piecewise.abs
    __abs__ = piecewise.abs
    maximum = piecewise.maximum
    minimum = piecewise.minimum
    clip = piecewise.clip
    where_ = staticmethod(piecewise.where)
    sum = reductions.sum
    mean = reductions.mean
    unit_mean = reductions.unit_mean
    max = reductions.max
    min = reductions.min
    softmax = reductions.softmax
    log_softmax = reductions.log_softmax
    logsumexp = reductions.logsumexp
    reshape = movement.reshape
    transpose = movement.transpose
    swapaxes = movement.transpose
    permute = movement.permute
    expand = movement.expand
    unsqueeze = movement.unsqueeze
    squeeze = movement.squeeze
    flip = movement.flip
    split = movement.split
    unbind = movement.unbind
    matmul = linear.matmul

    # Comparisons answer with a bool array: nothing is differentiated through them.

    def __lt__(self, other: Any) -> ndarray:
        return self._data < _compared(other)

    def __le__(self, other: Any) -> ndarray:
        return self._data <= _compared(other)

    def __gt__(self, other: Any) -> ndarray:
        return self._data > _compared(other)

    def __ge__(self, other: Any) -> ndarray:
        return self._data >= _compared(other)

    # Python's protocols.

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "[]=: a tensor is written as a whole, by assign(array), so that backward can tell; "
            "where() and concat() make changed copies"
        )

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len(): a tensor of no dimensions has no length; use item()")
        return len(self._data)

    def __iter__(self) -> "Iterator[Tensor]":
        return iter(self.unbind(0))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        if self.requires_grad:
            raise TypeError(
                "NumPy would lose this tensor's gradient; use minirnn's functions, or .numpy() "
                "for the numbers"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        numbers = np.array2string(self._data, separator=", ", prefix="Tensor(")
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({numbers}, dtype={self.dtype}{grad})"


def _compared(other: Any) -> Any:
    return other._data if isinstance(other, tape.Value) else other


def seed(output: Tensor, gradient: Any, place: str, argument: str) -> ndarray:
    """Return the gradient that a backward from ``output`` starts with, checked."""
    if gradient is None:
        if output._data.size != 1:
            raise ValueError(
                f"{place}: {argument} may be left out only for a tensor of one number, got shape "
                f"{output.shape}; sum() it, or pass {argument} of that shape"
            )
        return np.ones_like(output._data)
    array = gradient._data if isinstance(gradient, tape.Value) else np.asarray(gradient)
    if not isinstance(gradient, tape.Value | ndarray):
        array = array.astype(output.dtype)  # lists and numbers
    if array.shape != output.shape:
        raise ValueError(
            f"{place}: {argument} must have the shape {output.shape} of its tensor, got "
            f"{array.shape}"
        )
    if array.dtype != output.dtype:
        raise TypeError(
            f"{place}: {argument} must have the dtype {output.dtype} of its tensor, got "
            f"{array.dtype}; convert it with {argument}.astype(tensor.dtype)"
        )
    return array


def check_gradient(value: tape.Value, grad: Any) -> None:
    """Raise where a vjp made a gradient that does not fit its tensor."""
    if grad.shape != value._data.shape or grad.dtype != value._data.dtype:
        raise ValueError(
            f"backward: a gradient of shape {grad.shape} and dtype {grad.dtype} arrived at a "
            f"tensor of shape {value._data.shape} and dtype {value._data.dtype}; the vjp of an "
            f"operation that read it is wrong"
        )


tape.tensor_type = Tensor
