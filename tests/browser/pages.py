"""The pages that a browser opens: all that they can show, made in seconds at toy size."""

from dataclasses import replace

import diagnostics
from diagnostics.comparing.page import render as comparison_page
from diagnostics.gallery.page import render as gallery_page
from diagnostics.page.html import render as report_page
from tests.full_report import full_report
from tests.monitored import Net, monitored
from tests.toy_gallery import toy_figures
from tests.toy_report import toy_report

LONG = "a_module.with_a.very_long.name_that.goes_on.encoder.recurrent, level 1, reverse"


def report():
    """Every picture, of two runs."""
    return report_page(full_report())


def long_names():
    """Two runs with the longest names that a page has to break."""
    subjects = [replace(full_report().subjects[0], name=f"{LONG} {k}") for k in range(2)]
    verdicts = [replace(v, subject=s.name) for s in subjects for v in full_report().verdicts]
    return report_page(replace(full_report(), subjects=subjects, verdicts=verdicts))


def comparison():
    """Seven runs, the most that is allowed, of three subjects each."""
    toy = toy_report()
    toy = replace(toy, subjects=toy.subjects[::2])
    runs = [replace(toy, settings={"start": f"number {k}"}) for k in range(7)]
    return comparison_page(diagnostics.compare(runs, names=[f"run-{k}" for k in range(7)]))


def gallery():
    """Every figure of the gallery: one moves, some have coloured text or samples below them."""
    return gallery_page(toy_figures())


def monitor():
    """Report of a monitored run at the level "full": maps of two layers, every strip below."""
    return report_page(monitored(9, every=2, net=Net(num_layers=2), level="full").report())


PAGES = {
    "report": report,
    "long names": long_names,
    "comparison": comparison,
    "gallery": gallery,
    "monitor": monitor,
}
