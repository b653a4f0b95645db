"""One stage of a cell, emitted as vector code: products through the tile, then the equations."""

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.equations.stages import Plan, Slot, Stage
from minirnn.equations.symbols import Symbol
from minirnn.kernels.celltype import (
    ADDRESS,
    BACKWARD,
    BLOCK,
    DRAIN,
    FORWARD,
    HEAD,
    NOW_WORDS,
    ROW,
    CellType,
    buffers,
    operand_of,
    plans,
    stages,
    tiling,
    weight_order,
)
from minirnn.kernels.tile import FROM_PANEL_NEAR, IN_PARTS, emit_call
from minirnn.kernels.vector import I64, Vector


class _StageEmitter:
    """Emits one stage; holds what its parts share."""

    def __init__(
        self, builder: Any, plan: Plan, which: int, number: int, kind: CellType,
        head: Any, now: Any,
    ) -> None:  # fmt: skip
        self.b = builder
        self.v = Vector(builder, kind.dtype)
        self.plan, self.which = plan, which
        self.stage = stages(plan, which)[number]
        self.names = buffers(plan, which)
        self.head, self.now = head, now
        self.units, self.height, self.chunks = tiling(plan, which, self.stage, kind.units[which])
        self.members = [
            len(plan.groups[g].blocks) if which == FORWARD else 1 for g in self.stage.groups
        ]
        self.vectors = self.units * sum(self.members)  # of one row of the accumulators
        order = [(g, c) for s, g, c in weight_order(plan, which) if s == number]
        base = next((i for i, w in enumerate(weight_order(plan, which)) if w[0] == number), 0)
        self.weight_index = {gc: base + i for i, gc in enumerate(order)}

    def word(self, base: Any, offset: int) -> Any:
        return self.b.load(self.v.pointer(self.b.add(base, I64(offset)), I64))

    def of(self, buffer: str, what: int) -> Any:
        return self.word(self.now, self.names.index(buffer) * NOW_WORDS + what)

    def emit(self, first: Any, last: Any, row0: Any, row1: Any, product: Any) -> None:
        """Emit the loops over columns first to last and rows row0 to row1."""
        b, v = self.b, self.v
        used = {s.buffer for s in self.stage.sources.values()}
        used |= {s.buffer for s, _ in (*self.stage.stores, *self.stage.watched)}
        self.place = {n: [self.of(n, w) for w in (ADDRESS, ROW, BLOCK)] for n in sorted(used)}
        size = max(1, self.height * self.vectors)
        scratch = cgutils.alloca_once(b, ir.ArrayType(v.type, size))
        scratch.align = 64
        self.scratch = b.ptrtoint(scratch, I64)
        self.hidden = self.word(self.head, HEAD["hidden"])
        self.watched = b.icmp_signed("!=", self.word(self.head, HEAD["watched"]), I64(0))
        blocks = self.word(self.head, HEAD["blocks"])
        for source, target in self.stage.means:
            self._mean(source, target, blocks, row0, row1)
        with cgutils.for_range(b, b.sub(last, first)) as column:
            unit = b.mul(b.add(first, column.index), I64(self.units))
            left = b.sub(blocks, unit)
            count = b.select(b.icmp_signed("<", left, I64(self.units)), left, I64(self.units))
            rows = b.sub(row1, row0)
            tiles = b.sdiv(b.add(rows, I64(self.height - 1)), I64(self.height))
            with cgutils.for_range(b, tiles) as tile:  # of about the same height
                done, after = tile.index, b.add(tile.index, I64(1))
                row = b.add(row0, b.sdiv(b.mul(rows, done), tiles))
                high = b.sub(b.add(row0, b.sdiv(b.mul(rows, after), tiles)), row)
                self._prefetch(row, unit, high, count)
                after = b.add(b.add(first, column.index), I64(1))  # the column that comes next
                after = b.select(b.icmp_signed("<", after, last), after, first)
                self._products(
                    [b.add(first, column.index), after], count, row, high, product, tile.index
                )
                self._rows(row, unit, high, count)

    def _rows(self, row: Any, unit: Any, high: Any, count: Any) -> None:
        """Emit the equations for the rows of a tile, two by two, then for the one that is left."""
        b = self.b
        pairs = b.ashr(high, I64(1))
        with cgutils.for_range(b, pairs) as pair, cgutils.for_range(b, count) as q:
            i = b.shl(pair.index, I64(1))
            self._equations(row, b.add(unit, q.index), [i, b.add(i, I64(1))], q.index)
        odd = b.icmp_signed("!=", b.and_(high, I64(1)), I64(0))
        with b.if_then(odd), cgutils.for_range(b, count) as q:
            self._equations(row, b.add(unit, q.index), [b.sub(high, I64(1))], q.index)

    def _mean(self, source: str, target: str, blocks: Any, row0: Any, row1: Any) -> None:
        """Write each row's mean over the units of a buffer, whose padding holds zeros."""
        b, v = self.b, self.v
        start, stride, block = (self.of(source, w) for w in (ADDRESS, ROW, BLOCK))
        to, to_stride = self.of(target, ADDRESS), self.of(target, ROW)
        count = b.sitofp(self.hidden, v.scalar)
        total = cgutils.alloca_once(b, v.type)
        with cgutils.for_range(b, b.sub(row1, row0)) as r:
            row = b.add(row0, r.index)
            at = b.add(start, b.mul(row, stride))
            b.store(v.const(0.0), total)
            with cgutils.for_range(b, blocks) as j:
                part = v.load(b.add(at, b.mul(j.index, block)))
                b.store(b.fadd(b.load(total), part), total)
            mean = b.fdiv(v.sum_lanes(b.load(total)), count)
            place = v.pointer(b.add(to, b.mul(row, to_stride)), v.scalar)
            b.store(mean, place, align=v.size)

    def _prefetch(self, row: Any, unit: Any, high: Any, count: Any) -> None:
        """Ask for the lines that the equations will read and write, while the product runs."""
        if not self.stage.groups:
            return
        self._ask(self.stage.sources.values(), row, unit, high, count, write=False)
        self._ask((s for s, _ in self.stage.stores), row, unit, high, count, write=True)

    def _ask(
        self, slots: Iterable[Slot], row: Any, unit: Any, high: Any, count: Any, write: bool
    ) -> None:
        """Ask for the lines of slots in a tile's rows."""
        b, v = self.b, self.v
        members: dict[str, set[int]] = {}
        for slot in slots:
            if not slot.buffer.startswith(("mean", "bmean", "p.")):
                members.setdefault(slot.buffer, set()).add(slot.member)
        with cgutils.for_range(b, high) as i, cgutils.for_range(b, count) as q:
            for buffer in sorted(members):
                start, row_stride, block = self.place[buffer]
                first = b.add(start, b.mul(b.add(row, i.index), row_stride))
                at = b.add(first, b.mul(b.add(unit, q.index), block))
                for m in sorted(members[buffer]):
                    v.prefetch(b.add(at, I64(m * v.bytes)), write)

    def _products(
        self, column: list[Any], count: Any, row: Any, high: Any, product: Any, part: Any
    ) -> None:
        """Fill the accumulators: (height, units * members) vectors, group after group.

        column: this one and the next, whose weights are fetched meanwhile, a part by each tile.
        """
        if not self.stage.groups:
            return
        b, v = self.b, self.v
        row_bytes = self.vectors * v.bytes
        with b.if_else(b.icmp_signed("!=", product, I64(0))) as (then, otherwise):
            with then:
                weights = self.word(self.head, HEAD["weights"])
                tile = self.word(self.head, HEAD["tile"])
                offset = 0
                for g, members in zip(self.stage.groups, self.members, strict=True):
                    source = operand_of(self.plan, self.which, self.stage, g)
                    stride = self.of(source, ROW)
                    a = b.add(self.of(source, ADDRESS), b.mul(row, stride))
                    at = 0
                    for c, wide in enumerate(self.chunks[g]):
                        columns = self.word(weights, self.weight_index[g, c] * 8)
                        entry, following = (b.add(columns, b.mul(c, I64(24))) for c in column)
                        panel, skipped, depth = (self.word(entry, o) for o in (0, 8, 16))
                        lines = b.mul(
                            b.srem(part, I64(wide * self.units)), self.word(following, 16)
                        )
                        ahead = b.add(self.word(following, 0), b.shl(lines, I64(6)))
                        emit_call(
                            b, tile, high, b.add(b.mul(count, I64(wide)), I64(IN_PARTS)),
                            b.add(a, skipped), stride,
                            I64(v.size), panel, depth, I64(FROM_PANEL_NEAR),
                            b.add(self.scratch, I64((offset + at) * v.bytes)), I64(row_bytes),
                            ahead,
                        )  # fmt: skip
                        at += wide
                    offset += self.units * members
            with otherwise:
                target = v.pointer(self.scratch, ir.IntType(8))
                cgutils.memset(b, target, b.mul(high, I64(row_bytes)), 0)

    def _equations(self, row: Any, unit: Any, within: list[Any], q: Any) -> None:
        """Evaluate the stage's equations for rows of the tile and one block of units."""
        b, v = self.b, Vector(self.b, self.v.dtype, len(within))
        rows = [b.add(row, i) for i in within]
        base: dict[str, list[Any]] = {}

        def addresses(slot: Slot) -> list[Any]:
            if slot.buffer not in base:
                start, row_stride, block_stride = self.place[slot.buffer]
                first = b.add(start, b.mul(unit, block_stride))
                base[slot.buffer] = [b.add(first, b.mul(r, row_stride)) for r in rows]
            offset = I64(slot.member * self.v.bytes)
            return [b.add(start, offset) for start in base[slot.buffer]]

        def accumulator(position: int, member: int) -> Any:
            before = self.units * sum(self.members[:position])
            at = b.add(b.mul(q, I64(self.members[position])), I64(before + member))
            vectors = [b.add(b.mul(i, I64(self.vectors)), at) for i in within]
            places = [b.add(self.scratch, b.mul(n, I64(self.v.bytes))) for n in vectors]
            return v.load_rows(places)

        roots = [n for _, n in self.stage.stores]
        step = self.word(self.head, HEAD["step"])
        equations = _Equations(v, self.stage, roots, addresses, accumulator, step)
        values = [equations.value(n) for n in roots]
        if self.stage.watched:  # before the stores, which may write over what it reads
            stored = (slot for slot, _ in (*self.stage.stores, *self.stage.watched))
            for slot in (*self.stage.sources.values(), *stored):
                addresses(slot)  # outside the branch, so that it may be used in several places
            with b.if_then(self.watched):
                inside = _Equations(v, self.stage, [n for _, n in self.stage.watched], addresses,
                                    accumulator, step, equations.memo)  # fmt: skip
                found = [inside.value(n) for _, n in self.stage.watched]
                for (slot, _), value in zip(self.stage.watched, found, strict=True):
                    v.store_rows(value, addresses(slot), past_caches=v.bytes == 64 * v.rows)
        left = b.sub(self.hidden, b.mul(unit, I64(v.width)))
        for (slot, _), value in zip(self.stage.stores, values, strict=True):
            if slot.buffer.startswith(
                ("dx", "du", "sum", "bsum")
            ):  # units beyond H must not enter later sums
                value = v.keep_lanes(value, left)
            v.store_rows(value, addresses(slot))


class _Equations:
    """Evaluates nodes on vectors; a product that feeds only one sum becomes a fused multiply-add.

    Which sums are fused follows from the graph alone, so that all rows have the same bits.
    """

    def __init__(
        self, v: Vector, stage: Stage, roots: list[Symbol], addresses: Any, accumulator: Any,
        step: Any, memo: dict[Symbol, Any] | None = None,
    ) -> None:  # fmt: skip
        self.v, self.stage = v, stage
        self.addresses, self.accumulator, self.step = addresses, accumulator, step
        self.memo: dict[Symbol, Any] = dict(memo or {})
        self._numbers: dict[Symbol, bool] = {}
        self.narrow: _Equations | None = None  # evaluates what is one number a row
        if v.width > 1:
            one = Vector(v.b, v.dtype, v.rows, width=1)
            self.narrow = _Equations(one, stage, roots, addresses, accumulator, step)
        self.uses: dict[Symbol, int] = {}
        stack, seen = list(roots), set()
        for n in roots:
            self.uses[n] = self.uses.get(n, 0) + 2  # a stored value is needed by itself
        while stack:
            node = stack.pop()
            if node in seen or self._given(node):
                continue
            seen.add(node)
            for a in node.operands:
                self.uses[a] = self.uses.get(a, 0) + 1
                stack.append(a)

    def _given(self, node: Symbol) -> bool:
        return node in self.memo or node in self.stage.sources or node in self.stage.accumulators

    def value(self, node: Symbol) -> Any:
        """Return the vector that holds a node's value, emitting what it takes."""
        if node not in self.memo:
            if self.narrow is not None and self._one_number(node):
                self.memo[node] = self.v.widen(self.narrow.value(node))
            elif node in self.stage.sources:
                slot = self.stage.sources[node]
                self.memo[node] = self.v.load_rows(self.addresses(slot))
            elif node in self.stage.accumulators:
                self.memo[node] = self.accumulator(*self.stage.accumulators[node])
            else:
                self.memo[node] = self._compute(node)
        return self.memo[node]

    def _one_number(self, node: Symbol) -> bool:
        """Whether a node is one number a row, a mean or something computed from means alone."""
        if node not in self._numbers:
            slot = self.stage.sources.get(node)
            if slot is not None:
                found = slot.buffer.startswith(("mean", "bmean"))
            else:
                found = node not in self.stage.accumulators and bool(node.operands)
                found = found and all(a.op == "const" or self._one_number(a) for a in node.operands)
            self._numbers[node] = found
        return self._numbers[node]

    def _lone_product(self, node: Symbol) -> bool:
        return node.op == "mul" and self.uses.get(node, 0) == 1 and not self._given(node)

    def _compute(self, node: Symbol) -> Any:
        v, b, op = self.v, self.v.b, node.op
        if op == "const":
            return v.const(node.args[0])
        if op == "leaf" and node.args[0] == "time":
            return v.splat(b.sitofp(self.step, v.scalar))
        if op in ("add", "sub"):
            first, second = node.args
            if self._lone_product(second):
                x, y = (self.value(n) for n in second.args)
                return v.fma(b.fneg(x) if op == "sub" else x, y, self.value(first))
            if self._lone_product(first):
                x, y = (self.value(n) for n in first.args)
                other = self.value(second)
                return v.fma(x, y, b.fneg(other) if op == "sub" else other)
        if op == "pow":
            return v.power(self.value(node.args[0]), node.args[1])
        if op == "mod":
            x, y = (self.value(n) for n in node.args)
            return b.fsub(x, b.fmul(y, v.intrinsic("floor", b.fdiv(x, y))))
        args = [self.value(a) for a in node.operands]
        named: dict[str, Callable[..., Any]] = {
            "add": b.fadd,
            "sub": b.fsub,
            "mul": b.fmul,
            "div": b.fdiv,
            "neg": b.fneg,
            "lt": v.less,
            "le": v.less_equal,
            "where": v.where,
            "stop": lambda x: x,
        }
        # The others carry their names: sigmoid tanh relu exp log sqrt rsqrt abs maximum ...
        return (named.get(op) or getattr(v, op))(*args)


def _define(which: int) -> Any:
    """Make the codegen of `run_stage` for a pass."""

    def define(typingctx, cell, stage, head, now, first, last, row0, row1, product):  # type: ignore[no-untyped-def]
        plan = plans[cell.digest]

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _, number, head, now, *rest = args
            end = builder.append_basic_block("end")
            switch = builder.switch(number, end)
            for n in range(len(stages(plan, which))):
                block = builder.append_basic_block(f"stage{n}")
                switch.add_case(I64(n), block)
                builder.position_at_end(block)
                _StageEmitter(builder, plan, which, n, cell, head, now).emit(*rest)
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return types.void(cell, *[types.int64] * 8), codegen

    return define


run_forward = intrinsic(_define(FORWARD))
run_backward = intrinsic(_define(BACKWARD))
run_drain = intrinsic(_define(DRAIN))
