"""Colours of the pages: contrast to the paper, and distance for those who see fewer colours."""

import itertools
import re

import numpy as np
import pytest

from diagnostics.page.html import STYLE
from diagnostics.page.svg import SENTINELS, SERIES

# WCAG 2.2: 1.4.3 asks a contrast of 4.5 of text, 1.4.11 one of 3 of graphical objects.
TEXT, GRAPHIC = 4.5, 3.0
# CIE 1976 distance in Lab; about 2.3 is just noticeable, 20 is told apart at a glance.
APART = 20.0
THEMES = ("light", "dark", "print")
# Linear RGB to what is seen with full deuteranopia or protanopia (Machado et al. 2009, severity 1).
SIGHT = {
    "all colours": np.eye(3),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968],
                              [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868],
                            [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375],
                   [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip


def theme(name):
    """Variables of a theme by name: linear RGB (3,)."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[THEMES.index(name)]))
    return {key: linear(colour) for key, colour in found.items()}


def linear(colour):
    values = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    low, high = sorted(float(TO_XYZ[1] @ colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_yardsticks_are_right():
    black, white = linear("#000000"), linear("#ffffff")
    assert contrast(black, white) == pytest.approx(21.0)
    np.testing.assert_allclose(lab(white), [100, 0, 0], atol=0.02)
    # Green of sRGB in Lab, from tables: 87.73, -86.18, 83.18.
    np.testing.assert_allclose(lab(linear("#00ff00")), [87.73, -86.18, 83.18], atol=0.02)
    for matrix in SIGHT.values():  # grey stays grey, for everybody
        np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-5)


@pytest.mark.parametrize("name", THEMES)
def test_words_stand_out_from_the_paper(name):
    colours = theme(name)
    words = ("ink", "muted", "link", "ok", "info", "warn", "fail", "inconclusive")
    for word in words:
        assert contrast(colours[word], colours["paper"]) >= TEXT, word
        assert contrast(colours[word], colours["panel"]) >= TEXT, word


@pytest.mark.parametrize("name", THEMES)
def test_lines_stand_out_from_the_paper(name):
    colours = theme(name)
    series = [f"series-{k}" for k in range(len(SERIES))]
    for key in (*series, "warn", "fail", "muted"):
        assert contrast(colours[key], colours["paper"]) >= GRAPHIC, key


@pytest.mark.parametrize("name", THEMES)
@pytest.mark.parametrize("sight", list(SIGHT))
def test_seven_lines_can_be_told_apart(name, sight):
    colours = theme(name)
    seen = [lab(SIGHT[sight] @ colours[f"series-{k}"]) for k in range(len(SERIES))]
    for (i, one), (j, other) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(one - other) >= APART, (i, j)


def test_there_is_a_colour_for_each_of_seven_runs_in_every_theme():
    assert len(SERIES) == 7
    for name in THEMES:
        used = {css.removeprefix("var(--").removesuffix(")") for css in SENTINELS.values()}
        assert used - {"currentColor"} <= set(theme(name))
