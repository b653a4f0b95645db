"""What Hypothesis draws: shapes, lengths, layers, and whole cells from the grammar."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

import minirnn
from minirnn import equations

# Below, at and above 2, 4, 8 and 16 lanes, and odd.
UNITS = (1, 2, 3, 5, 7, 8, 9, 16, 17, 33)


@dataclass(frozen=True)
class Case:
    """Sizes of one run; its numbers come from ``seed`` so that examples stay cheap to draw.

    T steps, B batch, I input size, H hidden size, L layers; lengths: None or a tuple of B integers.
    """

    T: int
    B: int
    I: int  # noqa: E741 - the letter of the input size everywhere
    H: int
    L: int = 1
    bidirectional: bool = False
    bias: bool = True
    lengths: tuple[int, ...] | None = None
    seed: int = 0


@st.composite
def cases(
    draw,
    max_steps=9,
    max_batch=18,
    units=UNITS,
    max_layers=2,
    directions=(False, True),
    biases=(True, True, False),
):
    """Draw sizes; a third of the cases carry lengths, which may be 0."""
    steps = draw(st.integers(1, max_steps))
    batch = draw(st.integers(1, max_batch))
    lengths = None
    if draw(st.integers(0, 2)) == 0:
        lengths = tuple(draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
    return Case(
        T=steps,
        B=batch,
        I=draw(st.integers(1, 9)),
        H=draw(st.sampled_from(units)),
        L=draw(st.integers(1, max_layers)),
        bidirectional=draw(st.sampled_from(directions)),
        bias=draw(st.sampled_from(biases)),
        lengths=lengths,
        seed=draw(st.integers(0, 2**16)),
    )


# ---- cells drawn from the grammar ---------------------------------------------------------------
# An expression is a tuple (operation, *arguments). Every operation keeps bounded values bounded,
# so that no drawn cell explodes: exp sees a tanh, a root sees 1 + v^2, a divisor is at least 1.

LEAVES = {"wx", "prev", "p", "product"}
SMOOTH = {
    "tanh": lambda f, a: f.tanh(a),
    "sigmoid": lambda f, a: f.sigmoid(a),
    "exp": lambda f, a: f.exp(-f.tanh(a)),
    "log": lambda f, a: f.log(1 + a * a),
    "sqrt": lambda f, a: f.sqrt(a * a + 1),
    "rsqrt": lambda f, a: a * f.rsqrt(a * a + 1),
    "cube": lambda f, a: f.tanh(a) ** 3,
    "negative": lambda f, a: -a,
    "affine": lambda f, a: 0.5 * a - 0.25,
    "add": lambda f, a, b: a + b,
    "subtract": lambda f, a, b: a - b,
    "multiply": lambda f, a, b: a * f.tanh(b),
    "divide": lambda f, a, b: a / (1 + b * b),
    "mix": lambda f, a, b: a + f.sigmoid(b) * (a - b),
}
KINKED = {
    "relu": lambda f, a: f.relu(a),
    "abs": lambda f, a: f.abs(a),
    "clip": lambda f, a: f.clip(a, -0.5, 0.75),
    "maximum": lambda f, a, b: f.maximum(a, b),
    "minimum": lambda f, a, b: f.minimum(a, 0.5 * b),
    "where": lambda f, a, b: f.where(a < b, f.tanh(a), b - a),
}
STOPPED = {"stop": lambda f, a: a * f.stop(f.sigmoid(a))}
OPERATIONS = SMOOTH | KINKED | STOPPED
BINARY = ("add", "subtract", "multiply", "divide", "mix", "maximum", "minimum", "where")


def evaluate(expression, wx, u, prev, p, memo):
    """Value of an expression on whatever wx, u, prev and p hold; shared parts once."""
    if id(expression) in memo:
        return memo[id(expression)]
    operation, *arguments = expression
    if operation in ("wx", "prev", "p"):
        group = {"wx": wx, "prev": prev, "p": p}[operation]
        value = getattr(group, arguments[0])
    elif operation == "product":
        block, operand = arguments
        value = getattr(u, block) @ evaluate(operand, wx, u, prev, p, memo)
    else:
        values = [evaluate(part, wx, u, prev, p, memo) for part in arguments]
        value = OPERATIONS[operation](equations, *values)
    memo[id(expression)] = value
    return value


def show(expression):
    """Write an expression as text, for a failure's message."""
    operation, *arguments = expression
    if operation in ("wx", "prev", "p"):
        return f"{operation}.{arguments[0]}"
    if operation == "product":
        return f"(u.{arguments[0]} @ {show(arguments[1])})"
    return f"{operation}({', '.join(show(part) for part in arguments)})"


@dataclass(frozen=True)
class Program:
    """A cell drawn from the grammar: what ``@cell`` is told, and one expression per state."""

    gates: str
    state: str
    products: str
    unbiased: str
    vectors: tuple[str, ...]
    results: tuple[tuple, ...] = field(repr=False)

    def __str__(self):
        lines = [f"{k} = {show(e)}" for k, e in zip(self.state, self.results, strict=True)]
        told = f"gates={self.gates} state={self.state} products={self.products} "
        told += f"unbiased={self.unbiased} vectors={self.vectors}"
        return "\n".join([told, *lines])

    __repr__ = __str__

    def equations(self, wx, u, prev, p):
        """Return the new states: the function a user would write."""
        memo = {}
        values = tuple(evaluate(e, wx, u, prev, p, memo) for e in self.results)
        return values if len(values) > 1 else values[0]

    def cell(self):
        """Make the cell of these equations."""

        def user_made(wx, u, prev, p):
            return self.equations(wx, u, prev, p)

        return minirnn.cell(
            gates=self.gates,
            state=self.state,
            products=self.products,
            unbiased=self.unbiased,
            vectors=self.vectors,
        )(user_made)


@st.composite
def programs(draw, operations=None, max_gates=4, max_states=3, max_vectors=2):
    """Draw a cell: up to four gates and three states, with products of earlier results."""
    table = OPERATIONS if operations is None else operations
    unary = sorted(k for k in table if k not in BINARY)
    binary = sorted(k for k in table if k in BINARY)
    gates = "ifgo"[: draw(st.integers(1, max_gates))]
    state = "hcm"[: draw(st.integers(1, max_states))]
    vectors = ("v_a", "v_b")[: draw(st.integers(0, max_vectors))]

    def pick(values):
        return draw(st.sampled_from(values))

    previous = [("prev", k) for k in state]
    activations, products = [], ""
    for k in gates:
        value = ("wx", k)
        if draw(st.integers(0, 5)):  # else a gate of the input alone
            operand = pick(previous)
            if activations and draw(st.booleans()):
                # Something computed inside the step: a second stage.
                operand = pick([("multiply", pick(activations), operand), pick(activations)])
            product = ("product", k, operand)
            if activations and draw(st.booleans()):
                product = ("multiply", product, pick(activations))
            value = ("add", value, product)
            products += k
        if vectors and draw(st.booleans()):
            value = ("add", value, ("multiply", pick(previous), ("p", pick(vectors))))
        activations.append((pick(["tanh", "sigmoid", pick(unary)]), value))
    if draw(st.integers(0, 3)) == 0:  # a block beside the gates
        activations.append(("tanh", ("product", "y", pick(previous + activations))))
        products += "y"
    unbiased = pick(["", "", products[-1:]])

    # Every activation and vector reaches a state: they are dealt out, then twisted and squashed.
    dealt = [*activations, *(("p", name) for name in vectors)]
    results = []
    for j in range(len(state)):
        value = pick(previous)
        for part in dealt[j :: len(state)]:
            value = (pick(binary), value, part)
        for _ in range(draw(st.integers(0, 2))):
            value = (pick(binary), value, pick(previous + activations + results))
        squash = pick(["tanh", "mix", "rsqrt"])
        results.append((squash, value, pick(previous)) if squash == "mix" else (squash, value))
    return Program(gates, state, products, unbiased, vectors, tuple(results))


def smooth_programs(**options):
    """Cells without a kink and without ``stop``: a numeric derivative can be trusted."""
    return programs(operations=SMOOTH, **options)
