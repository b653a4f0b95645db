"""Equations and their derivatives as lines to read: ``name = expression`` over named values.

Gates and states keep their names; a value that is used twice, is multiplied with a block, or whose
own value its derivative repeats gets one, after what it is computed for: i1, i2 on the way to i.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from minirnn.equations.cell import Cell
from minirnn.equations.derive import ZERO, reverse
from minirnn.equations.levels import ACTIVATIONS, gate_nodes, is_given
from minirnn.equations.symbols import Symbol, add, leaf, mul, neg, postorder, sub

# Values that their own derivative contains: shown by a name where their argument is long.
_REPEATED = (*ACTIVATIONS, "exp", "sqrt", "rsqrt", "pow", "div")
_SIMPLIFIED: dict[str, Callable[..., Symbol]] = {"add": add, "sub": sub, "mul": mul, "neg": neg}
_NEVER_NAMED = ("leaf", "const", "product", "stop", "lt", "le", "mod")


@dataclass(frozen=True)
class Line:
    """An equation: ``name = expression``; ``node`` is the value in the cell's own graph.

    The expression has leaves ("v", name) for named values and ("u", k) for ``u.k @ ...``.
    """

    name: str
    expression: Symbol
    node: Symbol


@dataclass(frozen=True)
class Derivative:
    """A derivative: the leaves that share it, and its expression, with leaves ("d", kind.name).

    ``arrives``: a share comes from outside the step, and the expression is added to it.
    ``("transposed", k, du)`` in it is the product of du with block k transposed.
    """

    targets: tuple[Symbol, ...]
    expression: Symbol
    arrives: bool


@dataclass(frozen=True)
class Lines:
    """All lines of a cell; ``operand`` maps a block to the vector it is multiplied with."""

    equations: tuple[Line, ...]
    derivatives: tuple[Derivative, ...]
    operand: dict[str, Symbol]
    names: dict[Symbol, str]

    def shown(self, node: Symbol) -> Symbol:
        """Return a value of the cell's own graph as the lines write it."""
        return _rewrite(node, {n: leaf("v", k) for n, k in self.names.items()})


@cache
def lines(cell: Cell) -> Lines:
    """Return the lines of a cell."""
    names = _names(cell)
    as_leaf = {n: leaf("v", k) for n, k in names.items()}
    order = postorder(cell.outputs)
    products = {n.args[0]: n.args[1] for n in order if n.op == "product"}
    operand = {k: _rewrite(products[k], as_leaf) for k in cell.products if k in products}
    equations = _sorted(cell, names, as_leaf)
    return Lines(equations, _Chain(cell, equations, operand).derivatives(), operand, names)


def _rewrite(node: Symbol, known: dict[Symbol, Symbol]) -> Symbol:
    """Put leaves in the place of known values and of products."""
    made: dict[Symbol, Symbol] = {}
    stack = [(node, False)]
    while stack:
        n, ready = stack.pop()
        if n in made:
            continue
        if n in known:
            made[n] = known[n]
        elif n.op == "product":
            made[n] = leaf("u", n.args[0])
        elif not n.operands:
            made[n] = n
        elif ready:
            made[n] = Symbol(n.op, *(made[a] if isinstance(a, Symbol) else a for a in n.args))
        else:
            stack.append((n, True))
            stack.extend((a, False) for a in n.operands)
    return made[node]


# Names


def _names(cell: Cell) -> dict[Symbol, str]:
    order = postorder(cell.outputs)
    names: dict[Symbol, str] = {}
    for k, n in zip(cell.state, cell.outputs, strict=True):
        if not is_given(n):
            names.setdefault(n, k)
    inside = set(order)
    for k, n in gate_nodes(cell).items():
        if n in inside and not is_given(n) and n not in names and n.op != "product":
            names[n] = k if k not in cell.state else f"{k}_gate"
    steps = [n for n in order if n not in names and _deserves_a_name(n, order, names)]
    base = _bases(order, names)
    taken = {*cell.state, *cell.gates, *cell.products, *names.values()}
    for n in steps:
        number = 1
        while f"{base[n]}{number}" in taken:
            number += 1
        names[n] = f"{base[n]}{number}"
        taken.add(names[n])
    return names


def _deserves_a_name(node: Symbol, order: list[Symbol], names: dict[Symbol, str]) -> bool:
    if node.op in _NEVER_NAMED:
        return False
    short = all(is_given(a) or a in names for a in node.operands)
    uses = 0
    for user in order:
        if user.op == "product" and user.args[1] is node:
            return True
        uses += sum(a is node for a in user.operands)
    if short and any(a.op == "const" for a in node.operands):
        return False  # such as 1 - z
    return uses > 1 or (node.op in _REPEATED and not short)


def _bases(order: list[Symbol], names: dict[Symbol, str]) -> dict[Symbol, str]:
    """Return for each value the name of the line that it is computed for; "v" for several."""
    users: dict[Symbol, list[Symbol]] = {}
    for node in order:
        for a in node.operands:
            users.setdefault(a, []).append(node)
    base: dict[Symbol, str] = {}
    for node in reversed(order):
        of = {names.get(user, base[user]) for user in users.get(node, ())}
        base[node] = of.pop() if len(of) == 1 else "v"
    return base


# Order


def _sorted(
    cell: Cell, names: dict[Symbol, str], as_leaf: dict[Symbol, Symbol]
) -> tuple[Line, ...]:
    """Gates in the cell's order, then states; each after what it is computed from."""
    found: dict[str, Line] = {}

    def emit(node: Symbol) -> None:
        for n in postorder([node]):
            if n in names and names[n] not in found:
                rest = {m: v for m, v in as_leaf.items() if m is not n}
                found[names[n]] = Line(names[n], _rewrite(n, rest), n)

    gates = gate_nodes(cell)
    for k in (*cell.gates, *cell.products):
        if k in gates and names.get(gates[k]) in (k, f"{k}_gate"):
            emit(gates[k])
    for k, n in zip(cell.state, cell.outputs, strict=True):
        emit(n)
        if k not in found:  # a state that is given, or is another state
            found[k] = Line(k, as_leaf.get(n, n), n)
    return tuple(found.values())


# Derivatives


class _Chain:
    """The chain rule over lines, from the last to the first."""

    def __init__(self, cell: Cell, equations: tuple[Line, ...], operand: dict[str, Symbol]) -> None:
        self.cell, self.equations, self.operand = cell, equations, operand
        self.read = {line.name: self._leaves(line.expression) for line in equations}
        self.shares: dict[Symbol, Symbol] = {}
        self.known: dict[Symbol, Symbol] = {}  # expression -> the derivative that is equal to it
        self.found: list[Derivative] = []

    def _leaves(self, expression: Symbol) -> list[Symbol]:
        """Return the leaves of an expression, and those that its products read."""
        found = [n for n in postorder([expression]) if n.op == "leaf" and n.args[0] != "time"]
        inner = [
            m for n in found if n.args[0] == "u" for m in self._leaves(self.operand[n.args[1]])
        ]
        return list(dict.fromkeys([*inner, *found]))

    def derivatives(self) -> tuple[Derivative, ...]:
        cell = self.cell
        operands = set(self.operand.values())
        waits = Counter(n for leaves in self.read.values() for n in leaves)
        for line in reversed(self.equations):
            me = leaf("v", line.name)
            arrives = line.name in cell.state
            total = self._total(me)
            if not arrives or total is not ZERO:
                self._note([me], total, arrives)
            if arrives or total is not ZERO:
                self._differentiate(line, me)
            waits.subtract(self.read[line.name])
            done = [n for n in self.read[line.name] if waits[n] == 0]
            # A vector that is multiplied itself waits for the derivatives of those products.
            own = [n for n in done if n.args[0] == "wx"]
            products = [n for n in done if n.args[0] == "u"]
            first = [n for n in own if n not in operands]
            for n in (*first, *products, *(n for n in own if n in operands)):
                self._note([n], self._total(n), False)
        for kind, names in (("prev", cell.state), ("below", cell.state), ("p", cell.vectors)):
            for n in (leaf(kind, k) for k in names):
                if (total := self._total(n)) is not ZERO:
                    self._note([n], total, False)
        return tuple(self.found)

    def _differentiate(self, line: Line, me: Symbol) -> None:
        for n, share in reverse([line.expression], [_d(me)]).items():
            if n.op == "leaf":
                tidy = _tidy(_rewrite(share, {line.expression: me}))
                self.shares[n] = add(self.shares[n], tidy) if n in self.shares else tidy

    def _total(self, target: Symbol) -> Symbol:
        """Return the sum of a leaf's shares, those through products last."""
        total = self.shares.get(target, ZERO)
        for k in self.cell.products:
            if self.operand.get(k) is target and leaf("u", k) in self.shares:
                total = add(total, Symbol("transposed", k, _d(leaf("u", k))))
        return total

    def _note(self, targets: list[Symbol], total: Symbol, arrives: bool) -> None:
        """Add a line; one that repeats the line before joins it."""
        total = _rewrite(total, {e: d for e, d in self.known.items() if e is not total})
        last = self.found[-1] if self.found else None
        kinds = {n.args[0] for n in (*targets, *(last.targets if last else ()))}
        if last and last.expression is total and kinds <= {"wx", "u"}:
            self.found[-1] = Derivative((*last.targets, *targets), total, False)
            return
        self.found.append(Derivative(tuple(targets), total, arrives))
        if not arrives and total.op not in ("leaf", "const"):
            self.known.setdefault(total, _d(targets[0]))


def _d(node: Symbol) -> Symbol:
    return leaf("d", f"{node.args[0]}.{node.args[1]}")


def _tidy(node: Symbol) -> Symbol:
    """Write sums with the signs in front: x + mean(-y) is x - mean(y)."""
    made: dict[Symbol, Symbol] = {}
    for n in postorder([node]):
        args = [made[a] if isinstance(a, Symbol) else a for a in n.args]
        if n.op == "mean" and args[0].op == "neg":
            made[n] = neg(Symbol("mean", args[0].args[0]))
        elif n.op in _SIMPLIFIED:
            made[n] = _SIMPLIFIED[n.op](*args)
        else:
            made[n] = Symbol(n.op, *args)
    return made[node]
