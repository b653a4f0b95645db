"""What `diagnose` measures of one recurrent layer, by level of effort, and what rules say to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.places import place_table, subject_name
from diagnostics.quantities.base import Quantity
from diagnostics.quantities.clip_effect import clipping_of_record, middle_norm
from diagnostics.quantities.credit import credit_of_record
from diagnostics.quantities.decay_rate import decay_rate
from diagnostics.quantities.gate_statistics import statistics_of_record
from diagnostics.quantities.gradient_flow import flow_of_record
from diagnostics.quantities.influence import influence_of_record
from diagnostics.quantities.jacobian_source import Source, source_of_record
from diagnostics.quantities.kept_share import kept_share
from diagnostics.quantities.lag_gain import lag_gain_of_record
from diagnostics.quantities.linearisation import blocks_of, linearisation_of_source
from diagnostics.quantities.local_gradients import Arrays, locals_of_call
from diagnostics.quantities.lyapunov import spectrum_of_source
from diagnostics.quantities.numeric_health import health_of_record
from diagnostics.quantities.precision import precision
from diagnostics.quantities.self_checks import checks_of_twin
from diagnostics.quantities.singular_values import bound_of_source, values_of_source
from diagnostics.quantities.timescales import timescales_of_share
from diagnostics.quantities.truncation import error_of_layers
from diagnostics.quantities.twin import twin_of
from diagnostics.quantities.watching import Call, not_finite, parameters_of, sweep_flops
from diagnostics.report import Subject
from diagnostics.rules import Verdict

LEVELS = ("cheap", "standard", "full")
# Steps and sequences whose Jacobians are decomposed into singular values; the largest, which a rule
# judges, is looked for in all sequences, so that their order changes no verdict.
DECOMPOSED, SEQUENCES = 64, 8
INFLUENCES = 16  # sources of the influence map


@dataclass(frozen=True)
class Effort:
    """How much to measure: the arguments of `diagnose`."""

    level: str
    need_lag: int | None
    sources: int
    lyapunov: int
    seed: int

    def reaches(self, level: str) -> bool:
        """Whether what belongs to a level is measured."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


@dataclass
class Findings:
    """Quantities and verdicts of one level and direction."""

    name: str
    settings: dict[str, str]
    quantities: dict[str, Quantity] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        """As a report holds it."""
        return Subject(self.name, self.quantities, self.settings)


def findings_of_layer(
    name: str, layer: Any, seen: Any, call: Call, loss: Any, effort: Effort
) -> list[Findings]:
    """Measure every level and direction of a layer, the top one first.

    seen: the layer's record; call: what it was given and returned; loss: of the model, or None.
    """
    record = seen.calls[-1]
    entering: dict[tuple[int, int], Arrays] = {}
    d_output = None
    if loss is not None:
        outputs = [call.output, *call.states]
        found = minirnn.grad(loss, outputs, retain_graph=True, allow_unused=True)
        cotangents = [None if g is None else g.numpy() for g in found]
        d_output = cotangents[0]
        if any(d is not None for d in cotangents):
            entering = locals_of_call(layer, record, outputs, cotangents)
    made = []
    for level in reversed(range(layer.num_layers)):
        for direction in range(layer.directions):
            subject = subject_name(name, layer, level, direction)
            findings = Findings(subject, place_table(layer, level, direction, record[0, 0]))
            place = _Place(layer, record, level, direction, call.start)
            _measure(findings, place, entering.get((level, direction)), effort)
            made.append(findings)
    if effort.reaches("standard"):
        _check(made, name, layer, call, d_output, effort)
    return made


@dataclass(frozen=True)
class _Place:
    """One level and direction of a watched call."""

    layer: Any
    call: Any
    level: int
    direction: int
    start: int

    @property
    def record(self) -> Any:
        return self.call[self.level, self.direction]

    @property
    def flops(self) -> int:
        return sweep_flops(self.layer, self.record, self.level, self.direction)


def _measure(findings: Findings, place: _Place, eps: Arrays | None, effort: Effort) -> None:
    """Measure one level and direction, and judge it."""
    if place.record.inputs.size == 0 or not _steps(place.record):
        raise ValueError(
            f"diagnose: {findings.name} must be given at least one step of one sequence"
        )
    lag = _needed(place.record, effort.need_lag)
    _gates(findings, place, lag)
    if eps is not None:
        _gradients(findings, place, eps, effort)
    broken = _broken(findings, place)
    if effort.reaches("standard"):
        source = source_of_record("diagnose", place.record, place.flops)
        _lags(findings, place, source, effort, broken)
        if effort.reaches("full"):
            _dynamics(findings, place, source, lag, effort)
    else:
        findings.verdicts += broken


def _gates(findings: Findings, place: _Place, lag: int) -> None:
    share = kept_share(place.layer, place.call, place.level, place.direction, place.start)
    gates = statistics_of_record(place.record, share)
    scales = timescales_of_share(share)
    findings.quantities |= {"gate_statistics": gates, "memory_timescales": scales}
    name = findings.name
    findings.verdicts += [
        rules.gate_slope(gates, name),
        rules.gate_stuck(gates, name),
        rules.memory(scales, lag, name),
    ]


def _gradients(findings: Findings, place: _Place, eps: Arrays, effort: Effort) -> None:
    """Quantities of the loss's own gradient."""
    record, flops, name = place.record, place.flops, findings.name
    swept = record.pullback(d_state=eps)
    health = health_of_record(record, swept, eps, flops)
    flow = flow_of_record(record, eps, flops)
    findings.quantities |= {"gradient_flow": flow, "numeric_health": health}
    findings.verdicts.append(rules.bit_vanished(health, name))
    if effort.reaches("standard"):
        credit = credit_of_record(place.layer.cell, swept, place.layer.bias, 2 * flops)
        findings.quantities["credit"] = credit
        findings.verdicts.append(rules.credit_assignment(credit, name))
    if effort.reaches("full"):
        findings.quantities["influence"] = influence_of_record(record, eps, INFLUENCES, flops)
        findings.quantities["graph_clipping"] = clipping_of_record(
            place.layer.cell, record, eps, middle_norm(flow.value), place.layer.bias, flops
        )


def _broken(findings: Findings, place: _Place) -> list[Verdict]:
    """Judge weights, and a loss's gradient, that are not finite."""
    counts, gradient = not_finite(place.layer), ""
    weights = f"weights that are not finite: {counts}" if counts else ""
    health: Any = findings.quantities.get("numeric_health")
    places = [e for e in health.events if e["kind"] in ("nan", "inf")] if health else []
    if places:
        first = places[0]
        gradient = (
            f"{first['kind']} on the way {first['pass']}, first in {first['where']} "
            f"{first['name']} at step {first['step']}, sequence {first['sequence']}, unit "
            f"{first['unit']}"
        )
    found = bool(weights or gradient)
    return [rules.not_finite(weights, gradient, findings.name)] if found else []


def _lags(
    findings: Findings, place: _Place, source: Source, effort: Effort, broken: list[Verdict]
) -> None:
    """Lag gain, decay rate, and the eigenvalues of the recurrence."""
    name = findings.name
    gain = lag_gain_of_record(place.record, effort.sources, seed=effort.seed, flops=place.flops)
    blocks = blocks_of(place.layer, place.level, place.direction)
    findings.quantities |= {
        "lag_gain": gain,
        "decay_rate": decay_rate(gain),
        "linearisation": linearisation_of_source(source, blocks),
    }
    findings.verdicts += [
        rules.vanishing(gain, effort.need_lag, name),
        *(broken or [rules.exploding(gain, effort.need_lag, subject=name)]),
        rules.transient(gain, name),
    ]


def _dynamics(findings: Findings, place: _Place, source: Source, lag: int, effort: Effort) -> None:
    """Singular values, their product, and Lyapunov exponents."""
    name = findings.name
    weight = parameters_of(place.layer, place.level, place.direction)["weight_hh"].numpy()
    picked = source.spread(SEQUENCES)
    values = values_of_source(source, DECOMPOSED, picked)
    spectrum = spectrum_of_source(source, min(effort.lyapunov, source.size), seed=effort.seed)
    findings.quantities |= {
        "singular_values": values,
        "product_bound": bound_of_source(source.of_sequences(picked), weight, DECOMPOSED),
        "lyapunov": spectrum,
    }
    findings.verdicts += [
        rules.contraction(values, name),
        rules.lyapunov(spectrum, lag, name),
    ]


def _check(
    made: list[Findings], name: str, layer: Any, call: Call, d_output: Any, effort: Effort
) -> None:
    """Check a layer's identities; the top level's findings carry them."""
    twin = twin_of(layer, call.x, call.lengths, call.state, call.start)
    v = None
    if d_output is not None:
        v = d_output[:, None] if d_output.ndim == 2 else d_output
        v = v.swapaxes(0, 1) if layer.batch_first and d_output.ndim == 3 else v
    gains = [f.quantities["lag_gain"] for f in made]
    spectra = [f.quantities["lyapunov"] for f in made if "lyapunov" in f.quantities]
    checks = checks_of_twin(twin, v, gains, spectra, effort.seed)  # type: ignore[arg-type]
    made[0].quantities["self_checks"] = checks
    made[0].verdicts.append(rules.self_check(checks, name))


def measure_model(
    made: dict[str, list[Findings]],
    layers: dict[str, Any],
    model: Any,
    x: Any,
    y: Any,
    loss: Callable[[Any, Any], Any] | None,
    effort: Effort,
) -> None:
    """Measure what needs the whole model's loss: truncation, and the cost of the dtype."""
    if y is None or not effort.reaches("standard"):
        return
    for name, layer in layers.items():
        top = made[name][0]
        if "t" in layer.cell.arguments and layer.bidirectional:
            top.settings["truncation"] = (
                "not measured: the cell counts its steps, a reverse direction counts them from "
                "the other end, and so chunks have no start of their own"
            )
            continue
        top.quantities["tbptt_error"] = error_of_layers(model, {name: layer}, x, y, loss=loss)
    if effort.reaches("full"):
        first = made[next(iter(layers))][0]
        first.quantities["precision"] = precision(model, x, y, loss)


def _needed(record: Any, need_lag: int | None) -> int:
    largest = _steps(record) - 1
    if need_lag is None:
        return largest
    if not 0 <= need_lag <= largest:
        raise ValueError(
            f"diagnose: need_lag must lie in 0 to {largest}, the largest lag measured, "
            f"got {need_lag}; pass a longer x"
        )
    return need_lag


def _steps(record: Any) -> int:
    """Count the steps of the longest sequence."""
    rows = len(next(iter(record.states.values()))) - 1
    return rows if record.lengths is None else int(np.max(record.lengths, initial=0))
