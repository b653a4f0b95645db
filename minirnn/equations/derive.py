"""Derivatives of expression graphs: the reverse graph of a step, rule by rule."""

from collections.abc import Callable

from minirnn.equations.symbols import Symbol, add, const, div, is_const, mul, neg, postorder, where_

Adjoints = dict[Symbol, Symbol]
ZERO, HALF, ONE = const(0.0), const(0.5), const(1.0)


def _less(a: Symbol, b: Symbol) -> Symbol:
    return Symbol("lt", a, b)


def _where_greater(n: Symbol, which: int, g: Symbol) -> Symbol:
    """Return g where argument ``which`` of n is the greater, half of g where both are equal."""
    a, b = n.args[which], n.args[1 - which]
    return where_(_less(b, a), g, where_(_less(a, b), ZERO, mul(g, HALF)))


def _pow(n: Symbol, g: Symbol) -> tuple[Symbol, ...]:
    base, exponent = n.args
    return (mul(g, mul(const(exponent), base ** (exponent - 1.0))),)


def _abs(n: Symbol, g: Symbol) -> tuple[Symbol, ...]:
    (x,) = n.args
    return (where_(_less(x, ZERO), neg(g), where_(_less(ZERO, x), g, ZERO)),)


def _clip(n: Symbol, g: Symbol) -> tuple[Symbol, ...]:
    x, low, high = n.args
    return (where_(_less(x, low), ZERO, where_(_less(high, x), ZERO, g)), ZERO, ZERO)


# op -> rule(node, adjoint of the node) -> adjoint for each operand; the node itself is its value.
RULES: dict[str, Callable[[Symbol, Symbol], tuple[Symbol, ...]]] = {
    "add": lambda n, g: (g, g),
    "sub": lambda n, g: (g, neg(g)),
    "neg": lambda n, g: (neg(g),),
    "mul": lambda n, g: (mul(g, n.args[1]), mul(g, n.args[0])),
    "div": lambda n, g: (div(g, n.args[1]), neg(mul(g, div(n, n.args[1])))),
    "pow": _pow,
    "sigmoid": lambda n, g: (mul(g, mul(n, ONE - n)),),
    "tanh": lambda n, g: (mul(g, ONE - mul(n, n)),),
    "relu": lambda n, g: (where_(_less(ZERO, n), g, ZERO),),
    "exp": lambda n, g: (mul(g, n),),
    "log": lambda n, g: (div(g, n.args[0]),),
    "sqrt": lambda n, g: (div(mul(g, HALF), n),),
    "rsqrt": lambda n, g: (mul(mul(g, const(-0.5)), mul(n, mul(n, n))),),
    "abs": _abs,
    "maximum": lambda n, g: (_where_greater(n, 0, g), _where_greater(n, 1, g)),
    "minimum": lambda n, g: (_where_greater(n, 1, g), _where_greater(n, 0, g)),
    "clip": _clip,
    "where": lambda n, g: (ZERO, where_(n.args[0], g, ZERO), where_(n.args[0], ZERO, g)),
    # The broadcast mean over the units is a symmetric matrix: its adjoint is itself.
    "mean": lambda n, g: (Symbol("mean", g),),
}
OPAQUE = ("leaf", "const", "stop", "lt", "le", "mod")  # nothing passes below these


def is_previous(node: Symbol) -> bool:
    """Whether the node is a state of the step before, with or without ``stop``."""
    if node.op == "stop":
        (node,) = node.args
    return node.op == "leaf" and node.args[0] == "prev"


def reverse(outputs: list[Symbol], seeds: list[Symbol]) -> Adjoints:
    """Return the adjoint of every node that the outputs depend on.

    ``u.k @ v`` has the adjoint ``du_k``; blocks with the same operand v form one group, whose share
    in the adjoint of v is one new node ``pull(blocks, du...) = sum_k du_k U_k``. A product with a
    state of the step before has no pull here: its share is the product with which the backward pass
    of that earlier step begins (`minirnn.equations.plan`).
    """
    adjoints: Adjoints = {}

    def receive(node: Symbol, g: Symbol) -> None:
        if is_const(g, 0.0) or is_const(node):
            return
        adjoints[node] = add(adjoints[node], g) if node in adjoints else g

    for out, seed in zip(outputs, seeds, strict=True):
        receive(out, seed)
    pending: dict[Symbol, list[Symbol]] = {}  # operand -> its products, in order of appearance
    order = postorder(outputs)
    for node in order:
        if node.op == "product":
            pending.setdefault(node.args[1], []).append(node)
    for node in reversed(order):
        if node in pending and node.op != "stop" and not is_previous(node):
            live = [p for p in pending[node] if p in adjoints]
            if live:
                blocks = tuple(p.args[0] for p in live)
                receive(node, Symbol("pull", blocks, *(adjoints[p] for p in live)))
        g = adjoints.get(node)
        if g is None or node.op in OPAQUE or node.op == "product":
            continue
        for operand, share in zip(node.operands, RULES[node.op](node, g), strict=True):
            receive(operand, share)
    return adjoints
