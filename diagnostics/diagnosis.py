"""diagnose: run a model once, measure how its gradients flow, and judge them."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

import minirnn
from diagnostics.machine import machine
from diagnostics.quantities.decay_rate import decay_rate
from diagnostics.quantities.gradient_flow import flow_of_record, local_gradient
from diagnostics.quantities.lag_gain import lag_gain_of_record
from diagnostics.quantities.watching import (
    Call,
    calls_of,
    evaluating,
    record_of,
    recurrent_layers,
    sweep_flops,
)
from diagnostics.report import Report, Subject
from diagnostics.rules import Verdict, exploding, vanishing

LEVELS = ("cheap", "standard", "full")


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
    level : "cheap" measures by-products of one backward pass only, "standard" adds the lag gain;
        "full" has nothing to add to it yet
    need_lag : the lag that the task needs, default the largest, T - 1
    sources : rows that the lag gain starts from
    lyapunov : number of Lyapunov exponents, for the level "full"
    seed : of the random unit vectors and of the bootstrap

    Returns
    -------
    Report
        One subject per recurrent layer: its top level, forward direction.  Gradients kept in the
        parameters are left alone.
    """
    if level not in LEVELS:
        raise ValueError(f"diagnose: level must be one of {', '.join(LEVELS)}, got {level!r}")
    if level == "cheap" and y is None:
        raise ValueError(
            "diagnose: level 'cheap' measures the gradient of a loss and needs y; "
            "pass y, or level='standard' for the model view"
        )
    layers = recurrent_layers(model)
    if not layers:
        raise ValueError(
            "diagnose: model must be or contain a minirnn.Recurrent, "
            f"got {type(model).__name__} without one"
        )
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        watched = {name: stack.enter_context(minirnn.watch(m)) for name, m in layers.items()}
        called = {name: stack.enter_context(calls_of(m)) for name, m in layers.items()}
        out = model(x)
        value = None if y is None else (loss or _loss_for(y))(_first(out), y)
    subjects: list[Subject] = []
    verdicts: list[Verdict] = []
    for name, layer in layers.items():
        record = record_of(layer, watched[name], -1, 0)
        subject = name or type(layer).__name__
        flops = sweep_flops(layer, record, -1, 0)
        quantities: dict[str, Any] = {}
        if value is not None:
            local = _local(layer, record, called[name][-1], value)
            quantities["gradient_flow"] = flow_of_record(record, local, flops)
        if level != "cheap":
            gain = lag_gain_of_record(record, sources, seed=seed, flops=flops)
            quantities |= {"lag_gain": gain, "decay_rate": decay_rate(gain)}
            verdicts.append(vanishing(gain, need_lag, subject))
            verdicts.append(exploding(gain, need_lag, subject=subject))
        subjects.append(Subject(subject, quantities, _table(layer)))
    return Report(
        title=f"How gradients flow through {type(model).__name__}",
        subjects=subjects,
        verdicts=verdicts,
        settings={"level": level, "seed": str(seed), "loss": _loss_name(y, loss)},
        machine=machine(),
    )


def _local(layer: Any, record: Any, call: Call, loss: Any) -> dict[str, Any]:
    """Where the loss's gradient enters a layer: by its output and by its final states."""
    gradients = minirnn.grad(
        loss, [call.output, *call.states], retain_graph=True, allow_unused=True
    )
    d_output, *d_states = [None if g is None else g.numpy() for g in gradients]
    return local_gradient(layer, record, d_output, d_states, call.lengths)


def _first(out: Any) -> Any:
    return out[0] if isinstance(out, tuple) else out


def _loss_for(y: Any) -> Callable[[Any, Any], Any]:
    whole = y is not None and np.asarray(_array(y)).dtype.kind in "iu"
    return minirnn.cross_entropy if whole else minirnn.mse_loss


def _loss_name(y: Any, loss: Callable[[Any, Any], Any] | None) -> str:
    if y is None:
        return "none: model view"
    return getattr(loss or _loss_for(y), "__name__", "given")


def _array(y: Any) -> Any:
    return y.numpy() if isinstance(y, minirnn.Tensor) else y


def _table(layer: Any) -> dict[str, str]:
    return {
        "layer": f"{type(layer).__name__}, {layer.input_size} to {layer.hidden_size}",
        "judged": "top level, forward direction",
    }
