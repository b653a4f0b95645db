"""The report of a PyTorch module, from files: its weights, an input, and perhaps targets."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diagnostics.diagnosis import diagnose
from diagnostics.others.arrays import read_array
from diagnostics.others.halves import Array
from diagnostics.others.torch_layers import Network, load_torch
from diagnostics.quantities.losses import loss_for
from diagnostics.report import Report


def report_of_files(
    weights: str, x: str, y: str | None, loading: Mapping[str, Any], judging: Mapping[str, Any]
) -> Report:
    """Diagnose a PyTorch module.

    weights: a file of tensors; x, y: files of arrays; loading: options of `load_torch`; judging:
    options of `diagnose`.
    """
    if judging.get("level") == "cheap" and y is None:
        raise ValueError(
            "report: --level cheap measures the gradient of a loss and needs --target y.npy; "
            "--level standard does without"
        )
    model = load_torch(weights, **loading)
    layer = model.recurrent if isinstance(model, Network) else model
    inputs = _checked_input(f"input: {x}", read_array(x, "input"), model, layer)
    targets, loss = None, None
    if y is not None:
        steps = inputs.shape if _reads_ids(model) else inputs.shape[:-1]
        targets = read_array(y, "target")
        targets, loss = _checked_target(f"target: {y}", targets, steps, model, layer)
    report = diagnose(model, inputs, targets, loss, **judging)
    told = {"weights": Path(weights).name, "input": f"{Path(x).name}, shape {inputs.shape}"}
    if targets is not None:
        told["target"] = f"{Path(str(y)).name}, shape {targets.shape}"
    return replace(
        report,
        title=f"How gradients flow through the {type(layer).__name__} of {Path(weights).name}",
        settings={**told, **report.settings},
    )


def _reads_ids(model: Any) -> bool:
    return isinstance(model, Network) and model.embedding is not None


def _checked_input(place: str, x: Array, model: Any, layer: Any) -> Array:
    """Return the input as the model takes it, or say what is wrong with it."""
    steps = "(B, T" if layer.batch_first else "(T, B"
    if _reads_ids(model):
        if x.dtype.kind not in "iu":
            raise ValueError(f"{place} must hold ids beside an embedding, got dtype {x.dtype}")
        ranks, shape, alone = (1, 2), f"{steps})", "(T,)"
    else:
        if x.dtype.kind != "f":
            raise ValueError(
                f"{place} must hold floats, got dtype {x.dtype}; ids need an embedding: pass "
                "--embedding NAME"
            )
        width = layer.input_size
        ranks, shape, alone = (2, 3), f"{steps}, {width})", f"(T, {width})"
    if x.ndim not in ranks or (ranks == (2, 3) and x.shape[-1] != layer.input_size):
        raise ValueError(
            f"{place} must have shape {shape}, or {alone} without a batch, got {x.shape}"
        )
    if not x.size:
        raise ValueError(f"{place} must hold at least one step of one sequence, got {x.shape}")
    return x if _reads_ids(model) else _cast(place, x, layer.dtype)


def _cast(place: str, array: Array, dtype: Any) -> Array:
    """Return floats in the dtype of the weights, if they fit into it."""
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if not np.isfinite(cast).all():
        raise ValueError(f"{place} has numbers beyond {cast.dtype}, the dtype of the weights")
    return cast


def _checked_target(
    place: str, y: Array, steps: tuple[int, ...], model: Any, layer: Any
) -> tuple[Array, Callable[[Any, Any], Any] | None]:
    """Return targets and the loss, None for that of every step.

    steps: shape of the input without its last axis I.
    """
    time = 1 if layer.batch_first and len(steps) == 2 else 0
    last = tuple(n for axis, n in enumerate(steps) if axis != time)
    classes = y.dtype.kind in "iu"
    width = layer.directions * layer.hidden_size
    if isinstance(model, Network) and model.readout is not None:
        width = model.readout.out_features
    every, end = (steps, last) if classes else ((*steps, width), (*last, width))
    if y.shape not in (every, end):
        what = "classes" if classes else "floats"
        raise ValueError(
            f"{place} holds {what} and must have shape {every} for every step or {end} for the "
            f"last one, got {y.shape}"
        )
    if not classes:
        y = _cast(place, y, layer.dtype)
    elif y.min() < -100 or y.max() >= width:
        raise ValueError(f"{place} must hold classes below {width}, got {y.min()} to {y.max()}")
    if y.shape == every:
        return y, None

    def loss_at_the_last_step(out: Any, y: Any) -> Any:
        return loss_for(y)(out[:, -1] if time else out[-1], y)

    return y, loss_at_the_last_step
