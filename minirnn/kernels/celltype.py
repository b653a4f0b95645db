"""A cell as an argument of kernels: a Numba type that carries the digest of its plan.

The intrinsics of `minirnn.kernels.stage` look the plan up by the digest and emit code for it. So
the loops of `minirnn.kernels.sequence` are ordinary functions, one dispatcher serves every cell,
and Numba's disk cache works for cells that a user made.
"""

from numba import types
from numba.extending import models, register_model

from minirnn.equations.stages import Plan, Stage
from minirnn.kernels.tile import cut, shape_for

FORWARD, BACKWARD, DRAIN = 0, 1, 2
# `now`: what a thread knows of each buffer at the current step, three integers a buffer.
ADDRESS, ROW, BLOCK, NOW_WORDS = 0, 8, 16, 24
# `head`: integers that hold for a whole pass, by position.
HEAD = {"tile": 0, "blocks": 8, "hidden": 16, "watched": 24, "weights": 32, "step": 40}


class CellType(types.Type):
    """The Numba type of a cell: equal digests share compiled code."""

    def __init__(self, digest: str, dtype: str, units: int, narrow: int) -> None:
        self.digest, self.dtype = digest, dtype
        self.units = {FORWARD: units, BACKWARD: narrow, DRAIN: narrow}
        super().__init__(name=f"Cell({digest}, {dtype}, {units}, {narrow})")


register_model(CellType)(models.OpaqueModel)


plans: dict[str, Plan] = {}  # digest -> plan


def cell_type(plan: Plan, dtype: str, units: int, narrow: int) -> CellType:
    """Return the type of a plan for a dtype; ``units`` as for `shape_for`, ``narrow`` backward."""
    plans[plan.digest] = plan
    return CellType(plan.digest, dtype, units, narrow)


def buffers(plan: Plan, which: int) -> tuple[str, ...]:
    """Name the buffers that a pass addresses, in the order of its table."""
    names: dict[str, None] = {}
    for stage in stages(plan, which):
        for slot in stage.sources.values():
            names[slot.buffer] = None
        for slot, _ in (*stage.stores, *stage.watched):
            names[slot.buffer] = None
        for pair in stage.means:
            names |= dict.fromkeys(pair)
        for g in stage.groups:
            names[operand_of(plan, which, stage, g)] = None
    return tuple(names)


def stages(plan: Plan, which: int) -> tuple[Stage, ...]:
    """Return the stages of a pass."""
    return (plan.forward, plan.backward, (plan.drain,))[which]


def operand_of(plan: Plan, which: int, stage: Stage, group: int) -> str:
    """Name the buffer that a stage's product reads."""
    if which == FORWARD:
        return plan.groups[group].source
    name = f"dx.{plan.shared[group][0][0]}" if group in plan.shared else f"du.{group}"
    # The product with which a step begins reads the gradients of the step after it.
    arrives = any(n.op == "arrive" for n in stage.accumulators)
    return name.replace(".", "_next.") if arrives else name


def tiling(
    plan: Plan, which: int, stage: Stage, units: int
) -> tuple[int, int, dict[int, tuple[int, ...]]]:
    """Return unit blocks per column, rows per tile, and how each product's members are cut."""
    members = {g: len(plan.groups[g].blocks) if which == FORWARD else 1 for g in stage.groups}
    units, height = shape_for(list(members.values()), units)
    return units, height, {g: cut(n) for g, n in members.items()}


def weight_order(plan: Plan, which: int) -> list[tuple[int, int, int]]:
    """List the packed weights of a pass: (stage, group, chunk), in the order of its table."""
    order = []
    for s, stage in enumerate(stages(plan, which)):
        _, _, chunks = tiling(plan, which, stage, 1)
        order += [(s, g, c) for g in stage.groups for c in range(len(chunks[g]))]
    return order
