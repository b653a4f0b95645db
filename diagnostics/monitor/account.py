"""From the lines of a monitor to a Report: timelines, and the rules judged over the window."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from types import SimpleNamespace
from typing import Any

import numpy as np

from diagnostics import rules
from diagnostics.monitor.alarms import spelled_place
from diagnostics.monitor.journal import Line, Run, read_run
from diagnostics.quantities.base import Quantity, decode
from diagnostics.quantities.clip_effect import ClipDirection
from diagnostics.quantities.clipping import Clipping, clipping_statistics
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.timeline import Course, Timeline
from diagnostics.quantities.update_ratio import UpdateRatio
from diagnostics.report import Report, Subject, quantity_from
from diagnostics.rules import TABLE, Verdict, verdict_of

RUN = "training run"  # the subject of what is said of the whole model
# Rules on the last measured step, where the level of the monitor measured their quantity.
LAST: dict[str, tuple[Callable[..., Verdict], ...]] = {
    "lag_gain": (rules.vanishing, rules.exploding, rules.transient),
    "credit": (rules.credit_assignment,),
}


def report_of_file(path: str | PathLike[str]) -> Report:
    """Make the report of a run from the file that a monitor wrote."""
    return report_of_run(read_run(path))


def report_of_run(run: Run) -> Report:
    """Make the report of a run: what was recorded, and what rules say to its last steps."""
    window = int(run.head.get("window", 0)) or None
    steps = _steps(run.parts)
    recent = [r for r in run.rows if window is None or r["step"] >= run.next_step - window]
    subject, verdicts = _of_model(run, steps, recent, window)
    subjects = [subject]
    for name in dict.fromkeys(name for row in run.rows for name in row["layers"]):
        found, judged = _of_layer(name, run, recent)
        subjects.append(found)
        verdicts += judged
    verdicts += [_alarm(alarm) for alarm in run.alarms]
    return Report(
        title=f"How the training of {run.head.get('model', 'a model')} went",
        subjects=subjects,
        verdicts=sorted(verdicts, key=lambda v: list(TABLE).index(v.rule)),
        settings=_settings(run, len(steps["loss"])),
        machine=run.head.get("machine", {}),
        about=_about(run, len(steps["loss"])),
    )


def _steps(parts: Iterable[Line]) -> dict[str, Any]:
    """Put the columns of every step together: loss, norm ..., and the steps' numbers."""
    names = ("loss", "norm", "post", "clipped", "nonfinite", "cosine")
    columns = {k: [decode(v) for part in parts for v in part[k]] for k in names}
    numbers = [part["first"] + i for part in parts for i in range(len(part["loss"]))]
    return {**columns, "number": np.asarray(numbers, np.int64)}


def _floats(values: Sequence[Any]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _of_model(
    run: Run, steps: dict[str, Any], recent: list[Line], window: int | None
) -> tuple[Subject, list[Verdict]]:
    """Describe and judge the model as a whole: R9, R10, R11, R13."""
    quantities: dict[str, Quantity] = {"course": _course(run, steps)}
    verdicts = []
    clip = _clipping(steps, window)
    if clip is not None:
        quantities["clipping"] = clip
        verdicts.append(rules.clipping(clip, RUN))
        direction = _direction(steps, window)
        if direction is not None:
            quantities["clip_direction"] = direction
            verdicts.append(rules.clip_direction(direction, RUN))
    orders = [row["changed"] for row in recent if row.get("changed") is not None]
    if orders:
        verdicts.append(rules.clip_order(list(dict.fromkeys(n for o in orders for n in o)), RUN))
    ratio = _update_ratio(recent)
    if ratio is not None:
        quantities["update_ratio"] = ratio
        verdicts.append(rules.update_ratio(ratio, RUN))
    settings = {"measured": f"{len(run.rows)} of {len(steps['loss'])} training steps"}
    return Subject(RUN, quantities, settings), verdicts


def _course(run: Run, steps: dict[str, Any]) -> Course:
    loss = _floats(steps["loss"])
    finite = loss[np.isfinite(loss)]
    ratios = [row.get("update_ratio") or {} for row in run.rows]
    names = list(dict.fromkeys(name for ratio in ratios for name in ratio))
    return Course(
        value=float(finite[-1]) if len(finite) else float("nan"),
        how="loss of every training step; updates at the measured ones",
        loss=loss,
        steps=steps["number"],
        measured=np.array([row["step"] for row in run.rows], np.int64),
        update_names=names,
        breaks=np.array(sorted({alarm["step"] for alarm in run.alarms}), np.int64),
        update_ratio=np.array([[_number(ratio, n) for n in names] for ratio in ratios])
        .reshape(len(ratios), len(names)),
    )  # fmt: skip


def _number(line: Line, name: str) -> float:
    value = decode(line.get(name))
    return float("nan") if value is None else float(value)


def _clipping(steps: dict[str, Any], window: int | None) -> Clipping | None:
    """Count over the steps that were clipped, or could have been; None without any."""
    given = [i for i, clipped in enumerate(steps["clipped"]) if clipped is not None]
    if not given:
        return None
    columns = ("norm", "post", "clipped", "nonfinite")
    infos = [SimpleNamespace(**{k: steps[k][i] for k in columns}) for i in given]
    # Clipping by norm leaves the threshold itself; by value, another norm each time.
    posts = {info.post for info in infos if info.clipped}
    return clipping_statistics(infos, posts.pop() if len(posts) == 1 else None, window)


def _direction(steps: dict[str, Any], window: int | None) -> ClipDirection | None:
    """Choose the clipped step of the window whose gradient was turned the most."""
    last = range(len(steps["clipped"]))[-window if window else None :]
    cosines = {i: steps["cosine"][i] for i in last if steps["clipped"][i]}
    known = {i: c for i, c in cosines.items() if c is not None and not np.isnan(c)}
    if not known:
        return None
    worst = min(known, key=lambda i: known[i])
    return ClipDirection(
        value=float(known[worst]),
        how=f"the smallest of the {len(known)} steps of the window that were clipped",
        pre=float(steps["norm"][worst]),
        post=float(steps["post"][worst]),
        changed=float("nan"),
        share={},
    )


def _update_ratio(recent: list[Line]) -> UpdateRatio | None:
    """Take the median over the window's measured steps, parameter by parameter.

    One update that is not finite breaks a parameter for good: it is not outvoted by the others.
    """
    ratios = [row["update_ratio"] for row in recent if row.get("update_ratio")]
    if not ratios:
        return None
    names = list(dict.fromkeys(name for ratio in ratios for name in ratio))
    columns = [[v for r in ratios if not np.isnan(v := _number(r, n))] for n in names]
    return UpdateRatio(
        value=np.array([_middle(c) for c in columns]),
        how=(
            "norm of an update over the norm of the parameter before it, parameter by parameter; "
            f"median over {len(ratios)} measured steps"
        ),
        names=names,
    )


def _middle(ratios: list[float]) -> float:
    if np.inf in ratios:
        return float("inf")
    return float(np.median(ratios)) if ratios else float("nan")


def _of_layer(name: str, run: Run, recent: list[Line]) -> tuple[Subject, list[Verdict]]:
    """Describe and judge one level and direction: R12 over the window, the rest at its last row."""
    rows = [row for row in run.rows if name in row["layers"]]
    last = rows[-1]["layers"][name]
    found: dict[str, Any] = {key: quantity_from(key, q) for key, q in last["quantities"].items()}
    timeline = _timeline(name, rows)
    verdicts = []
    shares = {
        i: float(decode(row["layers"][name]["quantities"]["numeric_health"]["value"]))
        for i, row in enumerate(recent)
        if name in row["layers"]
    }
    if shares:
        middle = sorted(shares, key=lambda i: shares[i])[(len(shares) - 1) // 2]
        health = recent[middle]["layers"][name]["quantities"]["numeric_health"]
        found["numeric_health"] = quantity_from("numeric_health", health)
        verdict = rules.bit_vanished(found["numeric_health"], name)
        evidence = f"{verdict.evidence}; the median of {len(shares)} measured steps"
        verdicts.append(dataclasses.replace(verdict, evidence=evidence))
    verdicts += _of_last_row(name, found)
    settings = dict(last.get("about", {})) | {"last measured": f"training step {rows[-1]['step']}"}
    return Subject(name, {"timeline": timeline, **found}, settings), verdicts


def _of_last_row(name: str, found: dict[str, Any]) -> list[Verdict]:
    """Judge what has intervals: quantities of the levels "standard" and "full"."""
    if "lag_gain" not in found:
        return []
    verdicts = [rule(found[k], subject=name) for k, judge in LAST.items() for rule in judge]
    lag = len(found["lag_gain"].value) - 1
    gates = found["gate_statistics"]
    verdicts += [
        rules.gate_slope(gates, name),
        rules.gate_stuck(gates, name),
        rules.memory(found["memory_timescales"], lag, name),
    ]
    if "lyapunov" in found:
        verdicts.append(rules.contraction(found["singular_values"], name))
        verdicts.append(rules.lyapunov(found["lyapunov"], lag, name))
    return verdicts


def _timeline(name: str, rows: list[Line]) -> Timeline:
    layers = [row["layers"][name] for row in rows]
    quantities = [layer["quantities"] for layer in layers]
    rates = [q["decay_rate"] for q in quantities]
    exponents = [decode(q["lyapunov"]["value"])[0] if "lyapunov" in q else None for q in quantities]
    gates = list(layers[-1]["gates"])

    def of_gates(what: str) -> dict[str, Floats]:
        return {k: _floats([_number(la["gates"].get(k, {}), what) for la in layers]) for k in gates}

    last_ci = decode(rates[-1]["ci"])
    return Timeline(
        value=float(decode(rates[-1]["value"])),
        ci=last_ci,
        how=(
            "median over sequences of the norm of delta at each row, before any clipping; decay "
            f"rate: {rates[-1]['how']}"
        ),
        steps=np.array([row["step"] for row in rows], np.int64),
        flow=_padded([layer["flow"]["joint"] for layer in layers]),
        states={
            k: _padded([layer["flow"]["states"][k] for layer in layers])
            for k in layers[-1]["flow"]["states"]
        },
        rho=_floats([decode(rate["value"]) for rate in rates]),
        rho_ci=np.array([[np.nan] * 2 if r["ci"] is None else decode(r["ci"]) for r in rates]),
        exponent=_floats(exponents),
        low=of_gates("low"),
        high=of_gates("high"),
        slope=of_gates("slope"),
        vanished=_floats([decode(q["numeric_health"]["value"]) for q in quantities]),
    )


def _padded(rows: Sequence[Sequence[Any]]) -> Floats:
    """Lay rows of different lengths below each other, NaN after their ends."""
    out = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = decode(list(row))
    return out


def _alarm(alarm: Line) -> Verdict:
    """Judge R2 of the step at which something broke first."""
    where = spelled_place(alarm["where"])
    evidence = f"first at training step {alarm['step']}: {alarm['evidence']}"
    evidence += f"; {where}" if where else ""
    ratio, subject = float(decode(alarm["ratio"])), alarm["where"].get("layer", RUN)
    if alarm["what"] == "explosion":
        return verdict_of("R2", ratio, None, rules.MIN_SAMPLES, evidence, subject)
    rule = TABLE["R2"]
    return Verdict("R2", "fail", ratio, rule.fail, None, evidence, rule.remedy, subject)


def _settings(run: Run, count: int) -> dict[str, str]:
    head = run.head
    table = {
        "level": str(head.get("level", "unknown: the file's first line is lost")),
        "measured": f"{len(run.rows)} of {count} training steps, every {head.get('every', '?')}",
        "window": f"rules look at the last {head.get('window', count)} steps",
    }
    if "seed" in head:  # files of older versions do not say
        table["seed"] = str(head["seed"])
    if run.ended:
        table["ended"] = run.ended
    if run.skipped:
        table["skipped"] = "; ".join(run.skipped)
    return table


def _about(run: Run, count: int) -> str:
    said = f"Recorded in a training loop: {count} steps, {len(run.rows)} of them measured."
    broke = min(run.alarms, key=lambda alarm: int(alarm["step"]), default=None)
    if broke is None:
        return said + " No number left its range."
    return f"{said} It broke first at step {broke['step']}: {broke['evidence']}."
