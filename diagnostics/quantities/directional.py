"""Check (d) of a report: a difference of the loss along one direction is its derivative.

The gradient is the layer's own, in its dtype. The difference is one of the equations in float64,
run without any kernel: its step is then so small that hardly a kink lies within, and what the two
share is no more than the equations.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.equations import structure_of
from diagnostics.quantities.local_gradients import Arrays
from diagnostics.quantities.statistics import joint_norm
from diagnostics.quantities.twin import Twin

EPS = float(np.finfo(np.float64).eps)
STEP = EPS ** (1 / 3)  # of the parameters: where truncation and rounding of a difference balance
STEPS = 4  # each an eighth of the one before
BLURRED = 0.01  # a difference that is not known to 1% says nothing
POINTS = 3  # the weights themselves, and two beside them
BESIDE = 1e-3  # of the weights' norm
Found = tuple[float, float]  # residual, allowed


def directional_difference(twin: Twin, v: Any, rng: Any, rounding: float) -> Iterator[Found]:
    """Compare the difference of <v, output> with its derivative; nothing where none is known.

    rounding: relative, of a gradient in the layer's dtype, of a network that does not amplify it.
    A network may stand on a kink, or its float32 run within rounding of one, where derivative and
    difference need not agree: then points beside the weights are asked. A wrong gradient is wrong
    there too.
    """
    if structure_of(twin.layer.cell).stops:
        return  # its equations hide a dependence from derivatives, which differences see
    weights = _values(twin)
    found: list[Found] = []
    for point in (weights, *(_beside(weights, rng) for _ in range(POINTS - 1))):
        _assign(twin, point)
        found += _at_point(twin, v, rng, rounding)
        if found and found[-1][0] <= found[-1][1]:
            break
    _assign(twin, weights)
    yield from sorted(found, key=lambda pair: pair[0] / pair[1])[:1]


def _at_point(twin: Twin, v: Any, rng: Any, rounding: float) -> Iterator[Found]:
    """Compare where the twin's weights are."""
    weights, grads = _values(twin), _gradients(twin, v)
    direction = _direction(weights, grads, rng)
    slope = _along(direction, grads)
    rate, error = _rate(_exact(twin), v, weights, direction, slope, rounding)
    size = max(abs(rate), abs(slope))
    if not error < BLURRED * size:
        return
    residual, allowed = abs(rate - slope) / size, error / size + rounding
    if residual > allowed:
        # Rounding may be amplified by the network itself: by how much, one ulp tells.
        moved = _along(direction, _gradients_one_ulp_away(twin, v, rng))
        allowed += 16 * abs(moved - slope) / size
    yield residual, allowed


def _rate(
    exact: Twin, v: Any, weights: Arrays, direction: Arrays, slope: float, rounding: float
) -> tuple[float, float]:
    """Return the loss's slope along a direction, and an error bar, at the best of some steps.

    slope: what it is to be, known to a relative `rounding`: no better than that is asked for.
    """
    start, _ = _loss(exact, v, weights, direction, 0.0)
    best = (float("nan"), float("inf"))
    for step in STEP / 8.0 ** np.arange(STEPS):
        ends = [_loss(exact, v, weights, direction, s * step) for s in (1, -1, 0.5, -0.5)]
        (ahead, behind, near_ahead, near_behind), sizes = zip(*ends, strict=True)
        coarse, rate = (ahead - behind) / (2 * step), (near_ahead - near_behind) / step
        # One-sided slopes differ by the curvature times the step where the loss is smooth, and
        # that halves with the step; a kink, at any place within, moves this or the slope itself.
        bend = (ahead - 2 * start + behind) / step
        near_bend = 2 * (near_ahead - 2 * start + near_behind) / step
        spread = 4 * abs(coarse - rate) + abs(bend - 2 * near_bend)
        # Outputs are rounded independently of each other.
        noise = 32 * EPS * max(sizes) / step
        error = spread + noise + 100 * EPS ** (2 / 3) * abs(rate)
        best = min(best, (rate, error), key=lambda pair: pair[1])
        enough = error < rounding / 8 * max(abs(rate), abs(slope))
        if spread < noise or enough or not np.isfinite(error):
            break
    return best


def _loss(
    exact: Twin, v: Any, weights: Arrays, direction: Arrays, step: float
) -> tuple[float, float]:
    """Return <v, output> at weights moved along a direction, and the norm of its terms."""
    _assign(exact, {k: a + step * direction[k] for k, a in weights.items()})
    with minirnn.use_reference(), minirnn.no_grad():
        product = exact.run()[1].numpy() * v
    return float(product.sum()), float(np.linalg.norm(product))


def _direction(weights: Arrays, grads: Arrays, rng: Any) -> Arrays:
    """Half random, half along the gradient, as long as the weights themselves.

    So the derivative is no small difference of large terms.
    """
    drawn = _drawn(weights, rng)
    scale = _norm(grads)
    scale = scale if 0 < scale < np.inf else 1.0
    length = _length(weights) / 2
    return {k: length * (drawn[k] + grads[k] / scale) for k in weights}


def _beside(weights: Arrays, rng: Any) -> Arrays:
    drawn = _drawn(weights, rng)
    length = BESIDE * _length(weights)
    return {k: (a + length * drawn[k]).astype(a.dtype) for k, a in weights.items()}


def _drawn(weights: Arrays, rng: Any) -> dict[str, Any]:
    """Draw a random direction of length 1; recurrent weights that a mask holds at 0 stay there."""
    moving = {k: a != 0 if k.startswith("weight_hh") else True for k, a in weights.items()}
    drawn = {k: rng.standard_normal(a.shape) * moving[k] for k, a in weights.items()}
    size = _norm(drawn)
    return {k: a / size for k, a in drawn.items()}


def _gradients(twin: Twin, v: Any) -> Arrays:
    named = dict(twin.layer.named_parameters())
    found = minirnn.grad(twin.run()[1], list(named.values()), v, allow_unused=True)
    return {
        k: np.zeros(p.shape) if g is None else g.numpy().astype(np.float64)
        for (k, p), g in zip(named.items(), found, strict=True)
    }


def _gradients_one_ulp_away(twin: Twin, v: Any, rng: Any) -> Arrays:
    """Return the gradients where every weight and every input is rounded the other way."""
    weights = _values(twin)

    def rounded(a: Any) -> Any:
        return (a * (1 + twin.eps * rng.choice([-1, 1], a.shape))).astype(twin.dtype)

    _assign(twin, {k: rounded(a) for k, a in weights.items()})
    grads = _gradients(twin.with_input(rounded(twin.x)), v)
    _assign(twin, weights)
    return grads


def _exact(twin: Twin) -> Twin:
    """Return the same call in float64."""
    return replace(
        twin,
        layer=copy.deepcopy(twin.layer).to(np.float64),
        x=twin.x.astype(np.float64),
        state=tuple(s.astype(np.float64) for s in twin.state),
    )


def _values(twin: Twin) -> dict[str, Any]:
    return {k: p.numpy().copy() for k, p in twin.layer.named_parameters()}


def _assign(twin: Twin, values: Arrays) -> None:
    for name, parameter in twin.layer.named_parameters():
        parameter.assign(values[name])


def _along(direction: Arrays, grads: Arrays) -> float:
    return sum(float(np.vdot(direction[k], grads[k])) for k in grads)


def _length(weights: Arrays) -> float:
    return max(_norm(weights), 1.0)


def _norm(arrays: Arrays) -> float:
    return float(joint_norm([np.concatenate([a.ravel() for a in arrays.values()])]))
