"""What a monitor notes of every training step, measured or not: a few numbers."""

from typing import Any

import numpy as np

import minirnn
from diagnostics.monitor.journal import Line
from diagnostics.quantities.base import encode


class History:
    """Numbers of the steps since the last measured one; a line has them column by column.

    loss, norm, post, cosine: floats or None; clipped: bool or None; nonfinite: entries.
    """

    COLUMNS = ("loss", "norm", "post", "clipped", "nonfinite", "cosine")

    def __init__(self, first: int) -> None:
        self._first = first
        self._steps: list[tuple[Any, ...]] = []  # as COLUMNS

    def note(self, loss: float | None, clip: Any) -> None:
        """Note a step.  clip: a ClipInfo, or None."""
        if clip is None:
            self._steps.append((loss, None, None, None, 0, None))
        else:
            step = (loss, clip.norm, clip.post, clip.clipped, clip.nonfinite, clip.cosine)
            self._steps.append(step)

    @property
    def last(self) -> tuple[float | None, float | None, int]:
        """Loss, norm, and the number of entries that are not finite, of the last step."""
        loss, norm, _, _, nonfinite, _ = self._steps[-1]
        return loss, norm, nonfinite

    def amend(self, norm: float, nonfinite: int) -> None:
        """Note the norm of the last step's gradient, where it was measured without clipping."""
        loss, _, post, clipped, _, cosine = self._steps[-1]
        self._steps[-1] = (loss, norm, post, clipped, nonfinite, cosine)

    def line(self) -> Line:
        """Return the columns as a line holds them, {} if there is no step."""
        if not self._steps:
            return {}
        columns = zip(self.COLUMNS, zip(*self._steps, strict=True), strict=True)
        return {"first": self._first, **{k: encode(v) for k, v in columns}}


def loss_of(loss: Any) -> float | None:
    """Return a loss as a number."""
    if loss is None:
        return None
    if type(loss) is float:
        return loss
    value = np.asarray(loss.numpy() if hasattr(loss, "numpy") else loss)
    if value.size != 1:
        raise ValueError(
            f"Monitor.step: loss must be one number, got shape {value.shape}; pass its mean"
        )
    return float(value.item())


def checked_clip(info: Any) -> Any:
    """Return a ClipInfo, or None; say what else was given."""
    if (
        info is None
        or isinstance(info, minirnn.ClipInfo)
        or all(hasattr(info, k) for k in ("norm", "post", "clipped", "nonfinite"))
    ):
        return info
    raise TypeError(
        "Monitor.step: clip_info must be what clip_grad_norm or clip_grad_value returned, or None, "
        f"got {type(info).__name__}"
    )
