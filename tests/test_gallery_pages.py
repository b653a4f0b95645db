"""The gallery as files: one page, light and dark, the same bytes every time; one figure alone."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

import diagnostics.gallery
from diagnostics.__main__ import main
from diagnostics.gallery import FIGURES, film
from diagnostics.gallery.outputs import WRITERS, content
from diagnostics.gallery.page import render
from diagnostics.gallery.plain import chart
from diagnostics.gallery.recipe import Recipe, recipe, show
from tests.test_diagnostics_page import Outline

QUICK = ("D4", "D5", "D7")  # no training, no kernels of gated cells


@pytest.fixture(scope="module")
def shown():
    made = {code: recipe(code) for code in QUICK}
    return [show(code, one, one.numbers()) for code, one in made.items()]


@pytest.fixture(scope="module")
def page(shown):
    return render(shown)


def test_every_figure_of_the_registry_has_a_recipe_and_every_recipe_is_registered():
    folder = Path(diagnostics.gallery.__file__).parent
    have = {p.stem for p in folder.glob("*.py") if "\nFIGURE = Recipe(" in p.read_text()}
    assert have == {entry.module for entry in FIGURES.values()}
    for code in FIGURES:
        assert isinstance(recipe(code), Recipe)


def test_the_page_nests_and_needs_nothing_from_elsewhere(page):
    outline = Outline(page)
    assert outline.open == []
    for link in outline.links:
        assert link.startswith(("#", "data:image/png;base64,")), link
    outside = set(re.findall(r"https?://[^\"'\s<]+", page))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in page and "@import" not in page and "url(http" not in page


def test_ids_are_unique_and_every_reference_has_its_target(page):
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    inside = {link[1:] for link in outline.links if link.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert inside <= set(outline.ids)


def test_every_figure_has_its_caption_with_numbers_and_how_and_words_for_who_cannot_see(page):
    outline = Outline(page)
    for code in QUICK:
        name = code.lower()
        assert f'<figcaption id="{name}-caption">' in page
        assert re.search(rf'<desc id="{name}-desc">[^<]{{100,}}</desc>', page)
    assert page.count("How: ") == len(QUICK)
    for tag, attributes in outline.tags:
        if tag == "svg" and "plot" in attributes.get("class", ""):
            assert attributes["role"] == "img"


def test_the_same_numbers_give_the_same_bytes(page):
    again = [show(code, one, one.numbers()) for code, one in ((c, recipe(c)) for c in QUICK)]
    assert render(again) == page


def test_colours_are_variables_of_the_page_except_on_an_image(page):
    for name in set(re.findall(r"var\(--([\w-]+)\)", page)) - {"way", "frames", "seconds"}:
        # Light, dark and print: each sets every variable.
        assert page.count(f"--{name}:") == 3, name
    without_image = page[page.index('<section id="d5">') : page.index('<section id="d7">')]
    assert not re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", without_image)


def test_the_film_moves_without_script_and_can_be_held():
    frames = {"h": np.random.default_rng(0).normal(size=(5, 8))}
    made = film.film("a-film", [("one", frames, np.ones(5))], 1e-3, "what it says")
    css = (Path(diagnostics.gallery.__file__).parent / "gallery.css").read_text()
    assert "--frames: 5" in made and "steps(var(--frames))" in css
    assert 'type="checkbox"' in made and ":has(:checked)" in css
    assert "prefers-reduced-motion" in css and "print" in css
    assert '<desc id="a-film-desc">what it says</desc>' in made
    assert Outline(made).open == []


def test_a_film_shows_a_frame_for_every_step_back():
    frames = {"h": np.zeros((7, 8))}
    frames["h"][0] = 1.0
    made = film.film("f", [("one", frames, np.ones(7))], 1e-3, "")
    assert re.search(r'<image width="14" height="4"', made)  # 7 frames of 4 by 2 units
    assert "--way: -14px" in made


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_a_figure_can_be_had_as_page_picture_numbers_or_words(suffix, tmp_path, capsys):
    out = tmp_path / f"five{suffix}"
    assert main(["figure", "D5", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"figure D5: {out}\n"
    assert out.read_bytes() == _bytes(content("D5", suffix))  # and the same again


def _bytes(data):
    return data if isinstance(data, bytes) else data.encode()


def test_a_picture_on_paper_has_the_colours_of_the_light_page():
    data = content("D5", ".png")
    width, height = struct.unpack(">II", data[16:24])
    assert width == 4.5 * 160 and height > 300
    from io import BytesIO

    from matplotlib.image import imread

    pixels = imread(BytesIO(data))[..., :3].reshape(-1, 3)
    for colour in ((0x0B, 0x6B, 0xB5), (0xC2, 0x41, 0x0C)):  # --series-1 and --series-0
        near = np.abs(pixels * 255 - colour).max(axis=1) < 2
        assert near.sum() > 20, colour


def test_a_picture_of_its_own_brings_its_colours():
    made = content("D5", ".svg")
    assert made.startswith("<svg") and "prefers-color-scheme: dark" in made
    for name in set(re.findall(r"var\(--([\w-]+)\)", made)):
        assert made.count(f"--{name}:") == 2, name


def test_numbers_as_csv_have_a_name_for_every_column():
    lines = content("D5", ".csv").splitlines()
    assert lines[0] == "b,end from below,end from above"
    assert len(lines) == 122 and all(len(line.split(",")) == 3 for line in lines)
    b, low, high = map(float, lines[1].split(","))
    s = 1 / (1 + np.exp(-low))
    assert b == -4.0 and low == high == pytest.approx(5 * s + b, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figure", "D5", "--out", "five.pdf"], "must end with one of .html, .svg"),
        (["figure", "D5", "--out", "missing/five.html"], "does not exist; make it first"),
        (["gallery", "--out", "missing/all.html"], "does not exist; make it first"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_before_the_work(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert words in streams.err and len(streams.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_figure_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["figure", "D99"])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ValueError, match="'D99' is none of D3"):
        recipe("D99")


def test_the_gallery_is_one_page_of_all_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("diagnostics.gallery.command.FIGURES", {c: FIGURES[c] for c in QUICK})
    out = tmp_path / "all.html"
    assert main(["gallery", "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert [code for code in QUICK if f'<a href="#{code.lower()}">' in page] == list(QUICK)
    streams = capsys.readouterr()
    assert streams.out == f"gallery: {out}\n" and len(streams.err.splitlines()) == len(QUICK)


def test_curves_in_characters_lie_where_their_logarithms_are():
    curves = {"falls": 10.0 ** -np.linspace(0, 19, 64), "stays": np.ones(64)}
    lines = chart(curves, "steps").splitlines()
    field = [line.split("|")[1] for line in lines[:20]]
    assert lines[0].startswith("    1e0 |") and lines[19].startswith("  1e-19 |")
    assert field[0] == "b" * 64  # the later curve lies on top
    assert [line.rstrip()[-1] for line in field[1:]] == ["a"] * 19
    assert [field[k].index("a") for k in (5, 10, 19)] == [15, 32, 62]
    assert lines[-1].strip() == "a falls   b stays"
    assert max(map(len, lines)) <= 78
