"""diagnose: run a model once, measure how its gradients flow, and judge them."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

import minirnn
from diagnostics.machine import machine
from diagnostics.measuring import LEVELS, Effort, Findings, findings_of_layer, measure_model
from diagnostics.quantities.arguments import layers_of_model, whole_number
from diagnostics.quantities.losses import loss_for, loss_of_model
from diagnostics.quantities.watching import calls_of, evaluating
from diagnostics.report import Report
from diagnostics.rules import withdrawn


def diagnose(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Callable[[Any, Any], Any] | None = None,
    level: str = "standard",
    need_lag: int | None = None,
    sources: int = 8,
    lyapunov: int = 8,
    seed: int = 0,
) -> Report:
    """Measure how gradients flow through a model's recurrent layers, and judge them.

    Parameters
    ----------
    model : a Recurrent, or a Module that returns ``out`` or ``(out, ...)``
    x : the model's input
    y : targets; None for the model view, which needs no loss
    loss : callable (out, y); None is cross-entropy for integer y, mean squared error for floats
    level : "cheap" measures gates, timescales, and by-products of one backward pass; "standard"
        adds lag gain, eigenvalues, credit, truncation and the report's own checks; "full" adds
        singular values, Lyapunov exponents, the influence map, what clipping every step back at
        the median norm would do, and a run in float64
    need_lag : the lag that the task needs, default the largest, T - 1
    sources : rows that the lag gain starts from
    lyapunov : number of Lyapunov exponents, for the level "full"
    seed : of the random unit vectors and of the bootstrap

    Returns
    -------
    Report
        One subject per recurrent layer, level and direction.  Gradients kept in the parameters
        are left alone.
    """
    if level not in LEVELS:
        raise ValueError(f"diagnose: level must be one of {', '.join(LEVELS)}, got {level!r}")
    if level == "cheap" and y is None:
        raise ValueError(
            "diagnose: level 'cheap' measures the gradient of a loss and needs y; "
            "pass y, or level='standard' for the model view"
        )
    layers = layers_of_model("diagnose", model)
    effort = Effort(
        level,
        need_lag if need_lag is None else whole_number("diagnose", "need_lag", need_lag),
        whole_number("diagnose", "sources", sources, 1),
        whole_number("diagnose", "lyapunov", lyapunov, 1),
        whole_number("diagnose", "seed", seed),
    )
    made: dict[str, list[Findings]] = {}
    with ExitStack() as stack:
        # Numbers that are not finite are what the report is about: NumPy need not warn of them.
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(evaluating(model))
        watched = {
            name: stack.enter_context(minirnn.watch(m, keep=True)) for name, m in layers.items()
        }
        called = {name: stack.enter_context(calls_of(m)) for name, m in layers.items()}
        value = None
        if y is None:
            model(x)
        else:
            value = loss_of_model("diagnose", model, x, y, loss)
    with np.errstate(all="ignore"), evaluating(model):
        for name, layer in layers.items():
            if not called[name]:
                continue  # a layer that this input does not reach
            title, call = name or type(layer).__name__, called[name][-1]
            made[name] = findings_of_layer(title, layer, watched[name], call, value, effort)
        reached = {name: layer for name, layer in layers.items() if name in made}
        measure_model(made, reached, model, x, y, loss, effort)
    found = [findings for some in made.values() for findings in some]
    return Report(
        title=f"How gradients flow through {type(model).__name__}",
        subjects=[findings.subject for findings in found],
        verdicts=withdrawn([verdict for findings in found for verdict in findings.verdicts]),
        settings={**_settings(effort), "loss": _loss_name(y, loss)},
        machine=machine(),
    )


def _settings(effort: Effort) -> dict[str, str]:
    """Return the arguments that play a role at this level of effort."""
    table = {"level": effort.level, "seed": str(effort.seed)}
    table["need_lag"] = "the largest" if effort.need_lag is None else str(effort.need_lag)
    if effort.reaches("standard"):
        table["sources"] = str(effort.sources)
    if effort.reaches("full"):
        table["lyapunov"] = str(effort.lyapunov)
    return table


def _loss_name(y: Any, loss: Callable[[Any, Any], Any] | None) -> str:
    if y is None:
        return "none: model view"
    return getattr(loss or loss_for(y), "__name__", "given")
