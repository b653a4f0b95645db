"""The page: one file that needs nothing else, the same bytes every time, readable by all."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from diagnostics.page import html, svg
from diagnostics.report import from_dict
from tests.full_report import full_report
from tests.toy_report import toy_report

VOID = {"meta", "br", "img", "link"}


@pytest.fixture(scope="module")
def report():
    return toy_report()


@pytest.fixture(scope="module")
def page(report):
    return html.render(report)


class Outline(HTMLParser):
    """Collect ids, references, tags and the embedded JSON; check that tags nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.data = [], [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        for key in ("href", "xlink:href", "src"):
            if key in given:
                self.links.append(given[key])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data += data


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page)


def test_the_tags_of_the_page_nest(outline):
    assert outline.open == []


def test_the_page_needs_nothing_from_elsewhere(page, outline):
    for link in outline.links:
        assert link.startswith(("#", "data:image/png;base64,")), link
    outside = re.findall(r"https?://[^\"'\s<]+", page)
    assert set(outside) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page and "url(http" not in page


def test_no_script_runs(outline):
    scripts = [attrs for tag, attrs in outline.tags if tag == "script"]
    assert [attrs["type"] for attrs in scripts] == ["application/json"]


def test_ids_are_unique_and_every_reference_has_its_target(page, outline):
    assert len(outline.ids) == len(set(outline.ids))
    inside = {link[1:] for link in outline.links if link.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert inside <= set(outline.ids)


def test_the_same_numbers_give_the_same_bytes_also_by_way_of_json(page):
    again = from_dict(json.loads(toy_report().json()), "here")
    assert html.render(again) == page


def test_the_embedded_json_is_the_report(report, outline):
    assert json.loads(outline.data) == json.loads(report.json())


def test_what_a_model_wrote_cannot_become_markup(page):
    assert "<script>alert" not in page
    assert "&lt;/script&gt;" in page


def test_no_date_or_path_gets_in(page):
    assert not re.search(r"\b20\d\d-\d\d-\d\d", page)
    assert "<dc:date>" not in page and "/home" not in page and "matplotlib v" not in page


def test_verdicts_come_first(page):
    assert page.index('id="verdicts"') < page.index("<svg")


def test_all_pictures_are_there_with_words_beside_them(page, outline):
    names = ["lag-gain", "gradient-flow", "timeline", "clipping", "loss"]
    assert [name for name in names if f'<section id="{name}">' in page] == names
    plots = [attrs for tag, attrs in outline.tags if tag == "svg"]
    assert len(plots) == len(names)
    for attrs in plots:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(outline.ids)
    for name in names:
        assert re.search(rf'<desc id="{name}-desc">[^<]{{20,}}</desc>', page)
    assert page.count("How: ") == page.count("Cost: ") == len(names)


def test_every_verdict_is_shown(report, page):
    table = page[page.index('<table class="overview">') : page.index("</table>")]
    assert table.count('class="level ') == len(report.verdicts)
    for subject in report.subjects:
        assert f'<th scope="row">{subject.name}</th>' in table


def test_what_to_do_stands_right_below_the_verdicts(page):
    assert page.index("</table>") < page.index("Way out: ") < page.index("What the rules look at")


def test_the_longer_of_rules_and_runs_goes_downwards(report):
    names = [subject.name for subject in report.subjects]
    across = html.overview(names, report.verdicts, ["R1", "R2", "R9"])
    assert across.corner == "run" and [name for name, _ in across.rows] == names
    down = html.overview(names[:2], report.verdicts, ["R1", "R2", "R9"])
    assert (down.corner, down.columns) == ("rule", names[:2])
    assert [name for name, _ in down.rows] == ["R1 vanishing", "R2 exploding", "R9 clipping"]
    for (_, row), rule in zip(down.rows, ("R1", "R2", "R9"), strict=True):
        for verdict, name in zip(row, names[:2], strict=True):
            assert verdict is None or (verdict.rule, verdict.subject) == (rule, name)


def test_a_verdict_on_a_layer_stands_at_every_level_unless_the_level_has_its_own(report):
    layer, own = (replace(report.verdicts[0], subject=s) for s in ("encoder", "encoder, level 1"))
    names = ["encoder, level 1", "encoder, level 0"]
    table = html.overview(names, [own, layer], ["R1"])
    assert [row for _, row in table.rows] == [[own], [layer]]


def test_lags_of_other_rules_are_not_called_the_lag_that_was_judged(report):
    peak = replace(report.verdicts[0], rule="R3", lag=0)
    page = html.render(replace(report, verdicts=[*report.verdicts, peak]))
    assert "judged: 23" in page and "judged: 0" not in page and "0 or 23" not in page


def test_the_self_checks_stand_at_the_end_as_a_table():
    page = html.render(full_report())
    section = page[page.index('<section id="checks">') :]
    section = section[: section.index("</section>")]
    count = len(full_report()["lstm", "self_checks"].residuals)
    assert section.count(f"{count} of {count} hold") == 2  # one line per run


def test_colours_are_variables_so_that_light_and_dark_both_work(page):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn))
    for name in set(re.findall(r"var\(--([\w-]+)\)", page)):
        # Light, dark and print: each sets every variable.
        assert page.count(f"--{name}:") == 3, name


def test_texts_of_a_plot_are_texts_in_the_font_of_the_page(page):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "lag k: steps back in time</text>" in drawn
    assert "font-family" not in drawn


def test_a_report_without_training_has_only_the_pictures_it_has_data_for(report):
    subject = report.subjects[0]
    bare = replace(subject, quantities={"lag_gain": subject.quantities["lag_gain"]})
    page = html.render(replace(report, subjects=[bare], verdicts=report.verdicts[:1]))
    assert page.count("<svg") == 1
    assert "What the models write" not in page


def test_a_report_without_anything_still_is_a_page(report):
    page = html.render(replace(report, subjects=[], verdicts=[]))
    assert "no verdicts" in page and "<svg" not in page


def test_seconds_are_shown_when_they_are_there(report):
    timed = replace(report, subjects=[], seconds={"train rnn": 1.234})
    assert "<dt>train rnn</dt><dd>1.23</dd>" in html.render(timed)


def test_two_pictures_never_share_an_id():
    drawn = '<svg viewBox="0 0 1 1"><g id="a"><use xlink:href="#a" clip-path="url(#a)"/></g></svg>'
    themed = svg.themed(drawn, "one", "a title", "a < b")
    assert 'id="one-a"' in themed and '"#one-a"' in themed and "url(#one-a)" in themed
    assert '<desc id="one-desc">a &lt; b</desc>' in themed
