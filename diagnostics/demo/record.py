"""What the demo records at some of its training steps, beside loss and norm: the strips of P12."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.decay_rate import rate_of
from diagnostics.quantities.statistics import joint_norm

Arrays = dict[str, NDArray[np.floating]]


def decay(seen: Any, step: int) -> float:
    """Return the factor per step of a random unit gradient put on the last row of a call.

    seen: of `minirnn.watch`.  One more pullback: the lag gain of a single source, whose rate the
    report's own lag gain takes over several.
    """
    states = seen.states
    name, last = next(iter(states)), next(iter(states.values()))
    vector = np.random.default_rng(step).standard_normal(last.shape[1:])
    rows = np.zeros(last.shape, last.dtype)
    rows[-1] = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    norms = joint_norm(seen.pullback(d_state={name: rows}).carried_grads.values())
    gain = np.median(norms[::-1] / norms[-1], axis=1)  # by lag, row 0 left out: no step leads to it
    return rate_of(gain[:-1], float(np.finfo(last.dtype).tiny))


def gradients(model: Any) -> Arrays:
    """Copy the gradients of all parameters."""
    return {name: np.array(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def relative_change(before: Arrays, model: Any) -> float:
    """Return the norm of an update over the norm of all parameters before it."""
    now = model.state_dict()
    change = [(now[name].astype(np.float64) - old).ravel() for name, old in before.items()]
    whole = float(joint_norm([np.concatenate([old.ravel() for old in before.values()])]))
    moved = float(joint_norm([np.concatenate(change)]))
    return moved / whole if whole > 0 else float("nan")
