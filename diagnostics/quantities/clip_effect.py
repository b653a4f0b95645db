"""What clipping does to a gradient's direction: of parameters, and inside the graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.local_gradients import local_of_layer
from diagnostics.quantities.parameter_gradients import gradients_of_record
from diagnostics.quantities.statistics import Floats, joint_norm, medians
from diagnostics.quantities.watching import sweep_flops


@dataclass(frozen=True, kw_only=True)
class ClipDirection(Quantity):
    """One act of clipping.

    value: cosine between the gradient before and after, NaN where one of them is 0 or not finite.
    pre, post: norms.  changed: fraction of entries that are not what they were.  share[name]: of
    the squared norm before, by parameter or group.
    """

    pre: float
    post: float
    changed: float
    share: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class GraphClipping(Quantity):
    """Clipping of delta at every step back in time (in-graph).

    value: cosine between the gradients of the parameters with and without it.  clip: the norm
    that each sequence's delta is scaled to.  fraction: of the steps back that were scaled.
    total_norm, clipped_norm: (T+1,), median over sequences of ||delta_t|| without and with it.
    """

    clip: float
    fraction: float
    total_norm: Floats
    clipped_norm: Floats


def clip_direction(before: Mapping[str, Any], after: Mapping[str, Any]) -> ClipDirection:
    """Compare gradients before and after clipping.

    Parameters
    ----------
    before, after : gradients by name, the same names and shapes; arrays or Tensors
    """
    if set(before) != set(after):
        raise ValueError(
            "clip_direction: before and after must hold the same names, got "
            f"{sorted(set(before) ^ set(after))} in one of them only"
        )
    pairs = {k: (_array(before[k]), _array(after[k])) for k in before}
    for k, (a, b) in pairs.items():
        if a.shape != b.shape:
            raise ValueError(
                f"clip_direction: {k} must have one shape, got {a.shape} before and {b.shape} after"
            )
    norms = {k: float(joint_norm([a.ravel()])) for k, (a, _) in pairs.items()}
    pre = float(np.linalg.norm(list(norms.values())))
    post = float(joint_norm([np.concatenate([b.ravel() for _, b in pairs.values()])]))
    size = sum(a.size for a, _ in pairs.values())
    return ClipDirection(
        value=cosine([a for a, _ in pairs.values()], [b for _, b in pairs.values()]),
        how="all gradients of a training step together, before and after clipping",
        cost=Cost(bytes=sum(a.nbytes for a, _ in pairs.values())),
        pre=pre,
        post=post,
        changed=sum(int((a != b).sum()) for a, b in pairs.values()) / max(1, size),
        share={k: (norm / pre) ** 2 if pre > 0 else float("nan") for k, norm in norms.items()},
    )


def graph_clipping(
    layer: Any,
    x: Any,
    d_output: Any,
    clip: float,
    direction: int = 0,
    level: int = -1,
    lengths: Any = None,
) -> GraphClipping:
    """Measure what clipping delta at every step back does to one level of a layer.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    clip : each sequence's delta, all states jointly, is scaled to at most this norm
    direction : 0 forward, 1 reverse
    level : of a stacked layer, by default the top one
    lengths : (B,), as the layer takes them
    """
    record, local = local_of_layer("graph_clipping", layer, x, d_output, direction, level, lengths)
    flops = sweep_flops(layer, record, level, direction)
    return clipping_of_record(layer.cell, record, local, clip, layer.bias, flops)


def clipping_of_record(
    cell: Any, record: Any, local: Any, clip: float, bias: bool = True, flops: int = 0
) -> GraphClipping:
    """Carry local gradients back through a record with and without clipping."""
    free = record.pullback(d_state=local)
    held = record.pullback(d_state=local, clip=clip)
    norms = [joint_norm(swept.carried_grads.values()) for swept in (free, held)]
    rows = np.arange(len(norms[0]))[:, None]
    inside = np.ones(norms[0].shape, bool)
    if record.lengths is not None:
        inside = rows <= np.asarray(record.lengths)
    # Rows but the first are scaled before they step back: those end up at the threshold itself.
    rounding = 16 * float(np.finfo(next(iter(local.values())).dtype).eps)
    scaled = (norms[1] >= clip * (1 - rounding))[1:] & inside[1:]
    with np.errstate(all="ignore"):  # a broken model is a finding, not a warning
        grads = [list(gradients_of_record(cell, swept, bias).values()) for swept in (free, held)]
    return GraphClipping(
        value=cosine(*grads),
        how=(
            "two backward passes, one with each sequence's delta scaled to the threshold before "
            "every step back; gradients of this level's parameters compared; median over sequences"
        ),
        cost=Cost(sweeps=3, flops=3 * flops, bytes=sum(a.nbytes for a in local.values())),
        clip=float(clip),
        fraction=float(scaled.sum() / max(1, inside[1:].sum())),
        total_norm=medians(norms[0], inside)[0],
        clipped_norm=medians(norms[1], inside)[0],
    )


def middle_norm(norms: Floats) -> float:
    """Return the median of the norms of delta at all rows: a threshold that scales half of them.

    norms: (T+1,).  1 where there is none above 0: a threshold must be.
    """
    found = norms[np.isfinite(norms) & (norms > 0)]
    return float(np.median(found)) if len(found) else 1.0


def cosine(a: list[Any], b: list[Any]) -> float:
    """Cosine of the angle between two lists of arrays; NaN if one is 0 or not finite."""
    first = np.concatenate([np.asarray(v, np.float64).ravel() for v in a])
    second = np.concatenate([np.asarray(v, np.float64).ravel() for v in b])
    norms = float(joint_norm([first])), float(joint_norm([second]))
    if not all(0 < norm < np.inf for norm in norms):
        return float("nan")
    return float((first / norms[0]) @ (second / norms[1]))


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, minirnn.Tensor) else np.asarray(value)
