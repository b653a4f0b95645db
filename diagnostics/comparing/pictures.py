"""Pictures of several runs: lag gain, clipping and loss, every run in the same axes."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.comparing.changes import Line
from diagnostics.comparing.groups import Group
from diagnostics.comparing.text import spelled
from diagnostics.page.picture import (
    Look,
    Picture,
    entitle,
    legend,
    lines_of,
    outer_labels,
    panels,
)
from diagnostics.page.pictures_of_flow import draw_gains, missing
from diagnostics.page.pictures_of_training import RUNNING, draw_losses, running_mean
from diagnostics.page.svg import DASHED, FAIL, SERIES, WARN
from diagnostics.quantities.base import Cost
from diagnostics.report import Subject
from diagnostics.rules import CLIPPED_FAIL, CLIPPED_WARN

if TYPE_CHECKING:
    from diagnostics.comparing.comparison import Comparison

MOST = 2  # panels side by side
FEW = 3  # lines with a band around each
Member = tuple[Subject, Look]


def pictures(comparison: "Comparison") -> list[Picture]:
    """Draw every picture that the runs have data for."""
    drawn = [draw(comparison) for draw in (lag_gain, clipping, loss)]
    return [picture for picture in drawn if picture is not None]


def look_of(comparison: "Comparison", place: int) -> Look:
    """Give each run its look, the same in every picture."""
    dashes = "-" if place < FEW else DASHED[(place - FEW) % len(DASHED)]
    return Look(comparison.runs[place].name, SERIES[place], dashes)


def lag_gain(comparison: "Comparison") -> Picture | None:
    """P1 of every run in one axes, or in one axes per subject that several runs have."""

    def paint(axes: Axes, group: Group, members: list[Member]) -> None:
        band = len(members) <= FEW
        draw_gains(axes, [(subject, look, band) for subject, look in members], [group.lag])

    return _picture(
        comparison,
        "lag_gain",
        lambda subject: True,
        paint,
        name="lag-gain",
        heading="How far back a gradient reaches",
        labels=("lag k: steps back in time", "gain G(k)"),
        shows=(
            "What is left of a gradient after k steps back in time, for one step's loss alone; "
            "every run in the same axes. Bands (10 to 90% of the single gains), the dotted ρᵏ and "
            "the diamond where it reaches 1/1000 are drawn for up to three runs."
            + missing(_called(comparison))
        ),
        numbers=3,
    )


def _called(comparison: "Comparison") -> list[Subject]:
    """Return all subjects under the names that they have in a comparison."""
    return [
        replace(s, name=": ".join(filter(None, (group.title, comparison.runs[place].name))))
        for group in comparison.groups
        for place, s in group.there
    ]


def clipping(comparison: "Comparison") -> Picture | None:
    """P11 c of every run: the running fraction of clipped steps."""

    def paint(axes: Axes, group: Group, members: list[Member]) -> None:
        for subject, look in members:
            fraction = running_mean(subject.quantities["clipping"].clipped.astype(float))
            axes.plot(fraction, color=look.colour, ls=look.dashes, lw=look.width, label=look.label)
        for level, colour in ((CLIPPED_WARN, WARN), (CLIPPED_FAIL, FAIL)):
            axes.axhline(level, color=colour, linewidth=1.0, linestyle=(0, (1, 1.5)))
        axes.set_ylim(-0.03, 1.03)

    return _picture(
        comparison,
        "clipping",
        _clips,
        paint,
        name="clipping",
        heading="How often clipping bites",
        labels=("training step", "clipped"),
        shows=(
            f"Fraction of the last {RUNNING} training steps that were clipped; dotted: the "
            f"limits of rule R9, {CLIPPED_WARN:.0%} and {CLIPPED_FAIL:.0%}. Runs without clipping "
            "have no line."
        ),
        names=("steps clipped", "median norm before clipping"),
    )


def loss(comparison: "Comparison") -> Picture | None:
    """Training loss of every run."""

    def paint(axes: Axes, group: Group, members: list[Member]) -> None:
        draw_losses(axes, members)

    return _picture(
        comparison,
        "training",
        lambda subject: "training" in subject.quantities,
        paint,
        name="loss",
        heading="Loss",
        labels=("training step", "loss"),
        shows=f"Training loss in nats per character, running mean over {RUNNING} steps.",
        names=("loss on unseen text",),
    )


def _clips(subject: Subject) -> bool:
    clip = subject.quantities.get("clipping")
    return clip is not None and clip.max_norm is not None


def _picture(
    comparison: "Comparison",
    quantity: str,
    has: Callable[[Subject], bool],
    draw: Callable[[Axes, Group, list[Member]], None],
    *,
    name: str,
    heading: str,
    labels: tuple[str, str],
    shows: str,
    numbers: int = 0,
    names: tuple[str, ...] = (),
) -> Picture | None:
    """Make a picture of one panel per group."""
    chosen = []
    for group, lines in zip(comparison.groups, comparison.numbers, strict=True):
        there = [(place, s) for place, s in group.there if has(s)]
        if there:
            wanted = lines[:numbers] or [line for line in lines if line.name in names]
            chosen.append((group, there, wanted))
    if not chosen:
        return None
    side = min(MOST, len(chosen))

    def paint(figure: Figure) -> None:
        drawn = panels(figure, len(chosen), MOST)
        for axes, (group, there, _) in zip(drawn, chosen, strict=True):
            draw(axes, group, [(s, look_of(comparison, place)) for place, s in there])
            entitle(axes, group.title, side)
            axes.set(xlabel="", ylabel="")
        outer_labels(drawn, *labels, MOST)
        legend(figure, drawn, 2)

    quantities = [s.quantities[quantity] for _, there, _ in chosen for _, s in there]
    return Picture(
        name=name,
        heading=heading,
        height=0.3 + 0.17 * -(-len(comparison.runs) // 2)
        + lines_of(len(chosen), MOST) * (3.2 if side == 1 else 2.1),
        paint=paint,
        shows=shows,
        columns=("number", *(run.name for run in comparison.runs)),
        rows=[
            [_named(group, line), *(spelled(cell) for cell in line.cells)]
            for group, _, wanted in chosen
            for line in wanted
        ],
        how=quantities[0].how,
        cost=str(sum((q.cost for q in quantities), start=Cost())),
    )  # fmt: skip


def _named(group: Group, line: Line) -> str:
    return f"{group.title}: {line.name}" if group.title else line.name
