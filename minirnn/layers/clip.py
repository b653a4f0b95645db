"""Clipping of gradients by norm or by value.

Pascanu, Mikolov, Bengio 2013, Algorithm 1: if ||g|| >= threshold then g <- threshold / ||g|| * g,
with one norm over all parameters.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.engine import Tensor
from minirnn.kernels import norm as kernels
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.layers import reference


class ClipInfo(float):
    """The norm before clipping, a float, that also knows what clipping did.

    Attributes
    ----------
    norm, post : float
        Norm of all gradients together before and after.
    clipped : bool
        Whether gradients were changed.
    scale : float
        post / norm; for clipping by norm the factor that was applied.
    nonfinite : int
        Number of infinite and NaN entries; if there are any, the gradients were left untouched.
    cosine : float
        Of the angle by which clipping turned the gradient: 1 unless values were clipped, NaN
        where nothing was left of it.
    versions : dict
        The version of each parameter by its ``id`` when its gradient was clipped: whoever knows
        the versions of the forward pass can tell whether the optimizer had stepped by then.
    """

    __slots__ = ("clipped", "cosine", "nonfinite", "post", "scale", "versions")

    post: float
    clipped: bool
    scale: float
    nonfinite: int
    cosine: float
    versions: dict[int, int]

    def __new__(
        cls,
        norm: float,
        post: float | None = None,
        clipped: bool = False,
        scale: float = 1.0,
        nonfinite: int = 0,
        cosine: float = 1.0,
        versions: dict[int, int] | None = None,
    ) -> "ClipInfo":
        """Make the record; ``post`` is ``norm`` unless given."""
        self = super().__new__(cls, norm)
        self.post = float(norm) if post is None else float(post)
        self.clipped = bool(clipped)
        self.scale = float(scale)
        self.nonfinite = int(nonfinite)
        self.cosine = float(cosine)
        self.versions = dict(versions or {})
        return self

    @property
    def norm(self) -> float:
        """Norm before clipping."""
        return float(self)

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Arguments that make an equal record again (copy, pickle)."""
        # Without the versions: an id means nothing in another process.
        return float(self), self.post, self.clipped, self.scale, self.nonfinite, self.cosine

    def __repr__(self) -> str:
        return (
            f"ClipInfo(norm={float(self)!r}, post={self.post!r}, clipped={self.clipped}, "
            f"scale={self.scale!r}, nonfinite={self.nonfinite})"
        )


def clip_grad_norm(
    params: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> ClipInfo:
    """Scale all gradients together so that their norm is at most ``max_norm``.

    Unlike PyTorch there is no 1e-6 in the denominator: the norm afterwards is max_norm up to
    rounding. Parameters without a gradient are skipped. If the norm is not finite, the gradients
    stay as they are: scaling would spread the NaN to every parameter.

    Parameters
    ----------
    params : Tensors whose ``grad`` is scaled
    max_norm : float, >= 0; infinity only measures
    norm_type : float, > 0; infinity takes the largest entry
    error_if_nonfinite : bool
        Raise a RuntimeError that says which gradients are not finite.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm: max_norm must be 0 or more, got {max_norm}")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm: norm_type must be above 0, got {norm_type}")
    owners = _owners("clip_grad_norm", params)
    gradients = [g for _, g in owners]
    norm = _total_norm(gradients, float(norm_type), *_measured(gradients))
    if not math.isfinite(norm):
        return _untouched("clip_grad_norm", owners, norm, error_if_nonfinite)
    versions = _versions(owners)
    if norm <= max_norm:
        return ClipInfo(norm, versions=versions)
    scale = float(max_norm) / norm
    _replace(owners, scale, math.inf)
    cosine = 1.0 if scale else math.nan
    return ClipInfo(norm, max_norm, True, scale, cosine=cosine, versions=versions)


def clip_grad_value(params: Tensor | Iterable[Tensor], clip_value: float) -> ClipInfo:
    """Clip every entry of every gradient to [-clip_value, clip_value] (it turns the direction).

    The norms of the ``ClipInfo`` are 2-norms. If the norm is not finite, the gradients stay as
    they are.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value: clip_value must be 0 or more, got {clip_value}")
    owners = _owners("clip_grad_value", params)
    gradients = [g for _, g in owners]
    squares, largest = _measured(gradients)
    norm = _total_norm(gradients, 2.0, squares, largest)
    if not math.isfinite(norm):
        return _untouched("clip_grad_value", owners, norm, False)
    bound = float(clip_value)
    beyond = [owner for owner, top in zip(owners, largest, strict=True) if top > bound]
    versions = _versions(owners)
    if not beyond:
        return ClipInfo(norm, versions=versions)
    _replace(beyond, 1.0, bound)
    gradients = [np.asarray(parameter.grad) for parameter, _ in owners]
    post = _total_norm(gradients, 2.0, *_measured(gradients))
    cosine = _cosine(owners, norm, post)
    return ClipInfo(norm, post, True, post / norm, cosine=cosine, versions=versions)


def _owners(place: str, params: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, NDArray[Any]]]:
    """Return (parameter, gradient) for every parameter that has one, each parameter once."""
    listed = [params] if isinstance(params, Tensor) else list(params)
    for parameter in listed:
        if not isinstance(parameter, Tensor):
            raise TypeError(
                f"{place}: params must be Tensors, got {type(parameter).__name__}; "
                "pass model.parameters()"
            )
    once = {id(p): p for p in listed}
    return [(p, p.grad) for p in once.values() if p.grad is not None]


def _versions(owners: list[tuple[Tensor, NDArray[Any]]]) -> dict[int, int]:
    """Return the version of each parameter by its id."""
    return {id(p): p.version for p, _ in owners}


def _cosine(owners: list[tuple[Tensor, NDArray[Any]]], norm: float, post: float) -> float:
    """Cosine between the gradients in ``owners`` and those that the parameters have by now."""
    if not (norm and post):
        return math.nan
    # Divided first: products of large float64 entries would leave the range.
    pairs = ((g.astype(np.float64) / norm, np.asarray(p.grad) / post) for p, g in owners)
    return sum(float((before * after).sum()) for before, after in pairs)


def _measured(gradients: list[NDArray[Any]]) -> tuple[float, list[float]]:
    """Return the sum of all squares in float64, and the largest absolute value of each array.

    A NaN makes the sum NaN; among the largest values it may go unseen.
    """
    if not (JIT_DISABLED or reference.forced()):
        return kernels.measure([np.ascontiguousarray(g) for g in gradients])
    with np.errstate(over="ignore"):
        squares = sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients)
    return squares, [float(np.abs(g).max(initial=0.0)) for g in gradients]


def _total_norm(
    gradients: list[NDArray[Any]], norm_type: float, squares: float, largest: list[float]
) -> float:
    """Norm of all entries together, computed in float64; it neither overflows nor vanishes."""
    # Squares of float32 always fit; those of float64 beyond 1e154 or below 1e-154 may not.
    if norm_type == 2.0 and 1e-280 < squares < math.inf:
        return math.sqrt(squares)
    if math.isnan(squares):
        return math.nan
    top = max(largest, default=0.0)
    if norm_type == math.inf or top == 0.0 or not math.isfinite(top):
        return top
    relative = [np.abs(g.astype(np.float64)) / top for g in gradients]
    return top * sum(float((r**norm_type).sum()) for r in relative) ** (1.0 / norm_type)


def _replace(owners: list[tuple[Tensor, NDArray[Any]]], factor: float, bound: float) -> None:
    """Give each parameter a new gradient: times a factor, then cut to [-bound, bound]."""
    gradients = [np.ascontiguousarray(g) for _, g in owners]
    if JIT_DISABLED or reference.forced():
        made = [np.clip(g * factor, -bound, bound) for g in gradients]
    else:
        made = kernels.written(gradients, factor, bound)
    for (parameter, gradient), new in zip(owners, made, strict=True):
        parameter.grad = new.reshape(gradient.shape)


def _untouched(
    place: str, owners: list[tuple[Tensor, NDArray[Any]]], norm: float, error: bool
) -> ClipInfo:
    """Record of gradients that are not finite and therefore left alone."""
    bad = {k: int(g.size - np.isfinite(g).sum()) for k, (_, g) in enumerate(owners)}
    if error:
        where = ", ".join(
            f"{count} in gradient {k} of shape {owners[k][1].shape}"
            for k, count in bad.items()
            if count
        )
        raise RuntimeError(
            f"{place}: the norm of the gradients is {norm}, non-finite entries: {where or 'none'}; "
            "error_if_nonfinite=False leaves the gradients untouched and reports the count"
        )
    return ClipInfo(norm, norm, False, 1.0, sum(bad.values()), versions=_versions(owners))
