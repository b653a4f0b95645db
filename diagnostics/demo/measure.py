"""What the demo measures on a trained model, on text that it has not seen."""

from dataclasses import replace
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.demo.corpus import Corpus, unseen_batch
from diagnostics.demo.settings import Settings
from diagnostics.demo.train import CharModel, Trained
from diagnostics.diagnosis import diagnose
from diagnostics.quantities.base import Quantity, significant
from diagnostics.quantities.clip_effect import graph_clipping, middle_norm
from diagnostics.quantities.clipping import clipping_statistics
from diagnostics.quantities.decay_rate import decay_rate
from diagnostics.quantities.gradient_flow import gradient_flow
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.statistics import interval, resamples
from diagnostics.quantities.training import Training
from diagnostics.report import Subject
from diagnostics.rules import Verdict, withdrawn

CLOSER = 8  # sequences that are looked at closely: gates, credit, truncation, the self-checks


def measure(
    name: str, cell: str, max_norm: float | None, run: Trained, corpus: Corpus, settings: Settings
) -> tuple[Subject, list[Verdict]]:
    """Measure and judge one run."""
    x, y = unseen_batch(corpus, settings)
    with minirnn.no_grad():
        inputs = run.model.embedding(x).numpy()
    gain = lag_gain(run.model.recurrent, inputs, seed=settings.seed)
    clip = clipping_statistics(run.clips, max_norm)
    close, closer_verdicts = _closer(run, x[:, :CLOSER], y[:, :CLOSER], settings)
    quantities: dict[str, Quantity] = {
        **close,
        "lag_gain": gain,
        "decay_rate": decay_rate(gain),
        **_flow(run.model, inputs, y, max_norm is not None),
        "clipping": clip,
        "training": _training(run, corpus, settings, x, y),
    }
    verdicts = [
        rules.vanishing(gain, settings.need_lag, name),
        rules.exploding(gain, settings.need_lag, clip.nonfinite_steps, name),
        rules.transient(gain, name),
        *(replace(verdict, subject=name) for verdict in closer_verdicts),
    ]
    if max_norm is not None:
        verdicts.append(rules.clipping(clip, subject=name))
    if run.direction is not None:
        quantities["clip_direction"] = run.direction
        verdicts.append(rules.clip_direction(run.direction, subject=name))
    table = {
        "cell": cell,
        "clipping": "off" if max_norm is None else f"norm at {max_norm:g}",
        "parameters": f"{sum(p.numpy().size for p in run.model.parameters()):,}",
    }
    return Subject(name, quantities, table), withdrawn(verdicts)


def _closer(
    run: Trained, x: Any, y: Any, settings: Settings
) -> tuple[dict[str, Any], list[Verdict]]:
    """Diagnose the model on a few sequences; what is measured on all of them comes from there."""
    report = diagnose(run.model, x, y, need_lag=settings.need_lag, seed=settings.seed)
    verdicts = [v for v in report.verdicts if v.rule not in ("R1", "R2", "R3")]
    return dict(report.subjects[0].quantities), verdicts


def _flow(model: CharModel, inputs: Any, y: Any, clipped: bool) -> dict[str, Quantity]:
    """Gradient flow of the mean loss; for a clipped run also with clipping at every step back.

    Where the loss's gradient enters is asked of the layer above alone.
    """
    layer = model.recurrent
    with minirnn.no_grad():
        hidden, _ = layer(inputs)
    output = minirnn.Tensor(hidden.numpy(), requires_grad=True)
    loss = minirnn.cross_entropy(model.linear(output), y)
    (d_output,) = minirnn.grad(loss, [output])
    flow = gradient_flow(layer, inputs, d_output)
    if not clipped:
        return {"gradient_flow": flow}
    held = graph_clipping(layer, inputs, d_output, middle_norm(flow.value))
    return {"gradient_flow": flow, "graph_clipping": held}


def _training(run: Trained, corpus: Corpus, settings: Settings, x: Any, y: Any) -> Training:
    with minirnn.no_grad():
        losses = minirnn.cross_entropy(run.model(x)[0], y, reduction="none").numpy().mean(axis=0)
    picks = resamples(len(losses), seed=settings.seed)
    return Training(
        value=float(losses.mean()),
        ci=interval(losses[picks].mean(axis=1)),
        how=(
            "mean cross-entropy per character of each training step; after training, of "
            f"{losses.size} sequences of {settings.steps} characters that were not trained on; "
            "interval: bootstrap over those sequences"
        ),
        loss=significant(run.loss),
        flow=significant(run.flow, 4),
        flow_steps=run.flow_steps,
        strips={name: significant(values) for name, values in run.strips.items()},
        stopped=run.stopped,
        prompt=corpus.prompt,
        sample=_sample(run.model, corpus, settings) if np.isfinite(losses).all() else "",
    )


def _sample(model: CharModel, corpus: Corpus, settings: Settings) -> str:
    ids = minirnn.generate(
        model,
        corpus.vocabulary.encode(corpus.prompt),
        settings.sample_length,
        temperature=settings.temperature,
        rng=np.random.default_rng(settings.seed),
    )
    return corpus.vocabulary.decode(ids)
