"""The global random generator."""

from typing import Any

import numpy as np

_generator = np.random.default_rng()


def manual_seed(n: int) -> None:
    """Seed the global generator; whoever holds it draws the same numbers from here on."""
    set_state(dict(np.random.default_rng(n).bit_generator.state))


def generator() -> np.random.Generator:
    """Return the global generator, which every draw without its own ``seed`` or ``rng`` uses."""
    return _generator


def get_state() -> dict[str, Any]:
    """Return the global generator's state, a dict that JSON can hold."""
    return dict(_generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned."""
    _generator.bit_generator.state = state
