"""A cell: its equations traced into a graph, and checked."""

import importlib
import inspect
import keyword
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minirnn.equations.symbols import Block, CellError, Symbol, leaf, lift, postorder

Names = str | Iterable[str]
OPTIONAL_ARGUMENTS = ("p", "below", "t")
_THINGS = {"wx": "gate {k} (wx.{k})", "u": "block {k} (u.{k} @ ...)", "p": "vector p.{k}"}


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrence, as its equations.

    ``outputs[i]`` is the expression of ``state[i]`` after a step; the first state is the output.
    Blocks of the input matrix are the ``gates``, blocks of the recurrent matrix the ``products``.
    Calling a cell runs its equations on whatever is given, Tensors or arrays:
    ``cell(wx, u, prev, p=..., below=..., t=...)`` returns a tuple with one value per state.
    """

    name: str
    gates: tuple[str, ...]
    state: tuple[str, ...]
    products: tuple[str, ...]
    vectors: tuple[str, ...]
    vector_init: Mapping[str, float | None]
    unbiased: tuple[str, ...]
    unused: tuple[str, ...]
    constants: Mapping[str, tuple[float, ...]]
    upper: tuple[str, ...]
    arguments: tuple[str, ...]
    function: Callable[..., Any] = field(repr=False)
    outputs: tuple[Symbol, ...] = field(repr=False)

    def __call__(self, wx: Any, u: Any, prev: Any, **optional: Any) -> tuple[Any, ...]:
        """Run the equations; give ``p``, ``below`` and ``t`` by name where the cell lists them."""
        given = {k: v for k, v in optional.items() if k in self.arguments}
        value = self.function(wx, u, prev, **given)
        return value if isinstance(value, tuple) else (value,)

    def __copy__(self) -> "Cell":
        return self  # never changes

    def __deepcopy__(self, memo: Any) -> "Cell":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        """Pickle a cell as the module-level variable that it is, as functions are."""
        module = self.function.__module__
        if getattr(sys.modules.get(module), self.name, None) is not self:
            raise pickle.PicklingError(
                f"cell {self.name!r}: only a cell that is a variable of this name in module "
                f"{module} can be pickled; define it there, or save the layer's state_dict"
            )
        return _find, (module, self.name)

    @property
    def biased(self) -> tuple[str, ...]:
        """The blocks of the recurrent matrix that have a bias, in order."""
        return tuple(k for k in self.products if k not in self.unbiased)

    def num_params(self, input_size: int, hidden_size: int, bias: int = 2) -> int:
        """Count the parameters of one level and direction.

        ``bias``: 0 none; 1 one bias for each name among gates and biased blocks; 2 what
        `minirnn.Recurrent` holds (a bias for the input product and one for the recurrent one).
        """
        if bias not in (0, 1, 2):
            raise ValueError(f"{self.name}.num_params: bias must be 0, 1 or 2, got {bias}")
        recurrent = 0
        for block in self.products:
            if block in self.upper:  # module a reads modules b >= a
                (numbers,) = {len(v) for v in self.constants.values()}
                edges = [j * numbers // hidden_size for j in range(hidden_size)]
                recurrent += sum(a <= b for a in edges for b in edges)
            else:
                recurrent += hidden_size * hidden_size
        biases = {0: 0, 1: len({*self.gates, *self.biased}), 2: len(self.gates) + len(self.biased)}
        weights = len(self.gates) * hidden_size * input_size + recurrent
        return weights + (len(self.vectors) + biases[bias]) * hidden_size

    def explain(self, format: str = "text") -> str:
        """Return the equations, their derivatives, what is saved and why, and what a step costs.

        format: "text" in the cell language, or "latex", a fragment that needs amsmath.
        """
        from minirnn.equations.explain import explain  # which stands above this module

        return explain(self, format)


def _find(module: str, name: str) -> Cell:
    found: Cell = getattr(importlib.import_module(module), name)
    return found


class _Leaves:
    """A group of given quantities (wx, prev, p, below); unknown names get a clear error."""

    def __init__(self, what: str, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)
        self.__dict__["?"] = (what, tuple(values))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        what, names = self.__dict__["?"]
        known = ", ".join(names) if names else "none"
        short, _, kind = what.partition(" ")
        raise CellError(f"{short}.{name} is unknown: its {kind} are {known}")


def cell(
    gates: Names,
    state: Names = "h",
    vectors: Names | Mapping[str, float | None] = (),
    products: Names | None = None,
    unbiased: Names = "",
    unused: Names = "",
    constants: Mapping[str, Iterable[float]] | None = None,
    upper: Names = "",
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Cell]:
    """Make a cell of the function that states its equations.

    The function takes ``wx`` (``wx.k``: block k of ``weight_ih`` times x_t, plus ``bias_ih``),
    ``u`` (``u.k @ v``: block k of ``weight_hh`` times a vector of the step, plus ``bias_hh``),
    ``prev`` (the states of the step before), and by name those of ``p`` (vectors and constants),
    ``below`` (the states of the level below) and ``t`` (index of the step) that it needs. It
    returns one value per state; the first state is the output.

    Parameters
    ----------
    gates, state, products
        A string of one-letter names, or a tuple of names. ``products`` are the blocks of
        ``weight_hh`` where they are not the gates.
    vectors
        Names of parameters of shape (H,), or a dict from name to first value (None: uniform).
    unbiased
        Blocks of ``weight_hh`` without a bias.
    unused
        Gates or blocks that may be absent from the equations; their gradients are 0.
    constants
        Numbers per module of units; unit j of H belongs to module ``j * M // H``.
    upper
        Blocks that are block upper triangular over the modules.
    name
        The cell's name; the function's name where it is not given.

    Raises
    ------
    CellError
        The equations break a rule; the message names the cell, the quantity and the way out.
    """

    def make(function: Callable[..., Any]) -> Cell:
        title = name or function.__name__
        try:
            return _make(title, function, gates, state, vectors, products, unbiased, unused,
                         constants or {}, upper)  # fmt: skip
        except CellError as error:
            raise CellError(f"cell {title!r}: {error}") from error.__cause__

    if callable(gates):
        raise CellError(
            f"cell {getattr(gates, '__name__', '?')!r}: write the decorator with its gates, "
            'for example @cell(gates="h", state="h")'
        )
    return make


def _make(
    title: str,
    function: Callable[..., Any],
    gates: Names,
    state: Names,
    vectors: Names | Mapping[str, float | None],
    products: Names | None,
    unbiased: Names,
    unused: Names,
    constants: Mapping[str, Iterable[float]],
    upper: Names,
) -> Cell:
    gate_names = _names("gates", gates)
    state_names = _names("state", state)
    blocks = gate_names if products is None else _names("products", products)
    if not state_names:
        raise CellError("state must name at least one state")
    first = dict(vectors) if isinstance(vectors, Mapping) else dict.fromkeys(_vector(vectors))
    vector_names = _names("vectors", first)
    numbers = {k: tuple(float(x) for x in v) for k, v in constants.items()}
    _names("constants", (*vector_names, *numbers))
    if len({len(v) for v in numbers.values()}) > 1:
        raise CellError("constants must all have the same number of modules")
    arguments = _arguments(function)
    if (vector_names or numbers) and "p" not in arguments:
        raise CellError("vectors and constants are read through the argument p, which is missing: "
                        "def cell(wx, u, prev, p)")  # fmt: skip
    if tuple(upper) and not numbers:
        raise CellError("upper= cuts blocks by the modules of constants=, which is missing")
    idle = _subset("unused", unused, (*gate_names, *blocks))
    made = Cell(
        name=title, gates=gate_names, state=state_names, products=blocks, vectors=vector_names,
        vector_init=first, unbiased=_subset("unbiased", unbiased, blocks), unused=idle,
        constants=numbers, upper=_subset("upper", upper, blocks), arguments=arguments,
        function=function, outputs=(),
    )  # fmt: skip
    object.__setattr__(made, "outputs", _trace(made))
    _check_use(made)
    return made


def _vector(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) and names else tuple(names)


def _names(what: str, names: Names) -> tuple[str, ...]:
    out = tuple(names)
    for k in out:
        if not isinstance(k, str) or not k.isidentifier() or keyword.iskeyword(k):
            raise CellError(f"{what}: {k!r} is not a name that can be written after a dot")
        if k.startswith("__"):
            raise CellError(f"{what}: {k!r} must not begin with two underscores")
    twice = sorted({k for k in out if out.count(k) > 1})
    if twice:
        raise CellError(f"{what}: {', '.join(twice)} appears twice")
    return out


def _subset(what: str, names: Names, known: tuple[str, ...]) -> tuple[str, ...]:
    out = (names,) if isinstance(names, str) and names in known else tuple(names)
    for k in out:
        if k not in known:
            raise CellError(f"{what}: {k!r} is unknown; known are {', '.join(known)}")
    return out


def _arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    names = list(inspect.signature(function).parameters)
    if len(names) < 3:
        raise CellError(f"the function must take wx, u and prev, got ({', '.join(names)})")
    for k in names[3:]:
        if k not in OPTIONAL_ARGUMENTS:
            raise CellError(
                f"argument {k!r} is unknown; after wx, u, prev a cell may list p (vectors and "
                "constants), below (states of the level below), t (index of the step)"
            )
    return tuple(names[3:])


def _trace(c: Cell) -> tuple[Symbol, ...]:
    """Run the function on symbols."""
    given = {
        "p": _Leaves(
            "p vectors and constants", {k: leaf("p", k) for k in (*c.vectors, *c.constants)}
        ),
        "below": _Leaves("below states", {k: leaf("below", k) for k in c.state}),
        "t": leaf("time", "t"),
    }  # fmt: skip
    wx = _Leaves("wx gates", {k: leaf("wx", k) for k in c.gates})
    u = _Leaves("u blocks of the recurrent matrix", {k: Block(k) for k in c.products})
    prev = _Leaves("prev states", {k: leaf("prev", k) for k in c.state})
    try:
        value = c.function(wx, u, prev, **{k: given[k] for k in c.arguments})
    except CellError:
        raise
    except Exception as error:
        raise CellError(
            f"its function raised {type(error).__name__}: {error}. The equations may use + - * / "
            "** @ and minirnn's functions on wx.k, u.k @ v, prev.k, p.k and numbers"
        ) from error
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != len(c.state):
        raise CellError(
            f"returns {len(values)} value(s) but has {len(c.state)} state(s) "
            f"({', '.join(c.state)}); return one value per state, in this order, or change state="
        )
    for k, v in zip(c.state, values, strict=True):
        if not isinstance(v, (Symbol, int, float)):
            what = f"the matrix u.{v._name}" if isinstance(v, Block) else type(v).__name__
            raise CellError(f"state {k} is {what}; it must be a vector of the step")
    return tuple(lift(v) for v in values)


def _check_use(c: Cell) -> None:
    """Each gate, block and vector must reach a returned state; each block in one product."""
    reached = postorder(c.outputs)
    operands: dict[str, Symbol] = {}
    for node in reached:
        if node.op == "product":
            block, operand = node.args
            if operands.setdefault(block, operand) is not operand:
                raise CellError(
                    f"u.{block} is multiplied with two different vectors ({operands[block]} and "
                    f"{operand}); name a second block in products= for the second product"
                )
    for kind, declared in (("wx", c.gates), ("u", c.products), ("p", c.vectors)):
        if kind == "u":
            used = set(operands)
        else:
            used = {n.args[1] for n in reached if n.op == "leaf" and n.args[0] == kind}
        for k in declared:
            if k not in used and k not in c.unused:
                raise CellError(
                    f"{_THINGS[kind].format(k=k)} never reaches a returned state; use it, take it "
                    f"out of the declaration, or list {k!r} in unused="
                )
    for k in c.unused:
        if k in operands or any(n.op == "leaf" and n.args == ("wx", k) for n in reached):
            raise CellError(
                f"{k!r} is declared unused but reaches a returned state; drop it from unused="
            )
