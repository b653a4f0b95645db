"""What a kernel has to do for a cell: stages, products, what is stored where, what must be saved.

A *stage* is a product of some vectors of the step with blocks of the recurrent matrix, followed by
pointwise equations on its result. The level of an expression tells its stage: ``u.k @ v`` is one
level above v; pointwise work is on the level of its highest argument. Backward the same rule holds,
with ``pull`` (the product with the transposed blocks) in the place of ``@``.
"""

from functools import cache

from minirnn.equations.cell import Cell
from minirnn.equations.derive import ZERO, Adjoints, is_previous, reverse
from minirnn.equations.levels import ACTIVATIONS, gate_nodes, is_given, levels
from minirnn.equations.sharing import moved, shared_places
from minirnn.equations.stages import Group, Plan, Shared, Slot, Stage, digest
from minirnn.equations.symbols import Symbol, add, leaf, postorder

# Nodes whose value is kept rather than computed again when a later stage or pass needs it.
KEPT = (*ACTIVATIONS, "exp", "log", "sqrt", "rsqrt", "div", "pow", "product", "mean", "pull")


@cache
def plan(cell: Cell) -> Plan:
    """Return the plan of a cell."""
    return _Planner(cell).plan()


class _Planner:
    """Works out a plan; a class only because the steps share what they have found so far."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.level = levels(cell.outputs)
        self.order = postorder(cell.outputs)
        self.position = {n: i for i, n in enumerate(self.order)}
        self.states = {n: k for k, n in zip(cell.state, cell.outputs, strict=True)}
        self.groups = self._groups()
        self.operands = tuple(g.operand for g in self.groups if g.source.startswith("operand"))
        self.operand_of = {n: i for i, n in enumerate(self.operands)}
        self.gate_nodes = gate_nodes(cell)
        self.level |= levels(self.gate_nodes.values())
        self.saved: dict[Symbol, int] = {}  # in order
        self.means = {n: i for i, n in enumerate(n for n in self.order if n.op == "mean")}

    def plan(self) -> Plan:
        cell = self.cell
        adjoints, seeds = self._adjoints()
        self.adjoints = adjoints
        du = {g.index: [adjoints.get(p, ZERO) for p in g.products] for g in self.groups}
        dwx = {k: adjoints.get(leaf("wx", k), ZERO) for k in cell.gates}
        self.segments, shared = self._segments(du, dwx)
        roots = self._backward_roots(du, dwx, shared)
        self._choose_saved([node for _, node in roots])
        forward = self._forward_stages()  # may add to what is saved
        backward, drain, pulls = self._backward_stages(roots, seeds)
        forward = self._forward_stages()
        to, apart = shared_places(self.segments, len(self.saved), forward, backward)
        gate_slots = {k: s for k, n in self.gate_nodes.items() if (s := self._place(n))}
        made = Plan(
            cell=cell, groups=self.groups, segments=self.segments, shared=shared,
            saved=tuple(self.saved), saved_apart=apart,
            forward=tuple(moved(s, to) for s in forward),
            backward=tuple(moved(s, to) for s in backward), drain=drain, operands=self.operands,
            gate_slots={k: to.get(s, s) for k, s in gate_slots.items()},
            pulls=pulls, means=len(self.means), backward_means=self.backward_means,
            inner=self.inner,
        )  # fmt: skip
        object.__setattr__(made, "digest", digest(made))
        return made

    # The forward graph

    def _groups(self) -> tuple[Group, ...]:
        members: dict[Symbol, list[Symbol]] = {}
        products = {n.args[0]: n for n in self.order if n.op == "product"}
        for block in self.cell.products:  # in the cell's order
            if block in products:
                members.setdefault(products[block].args[1], []).append(products[block])
        found, inner = [], 0
        ordered = sorted(members.items(), key=lambda item: self.level[item[1][0]])
        for index, (operand, nodes) in enumerate(ordered):
            if is_previous(operand):
                state = (operand.args[0] if operand.op == "stop" else operand).args[1]
                source, carried = f"prev.{state}", None if operand.op == "stop" else state
            else:
                source, carried, inner = f"operand.{inner}", None, inner + 1
            found.append(Group(
                index, operand, tuple(n.args[0] for n in nodes), tuple(nodes),
                self.level[nodes[0]], source, carried,
            ))  # fmt: skip
        return tuple(found)

    def _place(self, node: Symbol) -> Slot | None:
        """Where a value of the forward pass lies afterwards."""
        if node in self.saved:
            return Slot("saved", self.saved[node], len(self.saved))
        if node.op == "leaf":
            kind, name = node.args
            return None if kind in ("wx", "time") else Slot(f"{kind}.{name}")
        if node in self.means:
            return Slot(f"mean.{self.means[node]}")
        if node in self.states:
            return Slot(f"next.{self.states[node]}")
        if node in self.operand_of:
            return Slot(f"operand.{self.operand_of[node]}")
        return None

    def _save(self, node: Symbol) -> None:
        self.saved.setdefault(node, len(self.saved))

    def _cut(self, node: Symbol) -> set[Symbol]:
        """Return the values that have to be kept so that this one can be had again."""
        if node.op in ("const", "lt", "le") and not node.operands:
            return set()
        if self._place(node) or (node.op == "leaf" and node.args[0] == "time"):
            return set()
        if node.op in KEPT or node.op == "leaf":
            return {node}
        parts: set[Symbol] = set().union(*(self._cut(a) for a in node.operands))
        # Keeping two or more parts of a sum is dearer than keeping the sum.
        if len(parts) > 1 and node.op not in ("lt", "le", "where", "mod"):
            return {node}
        return parts

    def _choose_saved(self, roots: list[Symbol]) -> None:
        """Save what the backward roots read of the forward pass, and the gates for `watch`."""
        forward = set(self.order)
        needed: list[Symbol] = []
        seen: set[Symbol] = set()
        stack = list(reversed(roots))
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in forward:
                needed.append(node)
            else:
                stack.extend(reversed(node.operands))
        gates = list(self.gate_nodes.values())
        for node in sorted(needed, key=lambda n: n.op not in KEPT):  # what is kept anyway first
            for part in sorted(self._cut(node), key=self.position.__getitem__):
                self._save(part)
        for node in gates:
            if not self._place(node):
                self._save(node)

    def _forward_stages(self) -> tuple[Stage, ...]:
        cell = self.cell
        roots = [(Slot(f"next.{k}"), n) for k, n in zip(cell.state, cell.outputs, strict=True)]
        roots += [(Slot(f"operand.{i}"), n) for i, n in enumerate(self.operands)]
        roots += [(Slot(f"sum.{i}"), n.args[0]) for n, i in self.means.items()]
        count = 1 + max(max(0, self.level[n]) for _, n in roots)
        stages: list[Stage] = []
        for level in range(count):
            while True:  # what a later stage reads of an earlier one is saved: until nothing is new
                before = len(self.saved)
                saved = [(Slot("saved", i, before), n) for n, i in self.saved.items()]
                stores = [(s, n) for s, n in (*roots, *saved) if max(0, self.level[n]) == level]
                groups = [g for g in self.groups if g.level == level]
                stage = self._forward_stage(level, groups, stores)
                if len(self.saved) == before:
                    break
            stages.append(stage)
        return tuple(stages)

    def _forward_stage(
        self, level: int, groups: list[Group], stores: list[tuple[Slot, Symbol]]
    ) -> Stage:
        accumulators = {
            p: (pos, m) for pos, g in enumerate(groups) for m, p in enumerate(g.products)
        }
        sources: dict[Symbol, Slot] = {}
        stack, seen = [n for _, n in stores], set()
        while stack:
            node = stack.pop()
            if node in seen or node in accumulators:
                continue
            seen.add(node)
            if node.op == "leaf" and node.args[0] == "wx":
                sources[node] = self._wx_slot(node.args[1], "x")
            elif node.op == "leaf" and node.args[0] != "time":
                sources[node] = Slot(f"{node.args[0]}.{node.args[1]}")
            elif node in self.means:
                sources[node] = Slot(f"mean.{self.means[node]}")
            elif -1 < self.level[node] < level and (slot := self._place(node)):
                sources[node] = slot
            elif self.level[node] < level and node.op in KEPT:
                self._save(node)
                sources[node] = Slot("saved", self.saved[node], len(self.saved))
            else:
                stack.extend(node.operands)
        means = tuple(
            (f"sum.{i}", f"mean.{i}") for n, i in self.means.items() if self.level[n] == level
        )
        return Stage(
            tuple(g.index for g in groups), accumulators, sources, tuple(stores), means=means
        )

    def _wx_slot(self, gate: str, buffer: str) -> Slot:
        for s, names in enumerate(self.segments):
            if gate in names:
                return Slot(f"{buffer}.{s}", names.index(gate), len(names))
        raise KeyError(gate)

    # The backward graph

    def _adjoints(self) -> tuple[Adjoints, dict[str, Symbol]]:
        """Derive the adjoints; the seed of state k is what arrives from outside the step."""
        seeds = {}
        for k in self.cell.state:
            seed = add(leaf("carry", k), leaf("ext", k))
            for g in self.groups:
                if g.carried == k:
                    seed = add(seed, Symbol("arrive", g.index))
            seeds[k] = seed
        return reverse(list(self.cell.outputs), [seeds[k] for k in self.cell.state]), seeds

    def _segments(
        self, du: dict[int, list[Symbol]], dwx: dict[str, Symbol]
    ) -> tuple[tuple[tuple[str, ...], ...], dict[int, Shared]]:
        """Order the gates so that as many products as possible share their derivatives' columns.

        A product can do so if each of its blocks has the derivative of one gate, and these gates
        are all those of some neighbouring segments. Smaller sets first: they cut the larger ones.
        """
        gate_of = {d: k for k, d in reversed(dwx.items()) if d is not ZERO}
        wanted = {}
        for g in self.groups:
            gates = [gate_of[d] for d in du[g.index] if d in gate_of]
            if len(set(gates)) == len(g.blocks):
                wanted[g.index] = dict(zip(gates, g.blocks, strict=True))
        segments: list[tuple[str, ...]] = []
        shared: dict[int, Shared] = {}
        for index, blocks in sorted(wanted.items(), key=lambda item: len(item[1])):
            run = _run_of(set(blocks), segments, self.cell.gates)
            if run is not None:
                shared[index] = tuple((s, tuple(blocks[k] for k in segments[s])) for s in run)
        left = tuple(k for k in self.cell.gates if all(k not in names for names in segments))
        return (*segments, left) if left else tuple(segments), shared

    def _backward_roots(
        self, du: dict[int, list[Symbol]], dwx: dict[str, Symbol], shared: dict[int, Shared]
    ) -> list[tuple[Slot, Symbol]]:
        cell = self.cell
        roots = [(self._wx_slot(k, "dx"), dwx[k]) for k in cell.gates]
        for g in self.groups:
            if g.index not in shared:
                n = len(g.blocks)
                roots += [(Slot(f"du.{g.index}", m, n), d) for m, d in enumerate(du[g.index])]
        get = self.adjoints.get
        roots += [(Slot(f"dp.{k}"), get(leaf("p", k), ZERO)) for k in cell.vectors]
        if "below" in cell.arguments:
            roots += [(Slot(f"dbelow.{k}"), get(leaf("below", k), ZERO)) for k in cell.state]
        roots += [(Slot(f"carried.{k}"), get(leaf("prev", k), ZERO)) for k in cell.state]
        return roots

    def _backward_stages(
        self, roots: list[tuple[Slot, Symbol]], seeds: dict[str, Symbol]
    ) -> tuple[tuple[Stage, ...], Stage, int]:
        forward = frozenset(self.order)
        within = {
            # A state that is only handed on has no use of its own inside the step.
            k: seeds[k] if is_given(n) else self.adjoints.get(n, ZERO)
            for k, n in zip(self.cell.state, self.cell.outputs, strict=True)
        }
        self.inner = {k: f"total.{k}" if n is seeds[k] else f"inner.{k}" for k, n in within.items()}
        inner = [(Slot(f"inner.{k}"), n) for k, n in within.items() if n is not seeds[k]]
        level = levels([n for _, n in (*roots, *inner)] + list(seeds.values()), forward)
        pulls = sorted((n for n in level if n.op == "pull"), key=lambda n: (level[n], n.args[0]))
        slots = {n: Slot(f"pull.{i}") for i, n in enumerate(pulls)}
        fresh = sorted(
            (n for n in level if n.op == "mean" and n not in forward), key=lambda n: level[n]
        )
        mean_of = {n: i for i, n in enumerate(fresh)}
        self.backward_means = len(mean_of)
        roots = roots + [(Slot(f"bsum.{i}"), n.args[0]) for n, i in mean_of.items()]
        slots |= {n: Slot(f"bmean.{i}") for n, i in mean_of.items()}
        last = max(0, *level.values())
        of = {g.blocks: g for g in self.groups}
        kept: dict[Symbol, Slot] = {}  # values of this pass that a later stage reads
        arriving = {seeds[k]: Slot(f"carry.{k}") for k in seeds}

        def at(node: Symbol, slot: Slot) -> int:
            # carried.k lies where carry.k lay: nothing may read that any more.
            return last if slot.buffer.startswith("carried") else max(0, level[node])

        def stage(index: int) -> Stage:
            if index == 0:
                groups = [g for g in self.groups if g.carried]
                acc = {Symbol("arrive", g.index): (i, 0) for i, g in enumerate(groups)}
            else:
                here = [n for n in pulls if level[n] == index]
                groups = [_group_of(of, n) for n in here]
                acc = {n: (i, 0) for i, n in enumerate(here)}
            stores = [(s, n) for s, n in roots if at(n, s) == index]
            watched = [(s, n) for s, n in inner if at(n, s) == index]
            if index == 0:
                watched += [(Slot(f"total.{k}"), n) for k, n in seeds.items()]
            stores += [(s, n) for n, s in kept.items() if max(0, level[n]) == index]
            sources = self._backward_sources(index, level, acc, [*stores, *watched], arriving, kept,
                                             slots, forward)  # fmt: skip
            means = tuple(
                (f"bsum.{i}", f"bmean.{i}") for n, i in mean_of.items() if level[n] == index
            )
            return Stage(
                tuple(g.index for g in groups), acc, sources, tuple(stores), tuple(watched), means
            )

        while True:
            before = len(kept)
            stages = tuple(stage(i) for i in range(last + 1))
            if len(kept) == before:
                break
        begin = stages[0]
        stores = tuple((s, n) for n, s in arriving.items())
        sources = {leaf("carry", k): Slot(f"carry.{k}") for k in self.cell.state}
        sources |= {leaf("ext", k): Slot(f"ext.{k}") for k in self.cell.state}
        drain = Stage(begin.groups, begin.accumulators, sources, stores)
        return stages, drain, len(pulls)

    def _backward_sources(
        self, index: int, level: dict[Symbol, int], acc: dict[Symbol, tuple[int, int]],
        stores: list[tuple[Slot, Symbol]], arriving: dict[Symbol, Slot], kept: dict[Symbol, Slot],
        slots: dict[Symbol, Slot], forward: frozenset[Symbol],
    ) -> dict[Symbol, Slot]:  # fmt: skip
        sources: dict[Symbol, Slot] = {}
        stack, seen = [n for _, n in stores], set()
        while stack:
            node = stack.pop()
            if node in seen or node in acc:
                continue
            seen.add(node)
            if node in forward and (slot := self._place(node)):
                sources[node] = slot
            elif node.op == "leaf" and node.args[0] in ("carry", "ext", "p", "prev", "below"):
                sources[node] = Slot(f"{node.args[0]}.{node.args[1]}")
            elif index > 0 and node in arriving:
                kept[node] = sources[node] = arriving[node]
            elif node.op == "mean":
                sources[node] = slots[node]
            elif node.op == "pull":  # of an earlier stage
                kept[node] = sources[node] = slots[node]
            else:
                stack.extend(node.operands)
        return sources


def _group_of(groups: dict[tuple[str, ...], Group], pull: Symbol) -> Group:
    for blocks, g in groups.items():
        if set(pull.args[0]) <= set(blocks):
            return g
    raise KeyError(pull)


def _run_of(
    gates: set[str], segments: list[tuple[str, ...]], order: tuple[str, ...]
) -> range | None:
    """Return the neighbouring segments that hold just these gates, adding one at the end if needed.

    None if the segments there are stand in the way.
    """
    inside = [s for s, names in enumerate(segments) if gates & set(names)]
    covered = {k for s in inside for k in segments[s]}
    new = tuple(k for k in order if k in gates - covered)
    first = inside[0] if inside else len(segments)
    if covered - gates or inside != list(range(first, first + len(inside))):
        return None
    if new:
        if first + len(inside) != len(segments):
            return None
        segments.append(new)
    return range(first, first + len(inside) + bool(new))
