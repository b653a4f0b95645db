"""Properties of texts, and a text whose reader must remember two of them.

`write` puts words of a short list at random.  A quotation mark opens or closes a quotation, in
which every vowel is moved on to the next one; a line ends after the first word beyond 20
characters.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
WORDS = tuple("the a cat dog saw ran to from it was old red sun sea and then she he over".split())
MOVED = str.maketrans("aeiou", "eioua")
MARKS, WIDTH = 0.1, 20  # share of tokens that are quotation marks; characters of a line


def write(rng: np.random.Generator, length: int) -> str:
    """Write at least so many characters."""
    parts: list[str] = []
    total, line, quoted = 0, 0, False
    while total < length:
        if rng.random() < MARKS:
            quoted, token = not quoted, '"'
        else:
            token = WORDS[rng.integers(len(WORDS))]
            token = token.translate(MOVED) if quoted else token
        line += len(token) + 1
        end = "\n" if line > WIDTH else " "
        line = 0 if end == "\n" else line
        parts.append(token + end)
        total += len(token) + 1
    return "".join(parts)


def inside_quotes(text: str) -> Values:
    """Return 1 from an opening quotation mark on, 0 from the closing one on.  (len(text),)."""
    return np.cumsum([character == '"' for character in text]) % 2.0


def position_in_line(text: str) -> Values:
    """Return how many characters stand before this one in its line; a line's end belongs to it."""
    place, found = 0, []
    for character in text:
        found.append(place)
        place = 0 if character == "\n" else place + 1
    return np.asarray(found, np.float64)


def bracket_depth(text: str) -> Values:
    """Return how many round brackets are open after each character."""
    return np.cumsum([(c == "(") - (c == ")") for c in text]).astype(np.float64)


def indentation(text: str) -> Values:
    """Return how many spaces begin the line of each character."""
    lines = text.splitlines(keepends=True)
    return np.repeat([len(s) - len(s.lstrip(" ")) for s in lines], [len(s) for s in lines]) * 1.0


PREDICATES: dict[str, Callable[[str], Values]] = {
    "inside quotes": inside_quotes,
    "position in the line": position_in_line,
}
OF_PROGRAMS: dict[str, Callable[[str], Values]] = {
    "indentation": indentation,
    "position in the line": position_in_line,
    "bracket depth": bracket_depth,
}
