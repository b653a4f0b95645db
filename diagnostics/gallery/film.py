"""A film without script: pictures side by side in one strip, moved by CSS a frame at a time."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROWS, GAP, LABEL = 4, 12.0, 112.0  # rows of squares; pixels between reels; width of the names
SQUARE, BAR, BAR_AT = 7.0, 60.0, 356.0
SECONDS = 9.0
PLUS, MINUS = (0.91, 0.35, 0.11), (0.13, 0.53, 0.90)  # readable on white and on black
WIDTH = 424.0


def strip(frames: Array, largest: float, least: float) -> NDArray[np.uint8]:
    """Colour the frames of one state and lay them side by side.

    frames: (F, H).  A value at the largest is opaque, one at least times that is transparent, in
    between by the logarithm.  Returns RGBA (rows, F * H / rows, 4).
    """
    count, units = frames.shape
    columns = -(-units // ROWS)
    padded = np.zeros((count, ROWS * columns))
    padded[:, :units] = frames
    with np.errstate(divide="ignore"):
        share = 1.0 - np.log(np.abs(padded) / largest) / np.log(least)
    alpha = np.clip(np.where(padded == 0, 0.0, share), 0.0, 1.0)
    rgba = np.empty((*padded.shape, 4))
    rgba[..., :3] = np.where(padded[..., None] > 0, PLUS, MINUS)
    rgba[..., 3] = alpha
    rgba[alpha == 0] = 0.0  # blank squares compress
    tiles = rgba.reshape(count, ROWS, columns, 4).transpose(1, 0, 2, 3)
    return np.round(255 * tiles.reshape(ROWS, count * columns, 4)).astype(np.uint8)


def film(
    name: str,
    reels: Sequence[tuple[str, Mapping[str, Array], Array]],
    least: float,
    description: str,
) -> str:
    """Make the film: one reel per network, with its states side by side and a bar for the norm.

    reels: (name, state -> (F, H), norm (F,)).  description: for those who cannot see it.
    """
    frames = len(reels[0][2])
    height = SQUARE * ROWS
    parts = [_counter(frames)]
    for index, (label, states, norm) in enumerate(reels):
        top = 34.0 + index * (height + GAP)
        parts.append(
            f'<text x="0" y="{top + height / 2 + 3:g}" class="name">{escape(label)}</text>'
        )
        largest = max(float(np.abs(v[0]).max()) for v in states.values())
        for place, values in enumerate(states.values()):
            pixels = strip(values, largest, least)
            columns = pixels.shape[1] // frames
            parts.append(_reel(pixels, frames, LABEL + place * (columns * SQUARE + 9), top))
        share = np.clip(1 - np.log(np.maximum(norm, 1e-300)) / np.log(least), 0, 1)
        bar = np.zeros((1, frames * 60, 4), np.uint8)
        for k, part in enumerate(share):
            bar[0, k * 60 : k * 60 + round(60 * float(part))] = (128, 128, 128, 255)
        parts.append(_reel(bar, frames, BAR_AT, top + 9, BAR, 10.0))
    total = 34.0 + len(reels) * (height + GAP)
    heads = "".join(
        f'<text x="{x:g}" y="24" class="head">{words}</text>'
        for x, words in ((LABEL, "∂E/∂h"), (LABEL + 16 * SQUARE + 9, "∂E/∂c"), (BAR_AT, "norm"))
    )
    return (
        f'<label class="pause"><input type="checkbox"/> hold the film</label>\n'
        f'<svg class="plot film" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="0 0 {WIDTH:g} {total:g}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">\n'
        f'<title id="{name}-title">Film of the gradient noise</title>\n'
        f'<desc id="{name}-desc">{escape(description)}</desc>\n'
        f"{heads}\n" + "\n".join(parts) + "\n</svg>"
    )


def _reel(
    pixels: NDArray[np.uint8], frames: int, x: float, y: float, width: float = 0.0,
    height: float = 0.0,
) -> str:  # fmt: skip
    """Show one frame of a strip through a window; CSS moves the strip."""
    rows, total = pixels.shape[:2]
    columns = total // frames
    buffer = io.BytesIO()
    nothing: dict[Any, Any] = {"Software": None}  # no version of matplotlib in the file
    imsave(buffer, pixels, format="png", metadata=nothing)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{width or columns * SQUARE:g}" height="{height or rows * SQUARE:g}"'
    return (
        f'<svg x="{x:g}" y="{y:g}" {size} viewBox="0 0 {columns} {rows}" '
        f'preserveAspectRatio="none"><rect width="{columns}" height="{rows}" class="window"/>'
        f'<g class="strip" style="{_motion(frames, columns)}">'
        f'<image width="{total}" height="{rows}" preserveAspectRatio="none" '
        f'xlink:href="data:image/png;base64,{data}"/></g></svg>'
    )


def _counter(frames: int) -> str:
    """Count the steps back, in time with the strips."""
    wide = 110
    numbers = "".join(
        f'<text x="{k * wide}" y="11" class="name">{k} step{"s" * (k != 1)} back</text>'
        for k in range(frames)
    )
    return (
        f'<svg x="0" y="13" width="{wide}" height="14" viewBox="0 0 {wide} 14">'
        f'<g class="strip" style="{_motion(frames, wide)}">{numbers}</g></svg>'
    )


def _motion(frames: int, columns: int) -> str:
    return f"--way: -{frames * columns}px; --frames: {frames}; --seconds: {SECONDS:g}s"
