"""The figures that lecture notes on recurrent networks draw, name or link, with their numbers.

A figure is a module here with two halves: a pure function that computes numbers, and one that draws
them. ``FIGURES`` is the registry: the code of the notes' table, and the module. Nothing heavy is
imported here: the command line reads the codes for its help.
"""

FIGURES = {
    "D3": "near_and_far",
    "D4": "wall",
    "D5": "bifurcation",
    "D6": "gradient_noise",
    "D7": "powers",
    "D10": "cells_that_mean",
    "D11": "saturation",
    "D13": "samples",
    "D16": "training_record",
    "D17": "landscape",
    "D18": "spectrum",
    "D19": "credit",
}
