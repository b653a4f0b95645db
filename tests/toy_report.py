"""A report of six runs made of toy numbers: everything a page can show, without training."""

from types import SimpleNamespace

import numpy as np

from diagnostics import rules
from diagnostics.quantities import gradient_flow, lag_gain, lags
from diagnostics.quantities.base import Cost
from diagnostics.quantities.clipping import clipping_statistics
from diagnostics.quantities.decay_rate import decay_rate
from diagnostics.quantities.training import Training
from diagnostics.report import Report, Subject

STEPS, SEQUENCES, TRAINING_STEPS = 24, 10, 60
SCRIPT = "</script><script>alert('<&>')</script>"


def run(cell, rho, max_norm, rng):
    """One run whose gradients shrink by rho a step."""
    name = f"{cell}, {'unclipped' if max_norm is None else 'clipped'}"
    rows = lags.source_rows(STEPS, 8)
    spread = np.exp(0.1 * rng.standard_normal((1, SEQUENCES, 1)))
    samples = (rho * spread) ** np.arange(STEPS) * np.ones((len(rows), 1, 1))
    gain = lag_gain.summarise(
        samples,
        np.repeat(rows[:, None], SEQUENCES, axis=1),
        STEPS,
        inject="h",
        dtype="float32",
        cost=Cost(9, 10**9, 10**6),
    )
    local = rng.standard_normal((STEPS + 1, SEQUENCES, 4))
    total = local.copy()
    for t in range(STEPS - 1, -1, -1):
        total[t] += rho * total[t + 1]
    limit = np.inf if max_norm is None else max_norm
    clips = [
        SimpleNamespace(norm=n, post=min(n, limit), clipped=n > limit, nonfinite=0)
        for n in rng.lognormal(size=TRAINING_STEPS)
    ]
    clip = clipping_statistics(clips, max_norm)
    steps = np.arange(0, TRAINING_STEPS, 5)
    training = Training(
        value=1.9,
        ci=np.array([1.8, 2.0]),
        how="mean cross-entropy",
        loss=3 * np.exp(-np.arange(TRAINING_STEPS) / 20) + 1,
        flow=rng.lognormal(size=(len(steps), STEPS + 1)),
        flow_steps=steps,
        stopped="" if max_norm else "stopped at training step 59: a gradient was not finite",
        prompt="def ",
        sample=f"f(x):\n    return {SCRIPT}",
    )
    quantities = {
        "lag_gain": gain,
        "decay_rate": decay_rate(gain),
        "gradient_flow": gradient_flow.summarise({"h": total}, {"h": local}, Cost(2, 10**8, 10**6)),
        "clipping": clip,
        "training": training,
    }
    verdicts = [rules.vanishing(gain, subject=name), rules.exploding(gain, subject=name)]
    if max_norm is not None:
        verdicts.append(rules.clipping(clip, subject=name))
    return Subject(name, quantities, {"cell": cell, "clipping": str(max_norm)}), verdicts


def toy_report(seconds=None):
    """Six runs: three cells, with and without clipping."""
    rng = np.random.default_rng(0)
    runs = [
        run(cell, rho, max_norm, rng)
        for cell, rho in (("rnn", 0.4), ("lstm", 0.9), ("gru", 1.0))
        for max_norm in (1.0, None)
    ]
    return Report(
        title="Six runs & their gradients",
        subjects=[subject for subject, _ in runs],
        verdicts=[verdict for _, verdicts in runs for verdict in verdicts],
        settings={"text": "toy", "seed": "0"},
        machine={"processor": "none"},
        seconds=seconds or {},
    )
