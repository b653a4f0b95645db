"""The text model of ``make report``: what every library trains, end to end."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

import minirnn
from bench.work import Arrays

CHARACTERS = 400_000  # of the standard library's source: the chunks come round again after these
LEARNING_RATE, MAX_NORM = 1e-3, 1.0
COMPARED = 5  # losses of so many training steps must agree


@cache
def _ids() -> tuple[NDArray[np.int64], int]:
    """Return the text as ids and the size of its alphabet."""
    text = minirnn.data.read_text(None, max_chars=CHARACTERS)
    vocabulary = minirnn.data.Vocabulary.of(text)
    return vocabulary.encode(text), len(vocabulary)


@dataclass(frozen=True)
class Task:
    """Embedding, one LSTM, Linear, softmax cross-entropy, clipping of the norm, Adam.

    T, B: steps and sequences of a chunk, as in the report. E: size of the embedding. The state is
    carried from chunk to chunk without its tape. folded: minirnn multiplies the input weights with
    the embedding's table instead of with every row; no other library has it.
    """

    H: int
    E: int
    T: int = 128
    B: int = 16
    dtype: str = "float32"
    folded: bool = False

    @property
    def symbols(self) -> int:
        """V, the size of the alphabet."""
        return _ids()[1]

    @cached_property
    def chunks(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Ids and the ids that follow, (T, B) each."""
        ids, _ = _ids()
        length = len(ids) // self.B
        lanes = ids[: length * self.B].reshape(self.B, length).T
        starts = range(0, length - self.T - 1, self.T)
        cut = np.ascontiguousarray
        return [(cut(lanes[s : s + self.T]), cut(lanes[s + 1 : s + self.T + 1])) for s in starts]

    @cached_property
    def given(self) -> Arrays:
        """First weights: embedding (V, E), the LSTM's, and the readout's weight (V, H), bias."""
        rng = np.random.default_rng(self.H)
        bound, size = 1 / np.sqrt(self.H), 4 * self.H

        def drawn(*shape: int) -> NDArray[np.floating]:
            return rng.uniform(-bound, bound, shape).astype(self.dtype)

        return {
            "embedding": rng.normal(size=(self.symbols, self.E)).astype(self.dtype),
            "weight_ih": drawn(size, self.E), "weight_hh": drawn(size, self.H),
            "bias_ih": drawn(size), "bias_hh": drawn(size),
            "weight": drawn(self.symbols, self.H), "bias": drawn(self.symbols),
        }  # fmt: skip
