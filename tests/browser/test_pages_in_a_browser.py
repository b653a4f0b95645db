"""Every page in Chromium, at phone and desktop width, in light and dark, and printed."""

import os
import re
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, find
from tests.browser.pages import PAGES

PHONE, DESKTOP = 360, 1280
LOOKS = [(width, scheme) for width in (PHONE, DESKTOP) for scheme in ("light", "dark")]
LEAST = 8.5  # CSS pixels: words in a figure below this cannot be read on a phone
KEPT = os.environ.get("MINIRNN_SCREENSHOTS")  # a folder to look at what the tests saw

# What sticks out of its page; what lies in a frame that scrolls by itself does not.
WIDE = """
[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg, pre")
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(e => e.tagName + "." + e.className).slice(0, 5)
"""
NO_CAPTION = """
[...document.querySelectorAll("figure")].filter(f => {
  const caption = f.querySelector("figcaption");
  return !caption || caption.innerText.length < 40 || !f.getAttribute("aria-labelledby")
    || !document.getElementById(f.getAttribute("aria-labelledby"));
}).length
"""
NO_WORDS = """
[...document.querySelectorAll("svg[role=img], img")].filter(image => {
  if (image.tagName === "IMG") return !image.alt;
  const ids = (image.getAttribute("aria-labelledby") || "").split(" ");
  return !ids.every(id => document.getElementById(id)?.textContent.length > 3)
    || !/[0-9]/.test(image.querySelector("desc").textContent);
}).length
"""
# Images that no element with words contains: those inside a described drawing are part of it.
STRAY = '[...document.querySelectorAll("svg, image")].filter(e => !e.closest("[role=img]")).length'
SMALLEST = """
Math.min(...[...document.querySelectorAll("svg.plot text")]
  .map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a || 99).filter(s => s > 0))
"""
# Words of one drawing that lie on each other by more than a sliver.
ON_EACH_OTHER = """
[...document.querySelectorAll("svg.plot:not(.film)")].flatMap(plot => {
  const boxes = [...plot.querySelectorAll("text")]
    .map(t => [t.textContent, t.getBoundingClientRect()]).filter(([_, r]) => r.width > 0);
  const found = [];
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 2 && high > 0.35 * Math.min(a.height, b.height)) found.push(one + " / " + other);
  }));
  return found.map(words => plot.getAttribute("aria-labelledby").split(" ")[0] + ": " + words);
})
"""
CUT_OFF = """
[...document.querySelectorAll("svg.plot:not(.film)")].flatMap(plot => {
  const frame = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].filter(t => {
    const r = t.getBoundingClientRect();
    return r.left < frame.left - 2 || r.right > frame.right + 2
      || r.top < frame.top - 2 || r.bottom > frame.bottom + 2;
  }).map(t => plot.getAttribute("aria-labelledby").split(" ")[0] + ": " + t.textContent);
})
"""

# Text on a colour that stands for a number, with too little contrast (WCAG 2.2, 1.4.3: 4.5).
# Colours may be see-through and lie on those of the elements around them.
FAINT = """
(() => {
  const parts = colour => {
    const n = colour.match(/[0-9.]+(e-?[0-9]+)?/g).map(Number);
    const most = colour.startsWith("color(") ? 1 : 255;
    return [...n.slice(0, 3).map(v => v / most), n.length > 3 ? n[3] : 1];
  };
  const below = e => {
    const around = e.parentElement ? below(e.parentElement) : [1, 1, 1];
    const [r, g, b, alpha] = parts(getComputedStyle(e).backgroundColor);
    return [r, g, b].map((v, i) => alpha * v + (1 - alpha) * around[i]);
  };
  const light = rgb => rgb.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + [0.2126, 0.7152, 0.0722][i] * v, 0.05);
  const faint = e => {
    const two = [light(parts(getComputedStyle(e).color).slice(0, 3)), light(below(e))];
    return Math.max(...two) / Math.min(...two) < 4.5;
  };
  return [...new Set([...document.querySelectorAll(".shaded span, .columns b, .columns i")]
    .filter(faint).map(e => e.className))];
})()
"""

# The first column of a table must leave room for the numbers.
NARROW = """
[...document.querySelectorAll("tbody th")].filter(
  th => th.getBoundingClientRect().width > 0.5 * document.documentElement.clientWidth)
  .map(th => th.textContent)
"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = find()
    if binary is None:
        pytest.skip("there is no Chromium on PATH: apt install chromium")
    with Chromium(binary, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module", params=list(PAGES))
def page(request, tmp_path_factory, browser):
    path = tmp_path_factory.mktemp("page") / f"{request.param.replace(' ', '-')}.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_a_page_can_be_read(page, browser, width, scheme):
    browser.open(page, width, scheme)
    if KEPT:
        browser.screenshot(Path(KEPT) / f"{page.stem}-{width}-{scheme}.png")
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(WIDE) == [] and browser.evaluate(NARROW) == []
    figures = browser.evaluate('document.querySelectorAll("figure").length')
    assert figures >= 3 and browser.evaluate(NO_CAPTION) == 0
    assert browser.evaluate(NO_WORDS) == 0 and browser.evaluate(STRAY) == 0
    assert browser.evaluate(FAINT) == []
    if scheme == "light":  # colours move no words
        assert browser.evaluate(SMALLEST) >= LEAST
        assert browser.evaluate(ON_EACH_OTHER) == []
        assert browser.evaluate(CUT_OFF) == []


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_paper_is_light_by_day_and_dark_by_night(page, browser, scheme, dark):
    browser.open(page, DESKTOP, scheme)
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    level = sum(int(n) for n in re.findall(r"\d+", paper)[:3]) / 3
    assert (level < 60) == dark


def test_a_page_prints_on_white_also_by_night(page, browser):
    browser.open(page, DESKTOP, "dark")
    browser.send(
        "Emulation.setEmulatedMedia",
        media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )  # fmt: skip
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    data = browser.printed()
    if KEPT:
        (Path(KEPT) / f"{page.stem}.pdf").write_bytes(data)
    assert data.startswith(b"%PDF") and len(data) > 10_000
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
    assert browser.complaints() == []


def test_the_driver_sees_errors_overflow_and_missing_words(browser, tmp_path):
    """The checks above can fail: a page with every fault that they look for."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><meta name=viewport content='width=device-width'><body>"
        "<div style='width: 900px'>wide</div><figure><img src='data:image/gif;base64,R0lGOD"
        "lhAQABAAAAACw='></figure><svg></svg><svg class=plot aria-labelledby=x viewBox='0 0 9 9'>"
        "<text font-size=1 x=4>one</text><text font-size=1 x=4>two</text><text x=-9>out</text>"
        "</svg><div class=columns style='background: #fff'><i style='color: #999; background: "
        "rgb(255 255 255 / .5)' class=pale>x</i></div>"
        "<script>console.log('x'); fetch('https://example.invalid'); throw 1</script>"
    )
    browser.open(path, PHONE)
    told = browser.complaints()
    assert "console.log" in told and any("example.invalid" in words for words in told)
    assert any("Uncaught" in words for words in told)
    assert browser.evaluate("document.documentElement.scrollWidth") > PHONE
    assert browser.evaluate(WIDE) and browser.evaluate(NO_CAPTION) == 1
    assert browser.evaluate(NO_WORDS) == 1 and browser.evaluate(STRAY) == 2
    assert "x: one / two" in browser.evaluate(ON_EACH_OTHER)
    assert "x: out" in browser.evaluate(CUT_OFF)
    assert browser.evaluate(FAINT) == ["pale"]
