"""A small character model and its training, for the figures that look into one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn

Ids = NDArray[np.int64]


class CharacterModel(minirnn.Module):
    """Characters in, scores of the next one out: Embedding, a recurrent layer, Linear."""

    def __init__(self, cell: str, vocabulary: int, hidden: int, levels: int, seed: int) -> None:
        remembering = {"bias": minirnn.init.forget_bias(1.0)} if cell == "lstm" else None
        self.embedding = minirnn.Embedding(vocabulary, 16, seed=seed)
        self.recurrent = minirnn.Recurrent(
            cell, 16, hidden, num_layers=levels, seed=seed + 1, init=remembering
        )
        self.linear = minirnn.Linear(hidden, vocabulary, seed=seed + 2)

    def forward(self, ids: Ids, state: Any = None) -> tuple[Any, Any]:
        """Ids (T, B) to scores (T, B, V) and the state after the last step."""
        output, state = self.recurrent(self.embedding(ids), state)
        return self.linear(output), state


@dataclass
class Training:
    """A trained model.  loss: (N,), nats per character.  seen: what was asked on the way."""

    model: CharacterModel
    vocabulary: Any
    loss: list[float] = field(default_factory=list)
    seen: dict[int, Any] = field(default_factory=dict)


def train(
    text: str,
    cell: str,
    hidden: int,
    updates: int,
    levels: int = 1,
    seed: int = 0,
    rate: float = 1e-2,
    batch: int = 32,
    steps: int = 64,
    when: dict[int, Callable[[CharacterModel], Any]] | None = None,
) -> Training:
    """Train on a text with Adam; over the second half at a tenth of the rate.

    when: what to ask of the model after so many updates.
    """
    vocabulary = minirnn.data.Vocabulary.of(text)
    stream = minirnn.data.TextStream(vocabulary.encode(text), batch, steps)
    model = CharacterModel(cell, len(vocabulary), hidden, levels, seed)
    adam = minirnn.Adam(model.parameters(), lr=rate)
    run = Training(model, vocabulary)
    while len(run.loss) < updates:
        for chunk in minirnn.tbptt(model, stream):
            adam.zero_grad()
            chunk.loss.backward()
            minirnn.clip_grad_norm(model.parameters(), 1.0)
            adam.lr = rate if len(run.loss) < updates / 2 else 0.1 * rate
            adam.step()
            run.loss.append(chunk.loss.item())
            asked = (when or {}).get(len(run.loss))
            if asked is not None:
                run.seen[len(run.loss)] = asked(model)
            if len(run.loss) == updates:
                break
    return run


LIBRARY, HIDDEN, LEVELS, UPDATES = 400_000, 64, 2, 500
SAMPLED = (1, 20, 50, 100, 200, 500)
PROMPT, WRITTEN, TEMPERATURE = "def ", 160, 0.7


@cache
def trained_on_the_library(cell: str) -> Training:
    """Train on the source of Python's standard library, with samples on the way."""
    text = minirnn.data.read_text(max_chars=LIBRARY)
    vocabulary = minirnn.data.Vocabulary.of(text)

    def sample(model: CharacterModel) -> str:
        ids = minirnn.generate(
            model, vocabulary.encode(PROMPT), WRITTEN, temperature=TEMPERATURE,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        return vocabulary.decode(ids)

    return train(text, cell, HIDDEN, UPDATES, LEVELS, when=dict.fromkeys(SAMPLED, sample))


def unseen_library(run: Training) -> Ids:
    """Return the ids of as much of the library's source as comes after what was trained on."""
    text = minirnn.data.read_text(max_chars=2 * LIBRARY)[LIBRARY:]
    known = set(run.vocabulary.characters)
    return run.vocabulary.encode("".join(c for c in text if c in known))
