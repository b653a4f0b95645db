"""Saved values lie where the input's share of the gates lay: memory is touched once, not twice.

A stage reads ``W x`` of a gate for the last time and stores a saved value; the backward pass reads
the saved value for the last time and stores the derivative by that gate. One place serves all
three. Which value goes to which place follows from the stages alone.
"""

from collections.abc import Sequence

from minirnn.equations.stages import Slot, Stage


def shared_places(
    segments: tuple[tuple[str, ...], ...], saved: int, forward: Sequence[Stage],
    backward: Sequence[Stage],
) -> tuple[dict[Slot, Slot], int]:  # fmt: skip
    """Find a place in X for as many of the saved values as possible.

    Returns the new slot of each old slot ``saved``, and how many stay in a buffer of their own.
    """
    places = [
        Slot(f"x.{s}", m, len(names)) for s, names in enumerate(segments) for m in range(len(names))
    ]
    values = [Slot("saved", i, saved) for i in range(saved)]
    fits = {v: [p for p in places if _fits(v, p, forward, backward)] for v in values}
    owner: dict[Slot, Slot] = {}  # place -> value

    def settle(value: Slot, tried: set[Slot]) -> bool:
        """Give the value a place, moving others (Kuhn's matching)."""
        for place in fits[value]:
            if place not in tried:
                tried.add(place)
                if place not in owner or settle(owner[place], tried):
                    owner[place] = value
                    return True
        return False

    apart = [v for v in values if not settle(v, set())]
    found = {value: place for place, value in owner.items()}
    found |= {v: Slot("saved", i, len(apart)) for i, v in enumerate(apart)}
    return found, len(apart)


def _fits(value: Slot, place: Slot, forward: Sequence[Stage], backward: Sequence[Stage]) -> bool:
    """Whether the value is stored after the place was read, and used before it is written again."""
    stored = min(i for i, s in enumerate(forward) if any(slot == value for slot, _ in s.stores))
    read = max((i for i, s in enumerate(forward) if place in s.sources.values()), default=-1)
    used = max((i for i, s in enumerate(backward) if value in s.sources.values()), default=-1)
    derivative = Slot(place.buffer.replace("x", "dx"), place.member, place.members)
    written = [i for i, s in enumerate(backward) if any(d == derivative for d, _ in s.stores)]
    return read <= stored and used <= min(written)


def moved(stage: Stage, to: dict[Slot, Slot]) -> Stage:
    """Return a stage whose values lie at their new places."""
    return Stage(
        stage.groups,
        stage.accumulators,
        {node: to.get(slot, slot) for node, slot in stage.sources.items()},
        tuple((to.get(slot, slot), node) for slot, node in stage.stores),
        stage.watched,
        stage.means,
    )
