"""All figures of the gallery with training runs and networks of toy size."""

from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

from diagnostics.gallery import (
    FIGURES,
    cells_that_mean,
    character_model,
    credit,
    landscape,
    samples,
    saturation,
    spectrum,
    temporal_order,
    training_record,
)
from diagnostics.gallery.recipe import recipe, show

UPDATES = 100  # of gradient descent; of character models, which are larger, a tenth
TOY = {
    character_model: {"LIBRARY": 20_000, "UPDATES": 10, "SAMPLED": (1, 2, 5, 10)},
    samples: {"LIBRARY": 20_000, "UPDATES": 10},
    saturation: {"UPDATES": 10},
    cells_that_mean: {"UPDATES": 10, "LEAST": 1, "MOST": 1, "TRAINED": 4000, "UNSEEN": 1000},
    credit: {"STEPS": 20, "BATCH": 2},
    spectrum: {"STEPS": 160, "TRANSIENT": 40, "TURNING": 20},
    training_record: {"UPDATES": UPDATES, "train": partial(temporal_order.train, updates=UPDATES)},
    landscape: {
        "AWAY": 17, "ACROSS": 9, "FINE": 33,
        "train": partial(temporal_order.train, updates=UPDATES),
    },
}  # fmt: skip


def toy_figures():
    """Every figure of the registry, drawn; in seconds, by networks that have learned nothing."""
    trained = character_model.trained_on_the_library
    with ExitStack() as stack:
        for module, small in TOY.items():
            stack.enter_context(patch.multiple(module, **small))
        trained.cache_clear()
        stack.callback(trained.cache_clear)  # whoever asks next wants one that has
        return [show(code, recipe(code), recipe(code).numbers()) for code in FIGURES]
