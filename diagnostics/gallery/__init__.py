"""The figures that lecture notes on recurrent networks draw, name or link, with their numbers.

A figure is a module here with two halves: a pure function that computes numbers, and one that draws
them. ``FIGURES`` is the registry: the code of the notes' table, the module, a heading. Nothing
heavy is imported here: the command line reads it for its help.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """A figure: the module here that makes it, and a few words."""

    module: str
    heading: str


FIGURES = {
    "D3": Entry("near_and_far", "Near and far"),
    "D4": Entry("wall", "A wall in the error surface"),
    "D5": Entry("bifurcation", "Bifurcations of one unit"),
    "D6": Entry("gradient_noise", "What becomes of noise"),
    "D7": Entry("powers", "Powers of a matrix"),
    "D10": Entry("cells_that_mean", "Cells that mean something"),
    "D11": Entry("saturation", "Gates that are shut, gates that are open"),
    "D13": Entry("samples", "What it writes while it learns"),
    "D16": Entry("training_record", "A record of training"),
    "D17": Entry("landscape", "A slice through the loss"),
    "D18": Entry("spectrum", "Lyapunov spectra"),
    "D19": Entry("credit", "Who caused what when"),
}
