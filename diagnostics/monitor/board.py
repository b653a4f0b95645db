"""TensorBoard events of a monitor's rows: a few curves, not one per parameter."""

import re
from os import PathLike
from typing import Any

import numpy as np

from diagnostics.quantities.base import decode

_NO_TAG = re.compile(r"[^-/\w.]+")  # what TensorBoard does not take in a curve's name


class Board:
    """Writes scalars with tensorboardX.

    target: a folder, or a writer with ``add_scalar(tag, value, step)``, which stays the caller's.
    """

    def __init__(self, target: Any) -> None:
        self._own = not hasattr(target, "add_scalar")
        self._writer = _writer(target) if self._own else target

    def add(self, row: dict[str, Any]) -> None:
        """Write the curves of a measured step."""
        for tag, value in curves(row).items():
            self._writer.add_scalar(tag, value, row["step"])
        if hasattr(self._writer, "flush"):
            self._writer.flush()  # a crash is when they are wanted

    def close(self) -> None:
        """Close the writer, unless it is the caller's."""
        if self._own:
            self._writer.close()


def check_target(target: Any) -> None:
    """Raise TypeError for what is neither a folder's path nor a writer."""
    if not isinstance(target, str | PathLike) and not callable(getattr(target, "add_scalar", None)):
        raise TypeError(
            "Monitor: tensorboard must be a folder's path or a writer with add_scalar, got "
            f"{type(target).__name__}"
        )


def curves(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row that make curves, by tag; those that are not finite make none."""
    since = row["since"]
    found: dict[str, Any] = {"loss": since["loss"][-1], "gradient/norm": since["norm"][-1]}
    clipped = [c for c in since["clipped"] if c is not None]
    if clipped:
        found["gradient/clipped_fraction"] = float(np.mean(clipped))
        found["gradient/norm_after_clipping"] = since["post"][-1]
    ratios = [float(decode(r)) for r in (row.get("update_ratio") or {}).values()]
    if ratios:
        found |= {"update_ratio/largest": max(ratios), "update_ratio/smallest": min(ratios)}
    for name, layer in row["layers"].items():
        flow = layer["flow"]["joint"]
        found |= {
            f"{name}/decay_rate": layer["quantities"]["decay_rate"]["value"],
            f"{name}/delta_first_row": flow[0],
            f"{name}/delta_last_row": flow[-1],
        }
        for k, gate in layer["gates"].items():
            found |= {f"{name}/gate_{k}_low": gate["low"], f"{name}/gate_{k}_high": gate["high"]}
    numbers = {tag: float(decode(value)) for tag, value in found.items() if value is not None}
    return {_NO_TAG.sub("_", tag): v for tag, v in numbers.items() if np.isfinite(v)}


def _writer(folder: Any) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "Monitor: tensorboard= needs tensorboardX, which is not installed: "
            "pip install 'minirnn[tensorboard]', or pass a writer with add_scalar"
        ) from error
    return SummaryWriter(str(folder))
