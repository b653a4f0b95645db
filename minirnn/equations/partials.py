"""Partial derivatives of every value of a step by its arguments: the parts of a Jacobian."""

from collections.abc import Iterable

from minirnn.equations.derive import ONE, OPAQUE, RULES
from minirnn.equations.symbols import Symbol, add, is_const, postorder

Partials = tuple[tuple[Symbol, Symbol], ...]
NOT_POINTWISE = ("product", "mean")


def partials(node: Symbol) -> Partials:
    """Return (argument, partial derivative by it), unit by unit, where it is not 0 throughout.

    A rule of `derive` gives the arguments' shares in an adjoint and is linear in it: given 1 it
    gives the partial derivatives. Nothing is returned for products and means, which are linear
    maps of their argument but no maps unit by unit, and below what passes no derivative.
    """
    if node.op in OPAQUE or node.op in NOT_POINTWISE:
        return ()
    found: dict[Symbol, Symbol] = {}
    for argument, share in zip(node.operands, RULES[node.op](node, ONE), strict=True):
        found[argument] = add(found[argument], share) if argument in found else share
    return tuple((a, d) for a, d in found.items() if not is_const(d, 0.0))


def moved_by_states(outputs: Iterable[Symbol]) -> list[tuple[Symbol, Partials]]:
    """Return the nodes that a state of the step before moves, arguments before their users.

    Each with (argument, partial derivative) for the arguments that are moved themselves; for a
    product and a mean the partial derivative is 1, times the matrix that they stand for.
    """
    moved: dict[Symbol, Partials] = {}
    for node in postorder(list(outputs)):
        if node.op == "leaf":
            if node.args[0] == "prev":
                moved[node] = ()
        elif node.op in NOT_POINTWISE:
            (argument,) = node.operands
            if argument in moved:
                moved[node] = ((argument, ONE),)
        elif parts := tuple((a, d) for a, d in partials(node) if a in moved):
            moved[node] = parts
    return list(moved.items())
