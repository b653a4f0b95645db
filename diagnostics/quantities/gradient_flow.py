"""The gradient of the loss with respect to every state at every step, total and local.

delta_t = eps_t + J_{t+1}^T delta_{t+1}: the total gradient at row t is what step t's own use of
the state adds (eps, local) and what comes back through the recurrence (carried).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diagnostics.quantities.base import UNSAVED, Cost, Quantity
from diagnostics.quantities.local_gradients import Arrays, local_of_layer
from diagnostics.quantities.statistics import Floats, joint_norm, medians
from diagnostics.quantities.watching import sweep_flops


@dataclass(frozen=True, kw_only=True)
class GradientFlow(Quantity):
    """Gradient flow of one level and direction.

    value: (T+1,), median over sequences of ||delta_t||, all states together; ci: (T+1, 2).
    local_norm, carried_norm: (T+1,), the same for eps_t and for J^T delta_{t+1} (0 at the last
    row).  step_gain: (T,), median of ||J_{t+1}^T delta_{t+1}|| / ||delta_{t+1}||.
    total[k], local[k]: (T+1, B, H), delta and eps of state k.  gates[k], gate_grads[k]: (T, B, H).
    """

    local_norm: Floats
    carried_norm: Floats
    step_gain: Floats
    total: Arrays = field(default_factory=dict, metadata=UNSAVED)
    local: Arrays = field(default_factory=dict, metadata=UNSAVED)
    gates: Arrays = field(default_factory=dict, metadata=UNSAVED)
    gate_grads: Arrays = field(default_factory=dict, metadata=UNSAVED)


def step_gain(carried: Floats, total: Floats) -> Floats:
    """Gain of one step back, median over sequences.

    carried, total: (T+1, B), norms.  Returns (T,); NaN where no gradient arrives at all.
    """
    below = total[1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = carried[:-1] / below
    return medians(ratios, below > 0)[0]


def summarise(
    total: Arrays, local: Arrays, cost: Cost, lengths: Any = None, **held: Arrays
) -> GradientFlow:
    """Make the norms from the gradients.

    total[k], local[k]: (T+1, B, H).  lengths: (B,) or None; rows after the length stay out.
    """
    total_norm = joint_norm(total.values())
    carried_norm = joint_norm([total[k] - local[k] for k in total])
    inside = None
    if lengths is not None:
        inside = np.arange(len(total_norm))[:, None] <= np.asarray(lengths)
    value, ci = medians(total_norm, inside)
    return GradientFlow(
        value=value,
        ci=ci,
        local_norm=medians(joint_norm(local.values()), inside)[0],
        carried_norm=medians(carried_norm, inside)[0],
        step_gain=step_gain(carried_norm, total_norm),
        how=(
            "total: a by-product of the backward pass; local: the part that enters at row t "
            "itself; norm per sequence over all states, then the median over sequences; "
            "interval: bootstrap over sequences"
        ),
        cost=cost,
        total=total,
        local=local,
        **held,
    )


def gradient_flow(
    layer: Any,
    x: Any,
    d_output: Any,
    direction: int = 0,
    level: int = -1,
    lengths: Any = None,
) -> GradientFlow:
    """Measure how the gradient of a loss flows through one level of a recurrent layer.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    direction : 0 forward, 1 reverse; rows are in processing order
    level : of a stacked layer, by default the top one
    lengths : (B,), as the layer takes them

    Returns
    -------
    GradientFlow
        ``total[k]``, ``local[k]`` (T+1, B, H), ``gates[k]``, ``gate_grads[k]`` (T, B, H)
    """
    record, local = local_of_layer("gradient_flow", layer, x, d_output, direction, level, lengths)
    return flow_of_record(record, local, sweep_flops(layer, record, level, direction))


def flow_of_record(record: Any, local: Arrays, flops: int) -> GradientFlow:
    """Carry local gradients back through one level and direction of a `minirnn.watch` record."""
    swept = record.pullback(d_state=local)
    return summarise(
        dict(swept.carried_grads),
        local,
        Cost(sweeps=2, flops=2 * flops, bytes=2 * sum(a.nbytes for a in local.values())),
        record.lengths,
        gates=dict(record.gates),
        gate_grads=dict(swept.gate_grads),
    )
