"""The tangent of a cell is a cell: its states are h and h', what h does and how it moves.

Forward mode by the rules of `minirnn.equations.derive`: each rule is linear in the adjoint it is
given, unit by unit, so that the tangent of an argument in the place of the adjoint gives that
argument's share in the tangent of the node. Running the tangent cell forward is a fused JVP;
running it backward from cotangents of the primed states is the derivative of the gradient, a
fused Hessian-vector product.
"""

from functools import cache

from minirnn.equations.cell import Cell
from minirnn.equations.derive import OPAQUE, RULES, ZERO
from minirnn.equations.symbols import Symbol, add, is_const, leaf, postorder

MOVED, WEIGHT = "'", "*"  # marks that no name of a user can end with


@cache
def tangent_cell(cell: Cell, weights: bool) -> Cell:
    """Return the cell of values and tangents; ``weights``: whether parameters move as well.

    Gates k and k', states k and k', vectors k and (if parameters move) k'. Blocks of the recurrent
    matrix: k, then k' (block k once more, multiplied with the tangent of its operand), then, if
    parameters move, k* (the tangent of block k, multiplied with the operand).
    """
    tangent: dict[Symbol, Symbol] = {}
    for node in postorder(cell.outputs):
        tangent[node] = _tangent(node, tangent, cell, weights)
    moved = _marked(cell.products, MOVED)
    weight = _marked(cell.products, WEIGHT) if weights else ()
    vectors = (*cell.vectors, *(_marked(cell.vectors, MOVED) if weights else ()))
    return Cell(
        name=f"tangent of {cell.name}",
        gates=(*cell.gates, *_marked(cell.gates, MOVED)),
        state=(*cell.state, *_marked(cell.state, MOVED)),
        products=(*cell.products, *moved, *weight),
        vectors=vectors,
        vector_init=dict.fromkeys(vectors),
        unbiased=(*cell.unbiased, *moved, *(_marked(cell.unbiased, WEIGHT) if weights else ())),
        unused=(),
        constants=cell.constants,
        upper=(),
        arguments=cell.arguments,
        function=cell.function,
        outputs=(*cell.outputs, *(tangent[n] for n in cell.outputs)),
    )


def _marked(names: tuple[str, ...], mark: str) -> tuple[str, ...]:
    return tuple(k + mark for k in names)


def _tangent(node: Symbol, tangent: dict[Symbol, Symbol], cell: Cell, weights: bool) -> Symbol:
    """Return the tangent of a node whose arguments' tangents are known."""
    if node.op == "leaf":
        kind, name = node.args
        still = kind == "time" or name in cell.constants or (kind == "p" and not weights)
        return ZERO if still else leaf(kind, name + MOVED)
    if node.op == "product":
        block, operand = node.args
        total = ZERO
        if not is_const(tangent[operand], 0.0):
            total = Symbol("product", block + MOVED, tangent[operand])
        return add(total, Symbol("product", block + WEIGHT, operand)) if weights else total
    if node.op in OPAQUE:
        return ZERO
    total = ZERO
    for i, operand in enumerate(node.operands):
        if not is_const(tangent[operand], 0.0):
            total = add(total, RULES[node.op](node, tangent[operand])[i])
    return total
