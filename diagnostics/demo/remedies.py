"""What can be tried against vanishing and exploding gradients: the options of the demo's runs."""

from typing import Any

import minirnn
from diagnostics.demo.corpus import Corpus
from diagnostics.demo.settings import Settings

FLOSSED_EXPONENTS, FLOSSED_STEPS, FLOSSING_RATE = 8, 24, 3e-3


def initial(cell: str, settings: Settings) -> dict[str, Any]:
    """Choose where a cell starts: the same for a cell's runs with and without clipping."""
    init: dict[str, Any] = {}
    gates = minirnn.cells.get(cell).gates
    remembers = "f" in gates or "z" in gates
    if settings.start in ("orthogonal", "identity"):
        init["weight_hh"] = getattr(minirnn.init, settings.start)()
    if settings.start == "chrono":
        init["weight_hh"] = minirnn.init.orthogonal()
        if remembers:
            init["bias"] = minirnn.init.chrono(settings.steps)
    elif settings.forget_bias is not None and remembers:
        init["bias"] = minirnn.init.forget_bias(settings.forget_bias)
    elif "f" in gates:
        init["bias"] = minirnn.init.forget_bias(1.0)
    return init


def floss(model: Any, corpus: Corpus, settings: Settings) -> None:
    """Drive the leading Lyapunov exponents towards 0 before training, in so many steps."""
    layer = model.recurrent
    adam = minirnn.Adam(layer.parameters(), lr=FLOSSING_RATE)
    for step in range(settings.flossing):
        begin = step * FLOSSED_STEPS % (len(corpus.training) - FLOSSED_STEPS)
        ids = corpus.training[begin : begin + FLOSSED_STEPS, None]
        with minirnn.no_grad():
            x = model.embedding(ids).numpy()
        adam.zero_grad()
        minirnn.regularise.flossing(layer, x, FLOSSED_EXPONENTS, seed=settings.seed).backward()
        adam.step()
    layer.zero_grad()


def add_omega(layer: Any, seen: Any, alpha: float) -> None:
    """Add alpha times Omega's derivative to the gradients; gated cells have no Omega."""
    if alpha and len(layer.cell.products) == 1:
        (alpha * minirnn.regularise.omega(layer, seen)).backward()
