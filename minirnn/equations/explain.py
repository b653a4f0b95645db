"""A cell explained: equations, derivatives, what is saved and why, stages, flops and bytes."""

from minirnn.equations.cell import Cell
from minirnn.equations.levels import gate_nodes, levels
from minirnn.equations.naming import Lines, lines
from minirnn.equations.notation import ATOM
from minirnn.equations.page import LatexPage, TextPage
from minirnn.equations.plan import Plan, plan
from minirnn.equations.symbols import Symbol, leaf, postorder

_PAGES = {"text": TextPage, "latex": LatexPage}


def explain(cell: Cell, format: str = "text") -> str:
    """Return the account of a cell, as "text" or as "latex" (a fragment that needs amsmath)."""
    if format not in _PAGES:
        raise ValueError(
            f"{cell.name}.explain: format must be one of {', '.join(_PAGES)}, got {format!r}"
        )
    read, made = lines(cell), plan(cell)
    page = _PAGES[format](read.operand)
    _names(page, cell)
    _equations(page, cell, read)
    _derivatives(page, cell, read)
    _parameters(page, cell, read)
    _saved(page, cell, read, made)
    _stages(page, cell, read, made)
    _cost(page, cell, read, made)
    return page.text()


def _names(page: TextPage, cell: Cell) -> None:
    page.title(cell.name)
    rows = [("states", page.names("v", cell.state)), ("gates", page.names("v", cell.gates))]
    if cell.products != cell.gates:
        rows.append(("blocks", page.blocks(cell.products) or "none"))
    if cell.vectors:
        rows.append(("vectors", page.names("p", cell.vectors)))
    for k, values in cell.constants.items():
        rows.append(
            (f"constant {page.names('p', [k])}", " ".join(f"{v:g}" for v in values) + " by module")
        )
    if cell.upper:
        rows.append(("upper triangular", page.blocks(cell.upper)))
    if cell.unused:
        rows.append(("unused", f"{page.names('v', cell.unused)}, gradient 0"))
    page.items(rows)


def _equations(page: TextPage, cell: Cell, read: Lines) -> None:
    note = "every product has its bias"
    if cell.unbiased:
        note += f", but for {page.blocks(cell.unbiased)}"
    page.heading("Equations", note)
    page.equations(
        (page.write.leaf("v", line.name)[0], "=", page.write.write(line.expression))
        for line in read.equations
    )


def _derivatives(page: TextPage, cell: Cell, read: Lines) -> None:
    arriving = " ".join(page.math(page.derivative(leaf("v", k))) for k in cell.state)
    verb = "arrives" if len(cell.state) == 1 else "arrive"
    page.heading(
        "Derivatives", f"of the loss; {arriving} {verb} from the output and from the step after"
    )
    page.equations(
        (
            " = ".join(page.derivative(n) for n in d.targets),
            page.grows if d.arrives else "=",
            page.write.write(d.expression),
        )
        for d in read.derivatives
    )


def _parameters(page: TextPage, cell: Cell, read: Lines) -> None:
    page.heading("Gradients of parameters", "sums over steps and sequences; a bias has no factor")
    rows = []
    if used := [k for k in cell.gates if k not in cell.unused]:
        rows.append((page.weight_gradient("W", None), f"k = {page.words(used)}"))
    for v, blocks in _by_operand(read).items():
        rows.append((page.weight_gradient("U", v), f"k = {page.words(blocks)}"))
    if cell.vectors:
        vectors = " ".join(page.math(page.derivative(leaf("p", k))) for k in cell.vectors)
        rows.append(("vectors", f"{vectors}, as above"))
    page.items(rows)


def _by_operand(read: Lines) -> dict[Symbol, list[str]]:
    groups: dict[Symbol, list[str]] = {}
    for k, v in read.operand.items():
        groups.setdefault(v, []).append(k)
    return groups


# What is saved


def kept(cell: Cell, read: Lines, made: Plan) -> dict[Symbol, list[Symbol]]:
    """Return what a step keeps for the backward pass, and the derivatives that read it.

    Keys as the lines write them: saved values, vectors computed inside the step that are
    multiplied with blocks, then states; a list holds the first target of each reading line.
    """
    stored = [read.shown(n) for n in (*made.saved, *made.operands)]
    stored = list(dict.fromkeys([*stored, *(leaf("v", k) for k in cell.state)]))
    expressions = {line.name: line.expression for line in read.equations}
    readers: dict[Symbol, list[Symbol]] = {n: [] for n in stored}
    for d in read.derivatives:
        stack, seen = [d.expression], set()
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen.add(n)
            if n.op == "leaf" and n.args[0] == "prev":
                n = leaf("v", n.args[1])
            if n in readers:
                if d.targets[0] not in set(readers[n]):
                    readers[n].append(d.targets[0])
            elif n.op == "leaf" and n.args[0] == "v":
                stack.append(expressions[n.args[1]])
            else:
                stack.extend(n.operands)
    return readers


def _saved(page: TextPage, cell: Cell, read: Lines, made: Plan) -> None:
    page.heading("Kept for the backward pass", "one vector a step each, beside the input")
    watched = {read.shown(n) for n in gate_nodes(cell).values()}
    states = {leaf("v", k): k for k in cell.state}
    operands = _by_operand(read)
    rows = []
    for what, readers in kept(cell, read, made).items():
        readers_of = [page.math(page.derivative(n)) for n in readers]
        multiplied = leaf("prev", states[what]) if what in states else what
        readers_of += [page.math(page.gradient_of(k)) for k in operands.get(multiplied, ())]
        fallback = "watch" if what in watched else "a later stage"
        if what in states:
            fallback = "the step after"
        name = page.math(page.write.write(what)) + (", a state" if what in states else "")
        rows.append((name, f"for {', '.join(readers_of) or fallback}"))
    page.items(rows)


# What it costs


def _stages(page: TextPage, cell: Cell, read: Lines, made: Plan) -> None:
    page.heading("Stages", "products or means of what is known, then equations")
    level = levels(cell.outputs)
    rows = []
    for index in range(len(made.forward)):
        parts = [
            page.math(f"{page.products(g.blocks)} {page.write.at(read.shown(g.operand), ATOM)}")
            for g in made.groups
            if g.level == index
        ]
        means = [n for n in postorder(cell.outputs) if n.op == "mean" and level[n] == index]
        parts += [page.math(page.write.write(read.shown(n))) for n in means]
        done = [line.name for line in read.equations if max(0, level[line.node]) == index]
        first = ", ".join(parts)
        then = page.names("v", done)
        rows.append((f"{index + 1}", f"{first}; then {then}" if first and then else first or then))
    rows.append(("backward", f"{_count(len(made.backward), 'stage')}, with the blocks transposed"))
    page.items(rows)


def _cost(page: TextPage, cell: Cell, read: Lines, made: Plan) -> None:
    page.heading(
        "Cost of a step",
        f"{page.math('B')} sequences, {page.math('I')} inputs, {page.math('H')} units, "
        f"{page.math('b')} bytes a number",
    )
    wide, tall = _times(len(cell.gates), "I"), _times(_blocks(cell), "H")
    per_unit = " + ".join(filter(None, (wide, tall)))
    forward = _operations([line.expression for line in read.equations])
    backward = _operations([d.expression for d in read.derivatives])
    own = sum(len(g.blocks) for g in made.groups if g.index not in made.shared)
    count = len(kept(cell, read, made))

    matrix = _times(_blocks(cell), "H^2 b") or "0"
    buffers = _times(2 * len(cell.gates) + own, "B H b") or "0"

    def flops(factor: int) -> str:
        return page.math(f"{factor} B H ({per_unit})") + " flops in products"

    page.items([
        ("forward", f"{flops(2)}, {forward} operations a unit"),
        ("backward", f"{flops(4)}, {backward} operations a unit"),
        ("training", flops(6)),
        ("weights", f"{page.math(matrix)} bytes forward and again backward, "
                    "read once for all sequences"),
        ("kept", f"{page.math(_times(count, 'B H b') + ' + B I b')} bytes, as listed"),
        ("working", f"{page.math(buffers)} bytes: input products, and the derivatives of both "
                    "products"),
    ])  # fmt: skip


def _blocks(cell: Cell) -> float:
    """Count the blocks of the recurrent matrix; a triangular one by the share that is not 0."""
    total = 0.0
    for k in cell.products:
        modules = len(next(iter(cell.constants.values()))) if k in cell.upper else 1
        total += (modules + 1) / (2 * modules)
    return total


def _times(count: float, unit: str) -> str:
    """Write a multiple; nothing for 0 of it."""
    return "" if not count else unit if count == 1 else f"{count:g} {unit}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _operations(expressions: list[Symbol]) -> int:
    """Count operations unit by unit, shared ones once."""
    nodes = postorder(expressions)
    return sum(n.op not in ("leaf", "const", "stop", "transposed") for n in nodes)
