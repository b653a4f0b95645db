"""The parts of a plan: slots in buffers, groups of products, stages.

Buffers are named here and addressed by `minirnn.kernels`; each holds, for every row and every block
of units, ``members`` vectors side by side. Their names:

==============  =================================================================================
``x.s``         W x_t + b_ih of the gates of segment s, then values saved in its place
``saved``       other values that the backward pass, or a later stage, reads
``prev.k``      state k before the step; ``next.k`` after it; ``below.k`` of the level below
``operand.i``   the i-th vector computed inside the step that is multiplied with blocks
``p.k``         vector parameter or constant k
``ext.k``       backward: derivative that reaches state k from outside the recurrence
``carry.k``     backward: derivative by state k after the step, carried from step to step: read, and
                stored with all that arrives where a later stage needs it; then what is known of
                it for the row before the step is stored in its place, as ``carried.k``
``total.k``     backward: derivative by state k with all that arrives, where it is watched
``inner.k``     backward: derivative by the value of state k inside its step, where it is watched
``dx.s du.g``   backward: derivatives by wx.k of segment s, by u.k @ v of group g
``dp.k``        backward: derivative by vector parameter k, row by row
``pull.i``      backward: a product of an earlier stage that a later one reads again
``sum.i``       the i-th vector whose mean over the units is taken; ``mean.i`` that mean, one number
                a row; ``bsum.i`` and ``bmean.i`` the same for means of the backward pass
==============  =================================================================================
"""

import hashlib
from dataclasses import dataclass, field

from minirnn.equations.cell import Cell
from minirnn.equations.symbols import Symbol, postorder


@dataclass(frozen=True)
class Slot:
    """Where a value lies: vector ``member`` of ``members`` of a unit block in a named buffer."""

    buffer: str
    member: int = 0
    members: int = 1


@dataclass(frozen=True, eq=False)
class Group:
    """Blocks of the recurrent matrix that are multiplied with the same vector: one product.

    ``source`` is the buffer that holds the vector; ``carried`` names the state of the step before
    whose derivative receives the transposed product, if the vector is that state.
    """

    index: int
    operand: Symbol
    blocks: tuple[str, ...]
    products: tuple[Symbol, ...]
    level: int
    source: str
    carried: str | None


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage: products into accumulators, then values computed and stored.

    ``groups``: the products, as indices of groups; ``accumulators``: node -> (position among this
    stage's groups, member); ``sources``: node -> slot it is loaded from; ``stores``: (slot, node);
    ``watched``: stores that only a watched pass makes; ``means``: pairs of buffers, each row's mean
    over the first is written to the second before the stage begins.
    """

    groups: tuple[int, ...]
    accumulators: dict[Symbol, tuple[int, int]]
    sources: dict[Symbol, Slot]
    stores: tuple[tuple[Slot, Symbol], ...]
    watched: tuple[tuple[Slot, Symbol], ...] = ()
    means: tuple[tuple[str, str], ...] = ()


Shared = tuple[tuple[int, tuple[str, ...]], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """All that the kernels know of a cell.

    ``segments``: the gates in the order of the columns of X, cut so that gates whose derivative is
    that of a whole group of products share their buffer with it: ``shared[g]`` are the group's
    neighbouring segments, each with the group's blocks in the order of the segment's gates.
    ``saved_apart``: how many saved values have no place in X.
    ``drain``: the stage that ends the backward pass with the derivative by the initial states.
    ``inner``: the buffer of the derivative by each state's value inside its step, which is
    ``total.k`` where nothing else of the step uses the state.
    """

    cell: Cell
    groups: tuple[Group, ...]
    segments: tuple[tuple[str, ...], ...]
    shared: dict[int, Shared]
    saved: tuple[Symbol, ...]
    saved_apart: int
    forward: tuple[Stage, ...]
    backward: tuple[Stage, ...]
    drain: Stage
    operands: tuple[Symbol, ...]
    gate_slots: dict[str, Slot]
    pulls: int
    means: int
    backward_means: int
    inner: dict[str, str]
    digest: str = field(default="")


def digest(made: Plan) -> str:
    """Return a name for the plan: equal plans, and only those, have equal digests."""
    number: dict[Symbol, int] = {}

    def write(node: Symbol) -> int:
        for n in postorder([node]):
            if n not in number:
                parts = [number[a] if isinstance(a, Symbol) else repr(a) for a in n.args]
                number[n] = len(number)
                text.append(f"{number[n]}={n.op}{parts}")
        return number[node]

    text: list[str] = [repr((made.cell.gates, made.cell.state, made.segments, made.shared))]
    for stage in (*made.forward, *made.backward, made.drain):
        text.append(f"stage {stage.groups} {stage.means}")
        for node, where in (*stage.accumulators.items(), *stage.sources.items()):
            number_of = write(node)
            text.append(f"{number_of}<-{where}")
        for slot, node in (*stage.stores, *stage.watched):
            number_of = write(node)
            text.append(f"{slot}<-{number_of}")
        text.append(str(len(stage.watched)))
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]
