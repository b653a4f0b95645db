"""A cell for a dtype and a hidden size: the layout of its buffers, and its packed weights."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from minirnn.equations.cell import Cell
from minirnn.equations.plan import plan
from minirnn.equations.stages import Plan, Shared
from minirnn.kernels import celltype
from minirnn.kernels.celltype import BACKWARD, DRAIN, FORWARD
from minirnn.kernels.machine import MACHINE
from minirnn.kernels.pack import aligned, interleaved, pack_plain, pack_transposed
from minirnn.kernels.tile import WIDEST, cut, panel_width, units_per_column
from minirnn.kernels.workspace import address, lend

Arrays = Mapping[str, np.ndarray]


@dataclass
class Packed:
    """Weights of one level and direction in the kernels' order.

    weight_ih (G*H, I), weight_hh (P*H, H), bias_ih (G*H,) or None, bias_hh (P*H,) or None with
    zeros for blocks without a bias, vectors: name -> (H,).
    """

    weight_ih: np.ndarray
    weight_hh: np.ndarray
    bias_ih: np.ndarray | None
    bias_hh: np.ndarray | None
    vectors: Arrays
    parts: dict[Any, Any] = field(default_factory=dict)  # packed when first needed


@lru_cache(maxsize=256)
def cell_kernel(cell: Cell, dtype: np.dtype, hidden_size: int) -> "CellKernel":
    """Return the kernels of a cell for a dtype and hidden size."""
    return CellKernel(cell, np.dtype(dtype), hidden_size)


class CellKernel:
    """A cell, a dtype and a hidden size; knows every buffer's layout."""

    def __init__(self, cell: Cell, dtype: np.dtype, hidden_size: int) -> None:
        self.cell, self.dtype, self.hidden = cell, dtype, hidden_size
        self.plan: Plan = plan(cell)
        self.lanes = MACHINE.lanes(dtype.itemsize)
        self.blocks = -(-hidden_size // self.lanes)
        self.padded = self.blocks * self.lanes
        units = units_per_column(self.blocks)
        longest = max((len(g.blocks) for g in self.plan.groups), default=0) * self.padded
        narrow = min(units, panel_width(longest))
        self.units = {FORWARD: units, BACKWARD: narrow, DRAIN: narrow}
        self.type = celltype.cell_type(self.plan, dtype.name, units, narrow)
        self.segment_columns = np.concatenate(
            [self._columns(s, cell.gates) for s in self.plan.segments]
        )
        self._lay_out_sums()
        used = {p for g in self.plan.groups for p in g.blocks}
        self.complete = not cell.upper and used == set(cell.products)  # products fill weight_hh
        self.buffers = {w: celltype.buffers(self.plan, w) for w in range(3)}
        self.columns = {w: self._stage_columns(w) for w in range(3)}

    def _stage_columns(self, which: int) -> np.ndarray:
        """Return the number of columns of each stage of a pass."""
        units = [
            celltype.tiling(self.plan, which, s, self.units[which])[0]
            for s in celltype.stages(self.plan, which)
        ]
        return np.array([-(-self.blocks // u) for u in units], np.int64)

    def _lay_out_sums(self) -> None:
        """Lay the sums over rows in one array: segments of DX, each DU of its own, each dp.

        sums: name -> range; bias_columns (G*H,), recurrent_bias_columns (P*H,): where the biases'
        gradients are; the last number is the 0 of blocks that no equation uses.
        """
        sizes = {
            f"bias_ih.{s}": len(names) * self.padded for s, names in enumerate(self.plan.segments)
        }
        for g in self.plan.groups:
            if g.index not in self.plan.shared:
                sizes[f"bias.{g.index}"] = len(g.blocks) * self.padded
        sizes |= {f"p.{n}": self.padded for n in self.cell.vectors}
        ends = np.cumsum([0, *sizes.values()]).tolist()
        self.sums = dict(zip(sizes, itertools.pairwise(ends), strict=True))
        self.sums_size = ends[-1] + self.lanes
        self.bias_columns = np.zeros(len(self.cell.gates) * self.hidden, np.int64)
        valid = np.flatnonzero(self.segment_columns >= 0)
        self.bias_columns[self.segment_columns[valid]] = valid
        wide = [len(names) * self.padded for names in self.plan.segments]
        segment_start = np.cumsum([0, *wide])
        size = len(self.cell.products) * self.hidden
        self.recurrent_bias_columns = np.full(size, self.sums_size - 1)
        for g in self.plan.groups:
            columns = self.du_columns(g.index)
            shared = self.plan.shared.get(g.index)
            start = segment_start[shared[0][0]] if shared else self.sums[f"bias.{g.index}"][0]
            valid = np.flatnonzero(columns >= 0)
            self.recurrent_bias_columns[columns[valid]] = start + valid

    def _columns(self, names: tuple[str, ...], blocks: tuple[str, ...]) -> np.ndarray:
        return interleaved([blocks.index(k) for k in names], self.hidden, self.lanes)

    # Weights

    def input_panels(self, w: Packed) -> np.ndarray:
        """Return W for the product with the input: panels of W^T, the bias in their first rows."""
        if "input" not in w.parts:
            w.parts["input"] = pack_transposed(
                w.weight_ih,
                self.segment_columns,
                w.bias_ih,
                WIDEST * self.lanes,
            )
        return w.parts["input"]

    def input_rows(self, w: Packed) -> np.ndarray:
        """Return W for the product that gives dx: panels of W itself."""
        if "input_rows" not in w.parts:
            width = WIDEST * self.lanes
            w.parts["input_rows"] = pack_plain(w.weight_ih, self.segment_columns, width)
        return w.parts["input_rows"]

    def weights_table(self, w: Packed, which: int) -> np.ndarray:
        """Return the table of the packed weights of a pass: for each product its columns' table.

        A column's entry: address of its panel, bytes of the operand to skip, and depth.
        """
        if ("table", which) in w.parts:
            return w.parts["table", which]
        packed = w.parts.setdefault("forward" if which == celltype.FORWARD else "backward", {})
        rows = []
        for s, g, c in celltype.weight_order(self.plan, which):
            if (g, c) not in packed:
                stage = celltype.stages(self.plan, which)[s]
                units, _, _ = celltype.tiling(self.plan, which, stage, self.units[which])
                packed[g, c] = self._pack_group(w, g, which, c, units)
            rows.append(address(packed[g, c][1]))
        table = w.parts["table", which] = np.array(rows, np.int64)
        return table

    def _pack_group(
        self, w: Packed, group: int, which: int, chunk: int, units: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Pack one product's weights; returns the panels and the table of the columns."""
        blocks = self.plan.groups[group].blocks
        forward = which == celltype.FORWARD
        if forward:
            cuts = cut(len(blocks))
            first = sum(cuts[:chunk])
            blocks = blocks[first : first + cuts[chunk]]
        columns = self._columns(blocks, self.cell.products) if forward else self.du_columns(group)
        members = len(blocks) if forward else 1
        width, depth = units * members * self.lanes, self.hidden if forward else len(columns)
        triangular = set(blocks) <= set(self.cell.upper)
        if not triangular or len(self.du_parts(group)) > 1:
            panels = (
                pack_transposed(w.weight_hh, columns, w.bias_hh, width)
                if forward
                else pack_plain(w.weight_hh, columns, width)
            )
            step = (depth + 1) * width * self.dtype.itemsize
            count = -(-self.blocks // units)
            rows = [(address(panels) + j * step, 0, depth) for j in range(count)]
            return [panels], np.array(rows, np.int64)
        return self._pack_triangle(w, columns, len(blocks), forward, units)

    def _pack_triangle(
        self, w: Packed, columns: np.ndarray, members: int, forward: bool, units: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Pack blocks that are upper triangular over the modules, without their zero part."""
        kept, rows = [], []
        for u0 in range(0, self.padded, units * self.lanes):
            u1 = min(u0 + units * self.lanes, self.padded)
            if forward:  # units u0 on read units of their own module and of later ones
                skip = self.module_start(u0)
                part = columns[u0 * members : u1 * members]
                source = np.ascontiguousarray(w.weight_hh[:, skip:])
                panel = pack_transposed(source, part, w.bias_hh, len(part))
                depth = self.hidden - skip
            else:  # units up to u1 are read by units of their own module and of earlier ones
                blocks = -(-self.module_end(u1 - 1) // self.lanes)
                depth, skip = blocks * members * self.lanes, 0
                source = np.ascontiguousarray(w.weight_hh[:, u0:u1])
                panel = pack_plain(source, columns[:depth], u1 - u0)
            kept.append(panel)
            rows.append((address(panel), skip * self.dtype.itemsize, depth))
        return kept, np.array(rows, np.int64)

    def du_parts(self, group: int) -> Shared:
        """Return how a group's derivatives lie: segment (-1: its own buffer) and blocks."""
        return self.plan.shared.get(group, ((-1, self.plan.groups[group].blocks),))

    def du_columns(self, group: int) -> np.ndarray:
        """Return the row of ``weight_hh`` of each column of a group's derivatives, or -1."""
        parts = [self._columns(names, self.cell.products) for _, names in self.du_parts(group)]
        return np.concatenate(parts)

    @property
    def _modules(self) -> int:
        return len(next(iter(self.cell.constants.values())))

    def module_start(self, unit: int) -> int:
        """Return the first unit of a unit's module; unit j belongs to module j*M // H."""
        module = min(unit, self.hidden - 1) * self._modules // self.hidden
        return -(-module * self.hidden // self._modules)

    def module_end(self, unit: int) -> int:
        """Return the unit after the last one of a unit's module."""
        module = min(unit, self.hidden - 1) * self._modules // self.hidden
        return min(self.hidden, -(-(module + 1) * self.hidden // self._modules))

    def vector_buffers(self, w: Packed) -> dict[str, np.ndarray]:
        """Return vectors and constants padded to whole vectors, (padded,) each."""
        if "vectors" not in w.parts:
            out = {}
            for k, v in w.vectors.items():
                out[k] = aligned((self.padded,), self.dtype, fill=0.0)
                out[k][: self.hidden] = v
            w.parts["vectors"] = out
        return w.parts["vectors"]

    # Layout

    def to_rows(self, array: np.ndarray) -> np.ndarray:
        """Copy (rows, H) into padded rows (rows, padded)."""
        out = lend((array.shape[0], self.padded), self.dtype)
        out[:, : self.hidden] = array
        if self.padded != self.hidden:
            out[:, self.hidden :] = 0.0
        return out

    def members(self, buffer: np.ndarray, member: int, members: int) -> np.ndarray:
        """Return one member of an interleaved buffer (rows, blocks*members*lanes): (rows, H)."""
        out = lend((buffer.shape[0], self.padded), buffer.dtype)
        # Whole vectors as items: NumPy copies such in half the time of as many short rows.
        vector = np.dtype((np.void, self.lanes * buffer.dtype.itemsize))
        view = buffer.view(vector).reshape(-1, self.blocks, members)
        out.view(vector)[...] = view[:, :, member]
        return out[:, : self.hidden]
