"""The report of a PyTorch module, from files: its weights, an input, and perhaps targets."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnostics.diagnosis import diagnose
from diagnostics.others.arrays import read_array
from diagnostics.others.inputs import checked_axes, with_lengths, without_padding
from diagnostics.others.targets import checked_target
from diagnostics.others.torch_layers import Network, load_torch
from diagnostics.report import Report
from diagnostics.seconds import timed


def report_of_files(
    weights: str,
    arrays: Mapping[str, str],
    loading: Mapping[str, Any],
    judging: Mapping[str, Any],
    timings: bool = False,
) -> Report:
    """Diagnose a PyTorch module.

    weights: a file of tensors; arrays: files by what they are, "input", "target", "lengths", of
    which the first is needed; loading: options of `load_torch`; judging: options of `diagnose`;
    timings: put seconds into the report, which then differs every time.
    """
    seconds: dict[str, float] = {}
    if judging.get("level") == "cheap" and "target" not in arrays:
        raise ValueError(
            "report: --level cheap measures the gradient of a loss and needs --target y.npy; "
            "--level standard does without"
        )
    with timed(seconds, "read the files"):
        model = load_torch(weights, **loading)
        read = {what: read_array(path, what) for what, path in arrays.items()}
    layer = model.recurrent if isinstance(model, Network) else model
    places = {what: f"{what}: {path}" for what, path in arrays.items()}
    axes = checked_axes(places["input"], read["input"], model, layer)
    if "lengths" in read:
        axes = with_lengths(places["lengths"], axes, read["lengths"])
        model = model if isinstance(model, Network) else Network(layer)
        model.lengths = axes.lengths
    x = without_padding(places["input"], read["input"], axes.valid(), layer.dtype)
    y, loss = None, None
    if "target" in read:
        y, loss = checked_target(places["target"], read["target"], axes, model, layer)
    with timed(seconds, "diagnose"):
        report = diagnose(model, x, y, loss, **judging)
    files = {what: f"{Path(path).name}, shape {read[what].shape}" for what, path in arrays.items()}
    return replace(
        report,
        title=f"How gradients flow through the {type(layer).__name__} of {Path(weights).name}",
        settings={"weights": Path(weights).name, **files, **report.settings},
        seconds=seconds if timings else {},
    )
