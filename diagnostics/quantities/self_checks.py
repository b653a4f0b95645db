"""The report's own checks: identities that hold up to rounding, whatever the network is.

(a) the steps' shares sum to the gradient; (b) tangent and cotangent agree; (c) the exponents sum
to the mean log determinant; (d) a difference of the loss is its derivative; (e) the lag gain
begins at 1, and single sources sum to the whole; (f) a sequence's gradient is its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.arguments import check_layer, gradient_of_output
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.credit import factors_by_gate
from diagnostics.quantities.directional import directional_difference
from diagnostics.quantities.example_norms import joined
from diagnostics.quantities.lag_gain import LagGain
from diagnostics.quantities.local_gradients import Arrays
from diagnostics.quantities.lyapunov import LyapunovSpectrum
from diagnostics.quantities.parameter_gradients import gradients_of_record
from diagnostics.quantities.statistics import Floats, joint_norm
from diagnostics.quantities.twin import Twin, twin_of

GROUPS = 4  # of sources, each carried back alone
Found = tuple[str, float, float]  # name, residual, tolerance


@dataclass(frozen=True, kw_only=True)
class SelfChecks(Quantity):
    """Residuals of the identities that a report rests on.

    value: the largest residual over its tolerance; above 1 the report is not to be trusted, NaN
    where a gradient is not finite.  residuals[name], tolerances[name]: relative numbers.
    """

    residuals: dict[str, float]
    tolerances: dict[str, float]

    @property
    def worst(self) -> str:
        """Name of the check that is farthest out; one that is not a number comes first."""
        return max(self.residuals, key=self._ratio, default="")

    def _ratio(self, name: str) -> float:
        ratio = _over(self.residuals[name], self.tolerances[name])
        return float("inf") if np.isnan(ratio) else ratio


def self_checks(
    layer: Any,
    x: Any,
    d_output: Any = None,
    lengths: Any = None,
    gains: Sequence[LagGain] = (),
    spectra: Sequence[LyapunovSpectrum] = (),
    seed: int = 0,
) -> SelfChecks:
    """Check the identities on a recurrent layer, all levels and directions.

    Parameters
    ----------
    layer : minirnn.Recurrent; a copy of it does the work
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of its shape; random by default
    lengths : (B,), as the layer takes them
    gains, spectra : measured on it, to be checked as well
    seed : of the random directions
    """
    check_layer("self_checks", layer)
    twin = twin_of(layer, x, lengths)
    given = None
    if d_output is not None:
        steps, batch, size = twin.output_shape
        single, swapped = np.ndim(x) == 2, layer.batch_first and np.ndim(x) == 3
        outer = () if single else (batch,)
        shape = (*outer, steps, size) if swapped else (steps, *outer, size)
        array = gradient_of_output("self_checks", d_output, shape, twin.dtype)
        given = array.swapaxes(0, 1) if swapped else array.reshape(twin.output_shape)
    return checks_of_twin(twin, given, gains, spectra, seed)


def checks_of_twin(
    twin: Twin,
    d_output: Any = None,
    gains: Sequence[LagGain] = (),
    spectra: Sequence[LyapunovSpectrum] = (),
    seed: int = 0,
) -> SelfChecks:
    """Check the identities.  d_output: (T, B, D*H), or None for a random one."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(twin.output_shape) if d_output is None else d_output
    v = (v * twin.alive).astype(twin.dtype)
    if not v.any():  # a loss that does not see this layer says nothing about it
        v = (rng.standard_normal(twin.output_shape) * twin.alive).astype(twin.dtype)
    v /= np.abs(v).max()
    with np.errstate(all="ignore"):
        found = [
            *_sums_of_steps(twin, v),
            *_adjoint(twin, v, rng),
            *_exponents(spectra),
            *_difference(twin, v, rng),
            *_lags(gains),
            *_sources(twin, v),
            *_sequences(twin, v, rng),
        ]
    ratios = [_over(residual, tolerance) for _, residual, tolerance in found]
    steps = twin.output_shape[0]
    return SelfChecks(
        value=float(np.max(ratios)),
        how=(
            "identities that are exact up to rounding, on a copy of the layer in its own dtype, "
            "differences of the loss in float64; "
            "residuals relative to the size of what is compared"
        ),
        cost=Cost(sweeps=15 + 2 * GROUPS, bytes=steps * v[0].nbytes),
        residuals={name: residual for name, residual, _ in found},
        tolerances={name: tolerance for name, _, tolerance in found},
    )


def _over(residual: float, tolerance: float) -> float:
    return residual / tolerance if tolerance else (0.0 if residual == 0 else float("inf"))


def _rounding(twin: Twin) -> float:
    """Allow for the rounding of a product over T steps, with room for sums over the units."""
    return 16 * twin.eps * (twin.output_shape[0] + 8)


def _sums_of_steps(twin: Twin, v: Any) -> Iterator[Found]:
    """Compare (a) the sum over t of g_t with the gradient that backward accumulates."""
    call, output, _ = twin.run()
    named = dict(twin.layer.named_parameters())
    grads = minirnn.grad(output, list(named.values()), v, allow_unused=True)
    by_name = {k: 0.0 if g is None else g.numpy() for k, g in zip(named, grads, strict=True)}
    worst = 0.0
    for level, direction in twin.places:
        record, suffix = call[level, direction], twin.suffix(level, direction)
        summed = gradients_of_record(twin.layer.cell, record, twin.layer.bias)
        rest = [(g - by_name[k + suffix]).ravel() for k, g in summed.items()]
        by_gate = factors_by_gate(twin.layer.cell, record, twin.layer.bias)
        parts = [p.of_steps() for factors in by_gate.values() for p in factors]
        size = float(joined(parts).sum())
        worst = max(worst, _relative(float(joint_norm([np.concatenate(rest)])), size), key=_order)
    yield "(a) sum of the steps' shares", worst, 64 * twin.eps


def _adjoint(twin: Twin, v: Any, rng: Any) -> Iterator[Found]:
    """Compare (b) <J u, v> by the tangent code with <u, J^T v> by backpropagation."""
    u = (rng.standard_normal(twin.x.shape) * twin.alive).astype(twin.dtype)
    x = minirnn.Tensor(twin.x)
    _, tangent = minirnn.jvp(lambda given: twin.run(given)[1], [x], [minirnn.Tensor(u)])
    start = minirnn.Tensor(twin.x, requires_grad=True)
    (dx,) = minirnn.grad(twin.run(start)[1], start, v)
    ju, jtv = tangent.numpy().astype(np.float64), dx.numpy().astype(np.float64)
    size = float(np.linalg.norm(ju) * np.linalg.norm(v) + np.linalg.norm(u) * np.linalg.norm(jtv))
    residual = abs(float(np.vdot(ju, v)) - float(np.vdot(u, jtv)))
    yield "(b) adjoint", _relative(residual, size), _rounding(twin)


def _exponents(spectra: Sequence[LyapunovSpectrum]) -> Iterator[Found]:
    """Compare (c) the sum of the exponents with the mean log determinant."""
    residuals = [
        s.residual / max(1.0, abs(s.log_det or 0.0)) for s in spectra if s.residual is not None
    ]
    if residuals:
        yield "(c) sum of the exponents", max(map(abs, residuals), key=_order), 1e-9


def _difference(twin: Twin, v: Any, rng: Any) -> Iterator[Found]:
    """Compare (d) a difference of the loss with its derivative."""
    for residual, allowed in directional_difference(twin, v, rng, _rounding(twin)):
        yield "(d) directional difference", residual, allowed


def _lags(gains: Sequence[LagGain]) -> Iterator[Found]:
    """Check that (e) a lag gain begins at 1."""
    starts = [abs(float(gain.value[0]) - 1.0) for gain in gains]
    if starts:
        yield "(e) lag gain at lag 0", max(starts, key=_order), float(np.finfo(np.float64).eps)


def _sources(twin: Twin, v: Any) -> Iterator[Found]:
    """Check that (e) gradients of single groups of sources sum to the whole gradient."""
    call, local = twin.locals(v)
    worst = 0.0
    for place, eps in local.items():
        record = call[place]
        whole = record.pullback(d_state=eps).carried_grads
        summed = {k: np.zeros(a.shape, np.float64) for k, a in whole.items()}
        size = np.zeros(())
        for group in range(GROUPS):
            alone = {k: _rows_of(a, group) for k, a in eps.items()}
            part = record.pullback(d_state=alone).carried_grads
            size = size + _norm(part)
            summed = {k: summed[k] + part[k] for k in summed}
        rest = _norm({k: summed[k] - whole[k] for k in whole})
        worst = max(worst, _relative(rest, float(size)), key=_order)
    yield "(e) sum of the sources", worst, _rounding(twin)


def _sequences(twin: Twin, v: Any, rng: Any) -> Iterator[Found]:
    """Check that (f) permuted, and alone, a sequence has the gradient that it has in the batch."""
    batch = twin.x.shape[1]
    whole = _deltas(twin, v)
    for name, picked in (("permuted", rng.permutation(batch)), ("alone", np.arange(1))):
        worst = _apart(whole[:, picked], _deltas(twin.of_sequences(picked), v[:, picked]))
        allowed = _rounding(twin)
        if worst > allowed:
            # Rounding may be amplified by the network itself: by how much, one ulp tells.
            moved = twin.with_input(twin.x * (1 + twin.eps * rng.choice([-1, 1], twin.x.shape)))
            allowed += 16 * _apart(whole, _deltas(moved, v))
        yield f"(f) batch {name}", worst, allowed


def _deltas(twin: Twin, v: Any) -> Floats:
    """Gradients at all rows of all levels and directions, (N, B)."""
    call, output, _ = twin.run()
    minirnn.grad(output, list(twin.layer.parameters()), v, allow_unused=True)
    rows = [a for place in twin.places for a in call[place].carried_grads.values()]
    return np.concatenate([a.swapaxes(1, 2).reshape(-1, a.shape[1]) for a in rows])


def _apart(a: Floats, b: Floats) -> float:
    """Largest distance of two columns, relative to the column."""
    rest = joint_norm([(a - b).T])
    size = joint_norm([a.T])
    return float(np.max([_relative(float(r), float(s)) for r, s in zip(rest, size, strict=True)]))


def _rows_of(a: Any, group: int) -> Any:
    alone = np.zeros_like(a)
    alone[group::GROUPS] = a[group::GROUPS]
    return alone


def _norm(arrays: Arrays) -> float:
    return float(joint_norm([np.concatenate([a.ravel() for a in arrays.values()])]))


def _relative(residual: float, size: float) -> float:
    if size > 0:
        return residual / size
    return 0.0 if residual == 0 else float("inf") if residual > 0 else float("nan")


def _order(value: float) -> float:
    return float("inf") if np.isnan(value) else value
