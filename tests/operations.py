"""Every operation of the engine: ours, PyTorch's, and what it is tried on.

`OPERATIONS` feeds the comparison with PyTorch and the one with central differences alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from minirnn import engine

SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)
MATRICES = npst.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=3)


def entries(offset=0.0, low=-30, high=30):
    """Give numbers at least 0.05 away from 0 and 1, and from those of another offset."""
    return st.integers(low, high).map(lambda n: n / 10 + 0.05 + offset)


def array(shape, offset=0.0, low=-30, unique=False):
    """Give a float64 array; ``unique`` for operations that are not smooth where entries tie."""
    high = 30 if not unique else 300
    return npst.arrays(np.float64, shape, elements=entries(offset, low, high), unique=unique)


@st.composite
def one(draw, low=-30, unique=False, shapes=SHAPES):
    """Draw the input of an operation with one."""
    return (draw(array(draw(shapes), low=low, unique=unique)),), {}


@st.composite
def two(draw, low=-30):
    """Draw two inputs whose shapes broadcast."""
    shapes = npst.mutually_broadcastable_shapes(
        num_shapes=2, min_dims=0, max_dims=3, min_side=1, max_side=3
    )
    first, second = draw(shapes).input_shapes
    return (draw(array(first, low=low)), draw(array(second, 0.02))), {}


@st.composite
def with_dim(draw, unique=False):
    """Draw an input with one of its dimensions, counted from either end."""
    shape = draw(MATRICES)
    return (draw(array(shape, unique=unique)),), {
        "dim": draw(st.integers(-len(shape), len(shape) - 1))
    }


@st.composite
def with_dims(draw, unique=False):
    """Draw an input with some of its dimensions, or none said, kept or not."""
    shape = draw(MATRICES)
    dims = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1).map(tuple))
    options = {"dim": dims, "keepdim": draw(st.booleans())}
    return (draw(array(shape, unique=unique)),), options


@st.composite
def product(draw):
    """Draw operands of a matrix product: vectors, matrices, batches that broadcast."""
    shapes = draw(npst.mutually_broadcastable_shapes(signature=np.matmul.signature, max_side=3))
    first, second = (tuple(max(n, 1) for n in s) for s in shapes.input_shapes)
    return (draw(array(first)), draw(array(second))), {}


@st.composite
def several(draw):
    """Draw three arrays of one shape and a dimension of theirs."""
    shape = draw(MATRICES)
    return tuple(draw(array(shape)) for _ in range(3)), {
        "dim": draw(st.integers(-len(shape), len(shape) - 1))
    }


@dataclass(frozen=True)
class Operation:
    """``ours(*tensors, **options)`` and ``theirs(torch, *tensors, **options)`` mean the same."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    draw: st.SearchStrategy

    def __str__(self):
        return self.name


CONDITION = np.array([[True, False, True], [False, False, True]])
IDS = np.array([[0, 2, 2], [1, 0, 2]])
KEYS = {
    "integer": 1,
    "slices": (slice(None, None, 2), slice(1, None)),
    "new axis": (Ellipsis, None, 0),
    "integers that repeat": (np.array([0, 2, 0]),),
    "integers and a slice": (slice(1, 3), np.array([1, 1, 0])),
    "array of no dimensions": np.array(1),
    "bools": np.array([True, False, True]),
}


def fixed(*shapes):
    """Draw arrays of given shapes."""
    return st.tuples(*[array(s, unique=True) for s in shapes]).map(lambda arrays: (arrays, {}))


def same(name, draw, method=None):
    """Return an operation that has one name here and in PyTorch."""
    method = method or name

    def theirs(torch, *tensors, **options):
        return getattr(torch, method)(*tensors, **options)

    return Operation(name, getattr(engine, name), theirs, draw)


OPERATIONS = [
    Operation("+", lambda a, b: a + b, lambda torch, a, b: a + b, two()),
    Operation("-", lambda a, b: a - b, lambda torch, a, b: a - b, two()),
    Operation("*", lambda a, b: a * b, lambda torch, a, b: a * b, two()),
    Operation("/", lambda a, b: a / b, lambda torch, a, b: a / b, two()),
    Operation("**", lambda a, b: a**b, lambda torch, a, b: a**b, two(low=1)),
    Operation("negative", lambda a: -a, lambda torch, a: -a, one()),
    Operation("square", lambda a: a**2, lambda torch, a: a**2, one()),
    Operation("cube", lambda a: a**3, lambda torch, a: a**3, one()),
    Operation("power 1", lambda a: a**1, lambda torch, a: a**1, one()),
    Operation("power 0", lambda a: a**0, lambda torch, a: a**0, one()),
    Operation("power -1.5", lambda a: a**-1.5, lambda torch, a: a**-1.5, one(low=1)),
    Operation("2 **", lambda a: 2**a, lambda torch, a: 2**a, one()),
    Operation("1 -", lambda a: 1 - a, lambda torch, a: 1 - a, one()),
    Operation("3 /", lambda a: 3 / a, lambda torch, a: 3 / a, one()),
    same("exp", one()),
    same("tanh", one()),
    same("sigmoid", one()),
    same("relu", one()),
    same("abs", one()),
    same("log", one(low=1)),
    same("sqrt", one(low=1)),
    same("rsqrt", one(low=1)),
    same("maximum", two()),
    same("minimum", two()),
    Operation(
        "clip", lambda a: engine.clip(a, -1, 1), lambda torch, a: torch.clip(a, -1, 1), one()
    ),
    Operation("clip below", lambda a: a.clip(min=0), lambda torch, a: torch.clip(a, min=0), one()),
    Operation(
        "where",
        lambda a, b: engine.where(CONDITION, a, b),
        lambda torch, a, b: torch.where(torch.tensor(CONDITION), a, b),
        fixed((2, 3), (3,)),
    ),
    same("sum", with_dims()),
    same("mean", with_dims()),
    same("max", with_dims(unique=True), "amax"),
    same("min", with_dims(unique=True), "amin"),
    Operation("sum of all", lambda a: a.sum(), lambda torch, a: a.sum(), one()),
    Operation("mean of all", lambda a: a.mean(), lambda torch, a: a.mean(), one()),
    Operation("max of all", lambda a: a.max(), lambda torch, a: a.max(), one(unique=True)),
    Operation(
        "unit_mean",
        lambda a: a.unit_mean(),
        lambda torch, a: a.mean(-1, keepdim=True),
        one(shapes=MATRICES),
    ),
    same("softmax", with_dim()),
    same("log_softmax", with_dim()),
    same("logsumexp", with_dims()),
    Operation(
        "reshape", lambda a: a.reshape(-1, 2), lambda torch, a: a.reshape(-1, 2), fixed((2, 3))
    ),
    Operation(
        "transpose",
        lambda a: a.transpose(0, -1),
        lambda torch, a: a.transpose(0, -1),
        one(shapes=MATRICES),
    ),
    Operation("T", lambda a: a.T, lambda torch, a: a.T, fixed((2, 3))),
    Operation(
        "permute",
        lambda a: a.permute((2, 0, 1)),
        lambda torch, a: a.permute((2, 0, 1)),
        fixed((2, 3, 1)),
    ),
    Operation(
        "expand", lambda a: a.expand((2, 3)), lambda torch, a: a.expand((2, 3)), fixed((2, 1))
    ),
    Operation(
        "unsqueeze", lambda a: a.unsqueeze(1), lambda torch, a: a.unsqueeze(1), fixed((2, 3))
    ),
    Operation("squeeze", lambda a: a.squeeze(), lambda torch, a: a.squeeze(), fixed((2, 1, 1))),
    Operation(
        "flip",
        lambda a: engine.flip(a, (0, -1)),
        lambda torch, a: torch.flip(a, (0, -1)),
        one(shapes=MATRICES),
    ),
    Operation(
        "concat",
        lambda *a, dim: engine.concat(a, dim),
        lambda torch, *a, dim: torch.concat(a, dim),
        several(),
    ),
    Operation(
        "stack",
        lambda *a, dim: engine.stack(a, dim),
        lambda torch, *a, dim: torch.stack(a, dim),
        several(),
    ),
    Operation(
        "split",
        lambda a: engine.split(a, 2, dim=1),
        lambda torch, a: torch.split(a, 2, dim=1),
        fixed((2, 5)),
    ),
    Operation(
        "split in sizes",
        lambda a: engine.split(a, [1, 3, 0], dim=0)[:2],
        lambda torch, a: torch.split(a, [1, 3, 0], dim=0)[:2],
        fixed((4, 2)),
    ),
    Operation(
        "one of a split",
        lambda a: engine.split(a, 2, dim=-1)[1],
        lambda torch, a: torch.split(a, 2, dim=-1)[1],
        fixed((2, 5)),
    ),
    Operation("unbind", lambda a: tuple(a)[1], lambda torch, a: torch.unbind(a)[1], fixed((3, 2))),
    Operation(
        "pad",
        lambda a: engine.pad(a, (1, 2, 0, 1), value=0.5),
        lambda torch, a: torch.nn.functional.pad(a, (1, 2, 0, 1), value=0.5),
        fixed((2, 2, 2)),
    ),
    Operation("@", lambda a, b: a @ b, lambda torch, a, b: a @ b, product()),
    Operation("@ vector", lambda a, b: a @ b, lambda torch, a, b: a @ b, fixed((2, 2, 3), (3,))),
    Operation("vector @", lambda a, b: a @ b, lambda torch, a, b: a @ b, fixed((3,), (2, 3, 2))),
    Operation("inner", lambda a, b: a @ b, lambda torch, a, b: a @ b, fixed((3,), (3,))),
    Operation(
        "batch @", lambda a, b: a @ b, lambda torch, a, b: a @ b, fixed((2, 2, 1, 3), (3, 2))
    ),
    *[
        Operation(
            f"einsum {equation}",
            lambda *a, equation=equation: engine.einsum(equation, *a),
            lambda torch, *a, equation=equation: torch.einsum(equation, *a),
            fixed(*shapes),
        )
        for equation, *shapes in [
            ("ij,jk->ik", (2, 3), (3, 2)),
            ("bij,bj->bi", (2, 2, 3), (2, 3)),
            ("ij->j", (2, 3)),
            ("ij,k->ki", (2, 3), (2,)),
            ("i,ij,j->", (2,), (2, 3), (3,)),
            ("ij,jk", (2, 3), (3, 2)),
            ("ij->ji", (2, 3)),
            ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
            ("b...,...c", (2, 3), (3, 2)),
            ("...->...", (2, 3)),
            ("ij,ij->j", (2, 1), (1, 3)),
        ]
    ],
    *[
        Operation(
            f"[] {name}",
            lambda a, key=key: a[key],
            lambda torch, a, key=key: a[key],
            fixed((3, 2)),
        )
        for name, key in KEYS.items()
    ],
    Operation(
        "embedding",
        lambda weight: engine.embedding(IDS, weight),
        lambda torch, weight: torch.nn.functional.embedding(torch.tensor(IDS), weight),
        fixed((3, 2)),
    ),
]
