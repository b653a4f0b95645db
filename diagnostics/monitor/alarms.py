"""Which step of a training run broke first, and where: numbers not finite, a norm that explodes."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diagnostics.quantities.watching import recurrent_layers
from diagnostics.rules import MIN_SAMPLES, TABLE

REMEMBERED = 100  # norms that a new one is compared with


@dataclass(frozen=True)
class Alarm:
    """Something that broke.

    step: of training.  what: "nonfinite" or "explosion".  evidence: in words.  where: what is
    known of the place: layer, pass, where, name, gate, step (in time), sequence, unit.  ratio: of
    an explosion, norm over the usual one.
    """

    step: int
    what: str
    evidence: str
    where: dict[str, Any]
    ratio: float = float("inf")


class Lookout:
    """Looks at every step's loss and gradient norm: a few comparisons of numbers."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=REMEMBERED)
        self._least = 0.0  # none of them is smaller

    def look(
        self, loss: float | None, norm: float | None, nonfinite: int
    ) -> tuple[str, str, float] | None:
        """Return what broke at this step, evidence, and by how much; None if nothing did."""
        if loss is not None and not math.isfinite(loss):
            return "nonfinite", f"the loss is {loss}", float("inf")
        if nonfinite or (norm is not None and not math.isfinite(norm)):
            evidence = f"{nonfinite or 'some'} entries of the gradient are not finite"
            return "nonfinite", evidence, float("inf")
        if norm is None:
            return None
        limit, found = TABLE["R2"].warn, None
        # The median is not below the smallest: it is asked for only where it can matter.
        if norm > limit * self._least and len(self._norms) >= MIN_SAMPLES:
            self._least = min(self._norms)
            if norm > limit * self._least:
                usual = float(np.median(self._norms))
                if norm > limit * usual:
                    ratio = norm / usual if usual else float("inf")
                    evidence = f"the gradient's norm is {norm:.2g}, {ratio:.2g} times its median"
                    found = ("explosion", evidence, ratio)
        self._least = min(self._least, norm)
        self._norms.append(norm)
        return found


def place_in_layers(layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the first place that is not finite in a row's layers, forward before backward.

    Forward from the lowest level up and from the first step on, backward the other way round.
    """
    found = [
        (_processed(event, layer["place"]), {"layer": name, **event})
        for name, layer in layers.items()
        for event in layer["quantities"]["numeric_health"]["events"]
        if event["kind"] in ("nan", "inf")
    ]
    return min(found, key=lambda item: item[0])[1] if found else {}


def _processed(event: dict[str, Any], place: Sequence[int]) -> tuple[int, ...]:
    """When an event happened, as a key to sort by.  place: layer, level, direction."""
    order = ("inputs", "gates", "states", "delta", "gate_grads").index(event["where"])
    if event["pass"] == "forward":
        return (0, *place, event["step"], order)
    # A gate's step t leads to row t + 1 of delta.
    row = event["step"] + (event["where"] == "gate_grads")
    return (1, *(-i for i in place), -row, order)


def place_in_parameters(model: Any) -> dict[str, Any]:
    """Return the first parameter that is not finite, or whose gradient is not: gate and unit."""
    named = dict(model.named_parameters())
    for where, arrays in (
        ("parameter", {k: p.numpy() for k, p in named.items()}),
        ("gradient", {k: np.asarray(p.grad) for k, p in named.items() if p.grad is not None}),
    ):
        for name, array in arrays.items():
            bad = ~np.isfinite(array)
            if bad.any():
                row = int(np.argwhere(bad)[0][0]) if array.ndim else 0
                kind = "nan" if np.isnan(array).any() else "inf"
                return {"where": where, "name": name, "kind": kind, **_gate(model, name, row)}
    return {}


def place_of_largest(model: Any) -> dict[str, Any]:
    """Return the parameter with the largest gradient, and the gate and unit of its largest row."""
    grads = {k: np.asarray(p.grad) for k, p in model.named_parameters() if p.grad is not None}
    if not grads:
        return {}
    name = max(grads, key=lambda k: float(np.linalg.norm(grads[k])))
    rows = np.abs(grads[name].reshape(len(grads[name]), -1)).max(axis=1)
    where = {"where": "gradient", "name": name, "kind": "large"}
    return where | _gate(model, name, int(np.argmax(rows)))


def spelled_place(where: dict[str, Any]) -> str:
    """Say a place in words."""
    if not where:
        return ""
    said = [f"{where['kind'].replace('nan', 'NaN')} in {where['where']} {where['name']}"]
    if "layer" in where:
        said.append(f"of {where['layer']} on the way {where['pass']}")
    parts = {"gate": "gate", "step": "row", "sequence": "sequence", "unit": "unit"}
    said += [f"{word} {where[key]}" for key, word in parts.items() if key in where]
    return ", ".join(said)


def _gate(model: Any, name: str, row: int) -> dict[str, Any]:
    """Which gate and unit a row of a recurrent layer's parameter belongs to."""
    prefix, _, own = name.rpartition(".")
    layer = recurrent_layers(model).get(prefix)
    if layer is None:
        return {}
    gate, unit = divmod(row, layer.hidden_size)
    blocks = {
        "weight_ih": layer.cell.gates, "bias_ih": layer.cell.gates,
        "weight_hh": layer.cell.products, "bias_hh": layer.cell.biased,
    }  # fmt: skip
    names = next((n for kind, n in blocks.items() if own.startswith(kind)), ())
    return {"gate": names[gate], "unit": unit} if gate < len(names) else {"unit": unit}
