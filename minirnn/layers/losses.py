"""Losses: cross-entropy of class scores, mean squared error."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.engine import Tensor, is_grad_enabled, log_softmax, record, where
from minirnn.engine.dual import same_dtype, tensor
from minirnn.kernels import loss
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.kernels.workspace import lend
from minirnn.layers import reference

Arrays = tuple[NDArray[Any]]  # spelled once: making it costs more than a small loss
REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Any, targets: Any, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of softmax(logits) against class numbers: -log softmax(logits)[target].

    Parameters
    ----------
    logits : (..., V), one score per class on the last axis
    targets : integers (...), in [0, V) or ``ignore_index``
    ignore_index : int
        Targets of this value count for nothing, neither in the mean nor in the gradient.
    reduction : "mean" over the targets that count, "sum", or "none" for the shape (...)

    Nothing overflows, however large the logits: the largest of a row is taken off first.
    """
    _check_reduction("cross_entropy", reduction)
    scores = tensor(logits, "cross_entropy", "logits")
    ids = _checked_targets(scores, targets, ignore_index)
    counts = ids != ignore_index
    total = int(np.count_nonzero(counts)) if reduction == "mean" else 1
    weight = 1.0 / max(total, 1)
    x, chosen = scores.numpy().reshape(-1, scores.shape[-1]), ids.reshape(-1)
    wanted = scores.requires_grad and is_grad_enabled()
    rows = _rows if JIT_DISABLED or reference.forced() else loss.cross_entropy
    each, dx = rows(x, chosen, ignore_index, weight, wanted)
    if reduction == "none":
        value = each.reshape(ids.shape)
    else:
        value = each.sum(dtype=np.float64) * (weight if total else math.nan)

    def vjp(dloss: Any) -> Arrays:
        # The gradient by each row's loss is at hand, times the weight of all; rows may be padded.
        if dloss.ndim:
            d = dx * dloss.reshape(-1, 1)
        else:
            d = dx if dloss == 1.0 else dx * dloss
        return (d[:, : scores.shape[-1]].reshape(scores.shape),)

    def replay(scores: Tensor) -> tuple[Tensor]:
        """Compute the same from the engine's operations, for derivatives of derivatives."""
        x = where(counts[..., None], scores, 0.0)
        picked = log_softmax(x, -1).reshape(-1, scores.shape[-1])[
            np.arange(chosen.size), np.where(counts.reshape(-1), chosen, 0)
        ]
        each = -picked * (weight * counts.reshape(-1)).astype(scores.dtype)
        return (each.reshape(ids.shape) if reduction == "none" else each.sum(),)

    value = np.asarray(value, dtype=scores.dtype)
    return record([value], [scores], vjp, replay=replay, name="cross_entropy")[0]


def _rows(
    x: NDArray[Any], ids: NDArray[Any], ignored: int, weight: float, gradient: bool
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Do what `minirnn.kernels.loss.cross_entropy` does, in NumPy: the reference."""
    counts = ids != ignored
    at, chosen = np.arange(len(ids)), np.where(counts, ids, 0)
    # loss = log sum exp(x) - x[target], x less its largest entry
    with np.errstate(invalid="ignore"):  # an infinite score gives NaN, silently as in PyTorch
        x = x - x.max(-1, keepdims=True)
        x[~counts] = 0  # a row that counts for nothing may hold NaN
        e = np.exp(x)
        z = e.sum(-1)
        each = np.where(counts, np.log(z) - x[at, chosen], 0)
    if not gradient:
        return each, None
    factor = (weight * counts).astype(x.dtype)
    dx = e * (factor / z)[:, None]
    dx[at, chosen] -= factor
    return each, dx


def mse_loss(a: Any, b: Any, reduction: str = "mean") -> Tensor:
    """Squared error (a - b)^2 of two arrays of one shape, reduced by "mean", "sum" or "none"."""
    _check_reduction("mse_loss", reduction)
    a, b = tensor(a, "mse_loss", "a"), tensor(b, "mse_loss", "b")
    same_dtype("mse_loss", (a, b))
    if a.shape != b.shape:
        raise ValueError(
            f"mse_loss: a and b must have one shape, got {a.shape} and {b.shape}; "
            "broadcasting here would compare every entry with every other"
        )
    if reduction == "none":
        return _squares(a, b)
    # One node instead of three, in memory that is used again: half the time, no page faults.
    size, dtype = a.numpy().size, a.dtype
    difference = np.subtract(a.numpy(), b.numpy(), out=lend(a.shape, dtype))
    square = np.multiply(difference, difference, out=lend(a.shape, dtype))
    weight = 1.0 if reduction == "sum" else 1.0 / size if size else math.nan

    def vjp(dloss: NDArray[Any]) -> tuple[NDArray[Any] | None, ...]:
        factor = dtype.type(2 * weight) * dloss
        return tuple(
            np.multiply(difference, sign * factor, out=lend(difference.shape, dtype))
            if given.requires_grad else None
            for given, sign in ((a, 1), (b, -1))
        )  # fmt: skip

    def replay(a: Tensor, b: Tensor) -> tuple[Tensor]:
        """Compute the same from the engine's operations, for derivatives of derivatives."""
        return (_squares(a, b).sum() * weight,)

    value = square.sum() * dtype.type(weight)
    return record([value], [a, b], vjp, replay=replay, name="mse_loss", fresh=True)[0]


def _squares(a: Tensor, b: Tensor) -> Tensor:
    difference = a - b
    return difference * difference


def _check_reduction(place: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{place}: reduction must be one of {REDUCTIONS}, got {reduction!r}")


def _checked_targets(logits: Tensor, targets: Any, ignore_index: int) -> NDArray[Any]:
    """Return the targets as int64, or say what is wrong with them."""
    ids = np.asarray(targets.numpy() if isinstance(targets, Tensor) else targets)
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(
            f"cross_entropy: targets must be integers, one class number per row, got {ids.dtype}"
        )
    if logits.ndim == 0 or ids.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits (..., V) need targets (...), got logits {logits.shape} and "
            f"targets {ids.shape}; the classes are on the last axis"
        )
    ids = ids.astype(np.int64)
    classes = logits.shape[-1]
    if classes == 0:
        raise ValueError("cross_entropy: logits must have at least one class, got V = 0")
    wrong = (ids != ignore_index) & ((ids < 0) | (ids >= classes))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"cross_entropy: targets must be in [0, V={classes}) or ignore_index={ignore_index}, "
            f"got {int(ids[where])} at {where}"
        )
    return ids
