"""Checks of what a user gives to diagnostics, each with the place, the rule and the way out."""

from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.watching import recurrent_layers


def whole_number(place: str, name: str, value: Any, least: int = 0) -> int:
    """Return a whole number, 2.0 too, that is `least` or more."""
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if not whole or isinstance(value, bool) or value < least:
        raise ValueError(f"{place}: {name} must be a whole number, {least} or more, got {value!r}")
    return int(value)


def check_path(place: str, name: str, value: Any) -> None:
    """Raise TypeError for what names no file."""
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{place}: {name} must be a path, got {type(value).__name__}")


def check_layer(place: str, layer: Any, level: int = -1, direction: int = 0) -> None:
    """Raise for what is no recurrent layer, or has no such level or direction."""
    if not isinstance(layer, minirnn.Recurrent):
        raise TypeError(
            f"{place}: layer must be a minirnn.Recurrent, got {type(layer).__name__}; "
            "of a model pass the layer inside it"
        )
    _check_range(
        place, "level", level, -layer.num_layers, layer.num_layers - 1,
        f"the layer has {layer.num_layers} level(s)",
    )  # fmt: skip
    way = "" if layer.bidirectional else "not "
    _check_range(
        place, "direction", direction, 0, layer.directions - 1, f"the layer is {way}bidirectional"
    )


def _check_range(place: str, name: str, value: Any, low: int, high: int, fact: str) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ValueError(f"{place}: {name} must lie in {low} to {high}, got {value!r}; {fact}")


def layers_of_model(place: str, model: Any) -> dict[str, Any]:
    """Return every Recurrent inside a model by its dotted name; raise where there is none."""
    module = isinstance(model, minirnn.Module)
    layers = recurrent_layers(model) if module else {}
    if not layers:
        raise ValueError(
            f"{place}: model must be or contain a minirnn.Recurrent, got {type(model).__name__} "
            + ("without one" if module else "; put what calls it into a minirnn.Module")
        )
    return layers


def gradient_of_output(
    place: str, d_output: Any, shape: tuple[int, ...], dtype: Any
) -> NDArray[np.floating]:
    """Return the derivative of a loss by a layer's output, of the output's shape and dtype."""
    array = d_output.numpy() if isinstance(d_output, minirnn.Tensor) else np.asarray(d_output)
    if array.shape != shape:
        raise ValueError(
            f"{place}: d_output must have the output's shape {shape}, got {array.shape}"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{place}: d_output must hold real numbers, got dtype {array.dtype}")
    return array.astype(dtype)
