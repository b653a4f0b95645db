"""The demo's text: a part to train on and a part that no run sees before it is judged."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.demo.settings import Settings

UNSEEN_SHARE = 0.05
PROMPT_LENGTH = 40


@dataclass(frozen=True)
class Corpus:
    """A text as ids.  described: one line.  prompt: the beginning given to every model."""

    described: str
    vocabulary: "minirnn.data.Vocabulary"
    training: NDArray[np.int64]
    unseen: NDArray[np.int64]
    prompt: str


def read(settings: Settings) -> Corpus:
    """Read the text of the settings and split it."""
    text = minirnn.data.read_text(settings.text)
    need = (settings.batch + settings.unseen_sequences) * (settings.steps + 1)
    if len(text) < need:
        raise ValueError(
            f"demo: the text must have at least {need:,} characters, got {len(text):,}; "
            "take a longer one"
        )
    vocabulary = minirnn.data.Vocabulary.of(text)
    ids = vocabulary.encode(text)
    unseen = max(int(UNSEEN_SHARE * len(ids)), settings.unseen_sequences * (settings.steps + 1))
    source = "the Python standard library's source"
    name = source if settings.text is None else Path(settings.text).name
    tail = text[len(text) - unseen :]
    return Corpus(
        described=f"{name}: {len(text):,} characters, {len(vocabulary)} different",
        vocabulary=vocabulary,
        training=ids[: len(ids) - unseen],
        unseen=ids[len(ids) - unseen :],
        prompt=tail[tail.find("\n") + 1 :][:PROMPT_LENGTH],
    )


def unseen_batch(corpus: Corpus, settings: Settings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut the unseen text into sequences spread over it.  Returns x, y: (T, B) each."""
    length = settings.steps + 1
    last = len(corpus.unseen) - length
    starts = np.linspace(0, last, settings.unseen_sequences).astype(np.int64)
    rows = corpus.unseen[starts[None, :] + np.arange(length)[:, None]]
    return rows[:-1], rows[1:]
