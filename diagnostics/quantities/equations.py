"""What a cell's equations are, found out by running them on numbers that remember.

Random numbers tell structure from coincidence: two gates that are both 1/2 on some data are two.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from diagnostics.quantities.carrying import Array, Block, Carrying, Trace

ROWS = 16  # random draws
EQUAL = 1e-9  # the same expression, rounded otherwise


@dataclass(frozen=True)
class Structure:
    """What is so for every input.

    activations: for each gate and block the function whose value `minirnn.watch` shows: sigmoid,
    tanh, relu, or "" where there is none.  gates: the names that have one of their own; a block
    that goes into a gate's sum shares the gate's.  held: where those activations stand in the
    order in which the equations are run.  keepers: gate -> "open" or "closed", for each gate that
    alone decides how much of itself a unit of some state keeps.  kept_by: state -> such a gate.
    stops: whether the equations hide a dependence from derivatives.
    """

    activations: dict[str, str]
    gates: tuple[str, ...]
    held: frozenset[int]
    keepers: dict[str, str]
    kept_by: dict[str, str]
    stops: bool


@lru_cache(maxsize=256)
def structure_of(cell: Any, seed: int = 0) -> Structure:
    """Run a cell's equations on random numbers, once for every cell."""
    rng = np.random.default_rng(seed)
    modules = max((len(numbers) for numbers in cell.constants.values()), default=1)
    units = 4 * modules

    def draw(names: Any) -> dict[str, Array]:
        return {k: rng.standard_normal((ROWS, units)) for k in names}

    given = {
        "wx": draw(cell.gates),
        "u": draw(cell.products),
        "prev": draw(cell.state),
        "below": draw(cell.state),
        "p": {k: v[0] for k, v in draw(cell.vectors).items()} | constants_of(cell, units),
        "t": np.arange(ROWS)[:, None].astype(np.float64),
    }
    trace = Trace()
    values = run(cell, trace, given)
    places = _first_activations(cell, values)
    names: dict[str, str] = dict.fromkeys((*cell.gates, *cell.products), "")
    names |= {k: trace.activations[place][0] for k, place in places.items()}
    # Blocks that go into a gate's sum, as in FGR, share its activation: the first name counts.
    own = {k: p for k, p in places.items() if k == next(n for n in places if places[n] == p)}
    held = frozenset(i for i, first in enumerate(trace.first) if first in places.values())
    again = Trace(held)
    keepers: dict[str, str] = {}
    kept_by: dict[str, str] = {}
    for state, value in zip(cell.state, run(cell, again, given), strict=True):
        share = share_of(value, state, (ROWS, units))
        if share.any():
            found = _keepers(share, {k: again.activations[p][1] for k, p in own.items()})
            kept_by |= dict.fromkeys([state] if found else [], next(iter(found), ""))
            keepers |= found
    return Structure(names, tuple(own), held, keepers, kept_by, trace.stopped)


def run(cell: Any, trace: Trace, given: dict[str, Any]) -> tuple[Any, ...]:
    """Run a cell's equations at N rows.

    given: "wx", "u" (values of the products), "prev", "below": names to (N, H); "p": names to
    (H,); "t": (N, 1).
    """
    with np.errstate(all="ignore"):
        values: tuple[Any, ...] = cell(
            _leaves({k: Carrying(trace, v, passed={("wx", k): ()})
                     for k, v in given["wx"].items()}),
            _leaves({k: Block(Carrying(trace, v, passed={("u", k): ()}))
                     for k, v in given["u"].items()}),
            _leaves({k: Carrying(trace, v, {k: np.ones_like(v)})
                     for k, v in given["prev"].items()}),
            p=_leaves(given["p"]),
            below=_leaves({k: Carrying(trace, v) for k, v in given["below"].items()}),
            t=given["t"],
        )  # fmt: skip
    return values


def constants_of(cell: Any, units: int) -> dict[str, Array]:
    """Return a cell's constants unit by unit, (H,)."""
    place = np.arange(units)
    return {k: np.asarray(n)[place * len(n) // units] for k, n in cell.constants.items()}


def share_of(value: Any, state: str, shape: tuple[int, int]) -> Array:
    """Return how much of its own state a unit keeps, (N, H)."""
    kept = value.kept.get(state, 0.0) if isinstance(value, Carrying) else 0.0
    return np.broadcast_to(np.asarray(kept, np.float64), shape)


def _leaves(values: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**values)


def _first_activations(cell: Any, values: tuple[Any, ...]) -> dict[str, int]:
    """Return the first activation that every path from a gate or block to a state passes."""
    found: dict[str, int] = {}
    for k in dict.fromkeys((*cell.gates, *cell.products)):
        paths = [
            value.passed[tag]
            for value in values
            if isinstance(value, Carrying)
            for tag in (("wx", k), ("u", k))
            if tag in value.passed
        ]
        shared = set.intersection(*map(set, paths)) if paths else set()
        if shared:
            found[k] = min(shared)
    return found


def _keepers(share: Array, gates: dict[str, Array]) -> dict[str, str]:
    """Return the gates that are the share (open keeps) or 1 minus it (closed keeps)."""
    found = {}
    for k, a in gates.items():
        for name, value in (("open", a), ("closed", 1 - a)):
            if np.abs(share - value).max() < EQUAL:
                found[k] = name
    return found
