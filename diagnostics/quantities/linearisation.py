"""Eigenvalues of the recurrence, and how far they are from telling what a gradient does.

A matrix with eigenvalues inside the unit circle may still let a gradient grow first, if its
eigenvectors are not orthogonal. Henrici's number says how far it is from normal.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diagnostics.quantities.base import Quantity
from diagnostics.quantities.jacobian_source import Source, source_of
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.watching import parameters_of

ROUNDED = 1 - 1e-9  # bounds of a matrix of rank 1 are equal but for rounding
WAITING = 16  # powers of a matrix that are held until it is known which of them matter


@dataclass(frozen=True, kw_only=True)
class Linearisation(Quantity):
    """The mean step Jacobian, and the blocks of the recurrent matrix.

    value: spectral radius of the mean Jacobian.  eigenvalues: (S, 2), real and imaginary parts,
    largest modulus first.  henrici: its departure from normality, 0 (normal) to 1.  peak:
    largest norm of its powers, at power peak_step.  weights[k]: (H, 2), eigenvalues of the block;
    weight_radius[k], weight_henrici[k]: of the block.
    """

    eigenvalues: Floats
    henrici: float
    peak: float
    peak_step: int
    weights: dict[str, Floats] = field(default_factory=dict)
    weight_radius: dict[str, float] = field(default_factory=dict)
    weight_henrici: dict[str, float] = field(default_factory=dict)


def linearisation(
    layer_or_jacobians: Any,
    x: Any = None,
    level: int = -1,
    direction: int = 0,
    lengths: Any = None,
) -> Linearisation:
    """Measure the eigenvalues of a layer's mean Jacobian on its input, and of its weights.

    Parameters
    ----------
    layer_or_jacobians : minirnn.Recurrent, `StepJacobians`, or an array (T, S, S) or (T, B, S, S)
    x : the layer's input, as the layer takes it
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them
    """
    source = source_of("linearisation", layer_or_jacobians, x, level, direction, lengths)
    blocks = {}
    if hasattr(layer_or_jacobians, "named_parameters"):
        blocks = blocks_of(layer_or_jacobians, level, direction)
    return linearisation_of_source(source, blocks)


def linearisation_of_source(source: Source, blocks: dict[str, Floats]) -> Linearisation:
    """Measure the mean of Jacobians that come in pieces.  blocks[k]: (H, H)."""
    mean = source.mean()
    values = eigenvalues(mean)
    peak, step = transient_growth(mean)
    of_blocks = {k: eigenvalues(block) for k, block in blocks.items()}
    return Linearisation(
        value=float(np.hypot(*values[0])),
        how=(
            f"eigenvalues of the mean over {source.count} exact step Jacobians of the full state; "
            "departure from normality by Henrici's number; norms of its powers up to 100"
        ),
        cost=source.cost,
        eigenvalues=values,
        henrici=_henrici(mean, values),
        peak=peak,
        peak_step=step,
        weights=of_blocks,
        weight_radius={k: float(np.hypot(*found[0])) for k, found in of_blocks.items()},
        weight_henrici={k: _henrici(blocks[k], found) for k, found in of_blocks.items()},
    )


def blocks_of(layer: Any, level: int = -1, direction: int = 0) -> dict[str, Floats]:
    """Return the blocks of a layer's recurrent matrix by name, (H, H) each in float64."""
    weight = parameters_of(layer, level, direction)["weight_hh"].numpy().astype(np.float64)
    if not len(weight):
        return {}
    return dict(zip(layer.cell.products, np.split(weight, len(layer.cell.products)), strict=True))


def eigenvalues(matrix: Floats) -> Floats:
    """Return the eigenvalues, real and imaginary parts (S, 2), largest modulus first."""
    if not np.isfinite(matrix).all():
        return np.full((len(matrix), 2), np.nan)
    found = np.linalg.eigvals(matrix)
    found = found[np.argsort(-np.abs(found), kind="stable")]
    return np.stack([found.real, found.imag], axis=1)


def henrici(matrix: Floats) -> float:
    """Return sqrt(||A||_F^2 - sum |lambda|^2) / ||A||_F: 0 for a normal matrix, 1 for nilpotent."""
    return _henrici(matrix, eigenvalues(matrix))


def _henrici(matrix: Floats, values: Floats) -> float:
    whole = float((matrix**2).sum())
    if not whole > 0:
        return 0.0 if whole == 0 else float("nan")
    return float(np.sqrt(max(whole - float((values**2).sum()), 0.0) / whole))


def transient_growth(matrix: Floats, steps: int = 100) -> tuple[float, int]:
    """Return the largest norm among the powers 0 to `steps` of a matrix, and that power.

    Only of powers that may have it the norm is computed: Frobenius' is an upper bound, the growth
    of a single vector a lower one. Infinite where a power leaves the range, NaN for a matrix that
    is not finite itself.
    """
    if not np.isfinite(matrix).all():
        return float("nan"), 0
    power = np.eye(len(matrix))
    vector = np.ones(len(matrix)) / np.sqrt(len(matrix))
    found, least = [(1.0, 0)], 1.0
    waiting: list[tuple[float, int, Floats]] = []
    for step in range(1, steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            power = power @ matrix
        scale = float(np.abs(power).max())
        if not np.isfinite(scale):
            return float("inf"), step
        unit = power / (scale or 1.0)  # squares of which do not leave the range
        bound = scale * float(np.linalg.norm(unit))
        if bound <= 1:
            break  # every later power is a product of this one and some before
        if bound >= least * ROUNDED:
            waiting.append((bound, step, power))
            grown = unit @ vector
            least = max(least, scale * float(np.linalg.norm(grown)))
            vector = unit.T @ grown
            vector /= np.linalg.norm(vector) or 1.0
            waiting = [w for w in waiting if w[0] >= least * ROUNDED]
        if len(waiting) > WAITING:
            found += _norms(waiting)
            least, waiting = max(found)[0], []
    found += _norms(waiting)
    best = max(norm for norm, _ in found)
    return best, min(step for norm, step in found if norm == best)


def _norms(waiting: list[tuple[float, int, Floats]]) -> list[tuple[float, int]]:
    return [(float(np.linalg.norm(power, 2)), step) for _, step, power in waiting]
