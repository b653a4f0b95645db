"""Levels of a cell's graph: on which stage a value can be had, and which values are its gates."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from minirnn.equations.cell import Cell
from minirnn.equations.derive import is_previous
from minirnn.equations.symbols import Symbol, add, leaf, postorder

ACTIVATIONS = ("sigmoid", "tanh", "relu")


def levels(roots: Iterable[Symbol], known: frozenset[Symbol] = frozenset()) -> dict[Symbol, int]:
    """Return the level of every node below the roots; ``known`` nodes are given: level -1."""
    level: dict[Symbol, int] = {}
    for node in postorder(list(roots)):
        below = [level[a] for a in node.operands]
        if node in known or node.op in ("leaf", "const"):
            level[node] = -1
        elif node.op == "stop":
            level[node] = below[0]
        elif node.op == "product":
            level[node] = 0 if is_previous(node.args[1]) else max(0, below[0]) + 1
        elif node.op == "arrive":  # the product with which a backward step begins
            level[node] = 0
        elif node.op in ("pull", "mean"):
            level[node] = max(0, *below) + 1
        else:
            level[node] = max(0, *below)
    return level


def is_given(node: Symbol) -> bool:
    """Whether the value is there before the step begins: a leaf or a number."""
    return node.op in ("leaf", "const")


@lru_cache(maxsize=256)
def gate_nodes(cell: Cell) -> Mapping[str, Symbol]:
    """Return for each gate and block what `watch` shows.

    That is the first sigmoid, tanh or relu that every path from ``wx.k`` and ``u.k @ v`` to a
    returned state passes; if there is none, ``wx.k + u.k @ v``.
    """
    order = postorder(cell.outputs)
    products = {n.args[0]: n for n in order if n.op == "product"}
    users: dict[Symbol, list[Symbol]] = {}
    for node in order:
        for a in node.operands:
            users.setdefault(a, []).append(node)
    outputs = set(cell.outputs)
    found: dict[str, Symbol] = {}
    for k in dict.fromkeys((*cell.gates, *cell.products)):
        starts = [n for n in (leaf("wx", k), products.get(k)) if n is not None and n in set(order)]
        if not starts:
            continue

        def escapes(gate: Symbol, starts: list[Symbol] = starts) -> bool:
            stack, seen = list(starts), {gate}
            while stack:
                node = stack.pop()
                if node in seen:
                    continue
                seen.add(node)
                if node in outputs:
                    return True
                stack.extend(users.get(node, ()))
            return False

        gates = (n for n in order if n.op in ACTIVATIONS and not escapes(n))
        found[k] = next(gates, add(*starts) if len(starts) == 2 else starts[0])
    return found
