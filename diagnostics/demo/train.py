"""One run of the demo: a character model, trained, with its gradients recorded on the way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.demo import record
from diagnostics.demo.corpus import Corpus
from diagnostics.demo.remedies import add_omega, floss, initial
from diagnostics.demo.settings import Settings
from diagnostics.quantities.clip_effect import ClipDirection, clip_direction
from diagnostics.quantities.statistics import joint_norm

Tick = Callable[[int, float, float], None]


class CharModel(minirnn.Module):
    """Characters in, scores of the next character out: Embedding, one recurrent layer, Linear."""

    def __init__(self, cell: str, vocabulary: int, settings: Settings) -> None:
        seed, hidden = settings.seed, settings.hidden_size
        self.embedding = minirnn.Embedding(vocabulary, settings.embedding_size, seed=seed)
        self.recurrent = minirnn.Recurrent(
            cell, settings.embedding_size, hidden, seed=seed + 1, init=initial(cell, settings)
        )
        self.linear = minirnn.Linear(hidden, vocabulary, seed=seed + 2)

    def forward(self, ids: NDArray[np.int64], state: Any = None) -> tuple[Any, Any]:
        """Ids (T, B) to scores (T, B, V) and the state after the last step."""
        output, state = self.recurrent(self.embedding(ids), state)
        return self.linear(output), state


@dataclass(frozen=True)
class Trained:
    """A trained model with what was recorded: losses, ClipInfos, norms of delta over training.

    flow: (M, T+1), at the steps flow_steps (M,); strips[name]: (M,), as in `Training`.
    direction: what clipping did to the gradient when it last fired at a recorded step; None for a
    run without clipping.
    """

    model: CharModel
    loss: NDArray[np.float64]
    clips: list[Any]
    flow: NDArray[np.float64]
    flow_steps: NDArray[np.int64]
    strips: dict[str, NDArray[np.float64]]
    direction: ClipDirection | None
    stopped: str


def train(
    cell: str, max_norm: float | None, corpus: Corpus, settings: Settings, tick: Tick
) -> Trained:
    """Train one model.  tick(step, loss, norm) is called after every step."""
    model = CharModel(cell, len(corpus.vocabulary), settings)
    floss(model, corpus, settings)
    optimizer = minirnn.SGD(model.parameters(), lr=settings.learning_rate)
    losses: list[float] = []
    clips: list[Any] = []
    flow: list[NDArray[np.float64]] = []
    strips: dict[str, list[float]] = {"rho": [], "update": []}
    if max_norm is not None:
        strips["cosine"] = []
    direction, stopped = None, ""
    stream = minirnn.data.TextStream(corpus.training, settings.batch, settings.steps)
    state = None
    for step, (x, y) in enumerate(_endless(stream, settings.training_steps)):
        model.zero_grad()
        with minirnn.watch(model.recurrent) as seen:
            scores, state = model(x, state)
            loss = minirnn.cross_entropy(scores, y)
            loss.backward()
        add_omega(model.recurrent, seen, settings.omega)
        state = _constant(state)
        recorded = step % settings.record_every == 0
        if recorded:
            flow.append(np.median(joint_norm(seen.carried_grads.values()), axis=1))
            strips["rho"].append(record.decay(seen, step))
            parameters, before = model.state_dict(), record.gradients(model)
        norm = np.inf if max_norm is None else max_norm
        clips.append(minirnn.clip_grad_norm(model.parameters(), norm))
        if recorded and max_norm is not None:
            acted = clip_direction(before, record.gradients(model))
            strips["cosine"].append(acted.value)
            direction = acted if clips[-1].clipped or direction is None else direction
        losses.append(loss.item())
        tick(step + 1, losses[-1], clips[-1].norm)
        if clips[-1].nonfinite:
            stopped = f"stopped at training step {step}: a gradient was not finite"
            break
        optimizer.lr = learning_rate(step, settings)
        optimizer.step()
        if recorded:
            strips["update"].append(record.relative_change(parameters, model))
    return Trained(
        model=model,
        loss=np.asarray(losses),
        clips=clips,
        flow=np.asarray(flow),
        flow_steps=np.arange(0, len(losses), settings.record_every),
        strips={name: _of_length(len(flow), values) for name, values in strips.items()},
        direction=direction,
        stopped=stopped,
    )


def _of_length(count: int, values: list[float]) -> NDArray[np.float64]:
    """Fill up with NaN: a run that stops leaves its last update undone."""
    return np.asarray(values + [np.nan] * (count - len(values)), np.float64)


def learning_rate(step: int, settings: Settings) -> float:
    """Constant over the first half, then down to a tenth in a straight line."""
    progress = step / max(1, settings.training_steps)
    return settings.learning_rate * min(1.0, 1.0 - 1.8 * (progress - 0.5))


def _endless(stream: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """Hand out so many chunks, from the beginning again where the text ends."""
    while True:
        for chunk in stream:
            if count == 0:
                return
            count -= 1
            yield chunk


def _constant(state: Any) -> Any:
    """Cut a state off the tape: gradients end at the chunk's first step."""
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
