"""Text as a stream of characters: reading, a vocabulary, batches for truncated BPTT."""

import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def read_text(path: str | os.PathLike[str] | None = None, max_chars: int | None = None) -> str:
    """Read a UTF-8 file, or without a path the Python standard library's own source.

    Line ends become newlines, a byte-order mark is dropped.

    Parameters
    ----------
    path : file to read; None stands for ``stdlib_text``
    max_chars : read no more than this many characters, from the beginning
    """
    _check_cap("read_text", max_chars)
    if path is None:
        return stdlib_text(max_chars)
    place = f"read_text: {os.fspath(path)}"
    if not Path(path).exists():
        raise FileNotFoundError(f"{place}: there is no such file")
    if not Path(path).is_file():
        raise ValueError(f"{place}: must be a file, is a folder or a device")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(-1 if max_chars is None else max_chars)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{place}: must be UTF-8 text, got {error.reason} at byte "
            f"0x{error.object[error.start]:02x}; convert the file first, for example with iconv"
        ) from None
    _check_text(place, text)
    return text


def stdlib_text(max_chars: int | None = None) -> str:
    """Return the source of the standard library's modules, one after the other by name.

    The text is the same on every machine with the same Python. Modules with a character outside
    ASCII are left out: a few authors' names would cost as many classes as there are letters.
    """
    _check_cap("stdlib_text", max_chars)
    folder = Path(sysconfig.get_path("stdlib"))
    parts: list[str] = []
    length = 0
    for path in sorted(folder.glob("*.py"), key=lambda path: path.name):
        source = path.read_bytes()
        if source.isascii():
            parts.append(source.decode("ascii").replace("\r\n", "\n"))
            length += len(parts[-1])
        if max_chars is not None and length >= max_chars:
            break
    text = "".join(parts)[:max_chars]
    _check_text(f"stdlib_text: *.py in {folder}", text)
    return text


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a text and their ids: the place of each in ``characters``, sorted."""

    characters: str

    def __post_init__(self) -> None:
        if list(self.characters) != sorted(set(self.characters)):
            raise ValueError(
                "Vocabulary: characters must be sorted and each be there once; "
                "Vocabulary.of(text) makes them so"
            )

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """Collect the characters of a text."""
        _check_text("Vocabulary.of: text", text)
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Ids:
        """Return the ids (len(text),) of a text's characters."""
        known, codes = _codes(self.characters), _codes(text)
        ids = np.minimum(np.searchsorted(known, codes), len(known) - 1).astype(np.int64)
        unknown = np.flatnonzero(known[ids] != codes)
        if unknown.size:
            where = int(unknown[0])
            raise ValueError(
                f"Vocabulary.encode: {text[where]!r} at {where} is not among the "
                f"{len(self)} characters of the vocabulary; replace it or build the vocabulary "
                "from a text that has it"
            )
        return ids

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        """Return the text of ids (n,)."""
        array = np.asarray(ids, dtype=np.int64)
        if array.size and not (array.min() >= 0 and array.max() < len(self)):
            raise ValueError(
                f"Vocabulary.decode: ids must be in [0, {len(self)}), "
                f"got {int(array.min())} to {int(array.max())}"
            )
        return "".join(self.characters[i] for i in array.reshape(-1))


class TextStream:
    """Batches of a text for truncated BPTT: row b of the batch reads on where it stopped.

    The text is cut into ``batch_size`` pieces of equal length that are read side by side in chunks
    of ``steps``. Iterating gives pairs x, y of ids (T, B), y the characters that follow those of x,
    until the pieces end; that is one epoch, and the next iteration starts the next. A last chunk of
    fewer than ``steps`` is left out. An iteration that was broken off is continued by the next one,
    and ``state_dict`` holds the place, also from one process to another.

    Attributes
    ----------
    position : number of chunks of this epoch handed out so far
    epoch : number of epochs finished
    """

    def __init__(self, ids: NDArray[Any], batch_size: int, steps: int) -> None:
        ids = np.asarray(ids)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(
                f"TextStream: ids must be a row of integers, got shape {ids.shape} and dtype "
                f"{ids.dtype}; Vocabulary.encode makes one"
            )
        if batch_size < 1 or steps < 1:
            raise ValueError(
                f"TextStream: batch_size and steps must be at least 1, got {batch_size}, {steps}"
            )
        self.chunks = (len(ids) - 1) // batch_size // steps
        if self.chunks < 1:
            raise ValueError(
                f"TextStream: batch_size={batch_size} rows of steps={steps} need at least "
                f"{batch_size * steps + 1} characters, got {len(ids)}; take fewer rows or steps"
            )
        self.batch_size, self.steps = batch_size, steps
        length = (len(ids) - 1) // batch_size
        # One row beyond the pieces' ends, for the last targets: piece b is ids[b * length :].
        first = np.arange(batch_size) * length
        self._ids = np.ascontiguousarray(ids[first[None, :] + np.arange(length + 1)[:, None]])
        self.position, self.epoch = 0, 0

    def __len__(self) -> int:
        return self.chunks

    def __iter__(self) -> Iterator[tuple[Ids, Ids]]:
        while self.position < self.chunks:
            begin = self.position * self.steps
            # First, so that state_dict() in the loop's body names the chunk that comes next.
            self.position += 1
            end = begin + self.steps
            yield self._ids[begin:end], self._ids[begin + 1 : end + 1]
        self.position, self.epoch = 0, self.epoch + 1

    def state_dict(self) -> dict[str, int]:
        """Return the place in the text, and what it depends on."""
        return {
            "position": self.position,
            "epoch": self.epoch,
            "batch_size": self.batch_size,
            "steps": self.steps,
            "chunks": self.chunks,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to the place that ``state_dict`` gave; the text and the batches must be the same."""
        own = self.state_dict()
        if not isinstance(state, Mapping) or set(state) != set(own):
            raise ValueError(f"TextStream.load_state_dict: must have the keys {list(own)}")
        for name in ("batch_size", "steps", "chunks"):
            if state[name] != own[name]:
                raise ValueError(
                    f"TextStream.load_state_dict: {name} was {state[name]} and is {own[name]}; "
                    "a place is good only for the same text in the same batches"
                )
        if not 0 <= state["position"] <= self.chunks or state["epoch"] < 0:
            raise ValueError(
                f"TextStream.load_state_dict: position must be in [0, {self.chunks}] and epoch "
                f"0 or more, got {state['position']} and {state['epoch']}"
            )
        self.position, self.epoch = int(state["position"]), int(state["epoch"])


def _codes(text: str) -> NDArray[np.uint32]:
    """Code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _check_cap(place: str, max_chars: int | None) -> None:
    if max_chars is not None and max_chars < 1:
        raise ValueError(f"{place}: max_chars must be at least 1 or None, got {max_chars}")


def _check_text(place: str, text: str) -> None:
    """Refuse a text from which nothing can be learnt."""
    if not text:
        raise ValueError(f"{place}: the text is empty; give one with at least two characters")
    if len(set(text)) == 1:
        raise ValueError(
            f"{place}: the text is {text[0]!r} repeated; there is nothing to predict, "
            "give one with at least two different characters"
        )
