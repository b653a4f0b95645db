"""What a monitor notes of every training step, measured or not: a few numbers."""

from typing import Any

import numpy as np

from diagnostics.monitor.journal import Line
from diagnostics.quantities.base import encode


class History:
    """Numbers of the steps since the last measured one, column by column.

    loss, norm, post, cosine: floats or None; clipped: bool or None; nonfinite: entries.
    """

    COLUMNS = ("loss", "norm", "post", "clipped", "nonfinite", "cosine")

    def __init__(self, first: int) -> None:
        self._first = first
        self._columns: dict[str, list[Any]] = {k: [] for k in self.COLUMNS}

    def note(self, loss: float | None, clip: Any) -> None:
        """Note a step.  clip: a ClipInfo, or None."""
        columns = self._columns
        columns["loss"].append(loss)
        columns["norm"].append(None if clip is None else clip.norm)
        columns["post"].append(None if clip is None else clip.post)
        columns["clipped"].append(None if clip is None else clip.clipped)
        columns["nonfinite"].append(0 if clip is None else clip.nonfinite)
        columns["cosine"].append(None if clip is None else clip.cosine)

    @property
    def last(self) -> tuple[float | None, float | None, int]:
        """Loss, norm, and the number of entries that are not finite, of the last step."""
        columns = self._columns
        return columns["loss"][-1], columns["norm"][-1], columns["nonfinite"][-1]

    def amend(self, norm: float, nonfinite: int) -> None:
        """Note the norm of the last step's gradient, where it was measured without clipping."""
        self._columns["norm"][-1], self._columns["nonfinite"][-1] = norm, nonfinite

    def line(self) -> Line:
        """Return the columns as a line holds them, {} if there is no step."""
        if not self._columns["loss"]:
            return {}
        return {"first": self._first, **{k: encode(v) for k, v in self._columns.items()}}


def loss_of(loss: Any) -> float | None:
    """Return a loss as a number."""
    if loss is None:
        return None
    value = np.asarray(loss.numpy() if hasattr(loss, "numpy") else loss)
    if value.size != 1:
        raise ValueError(
            f"Monitor.step: loss must be one number, got shape {value.shape}; pass its mean"
        )
    return float(value.reshape(()))


def checked_clip(info: Any) -> Any:
    """Return a ClipInfo, or None; say what else was given."""
    if info is None or all(hasattr(info, k) for k in ("norm", "post", "clipped", "nonfinite")):
        return info
    raise TypeError(
        "Monitor.step: clip_info must be what clip_grad_norm or clip_grad_value returned, or None, "
        f"got {type(info).__name__}"
    )
