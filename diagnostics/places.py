"""What a report calls a level and direction of a recurrent layer, and what it says of it."""

from typing import Any

import numpy as np


def subject_name(name: str, layer: Any, level: int, direction: int) -> str:
    """Name a level and direction: 'encoder, level 1, reverse'; just 'encoder' if there is one."""
    parts = [name]
    if layer.num_layers > 1:
        parts.append(f"level {level}")
    if layer.directions > 1:
        parts.append("reverse" if direction else "forward")
    return ", ".join(parts)


def place_table(layer: Any, level: int, direction: int, lowest: Any) -> dict[str, str]:
    """Say what a subject is: the layer, its sizes, the level, the direction and its input.

    lowest: the record of the lowest level, which holds what the layer was given.
    """
    place = f"level {level} of {layer.num_layers}" if layer.num_layers > 1 else "its only level"
    way = ("reverse" if direction else "forward") + " direction"
    return {
        "layer": f"{type(layer).__name__} of {layer.cell.name}, "
        f"{layer.input_size} to {layer.hidden_size}, {np.dtype(layer.dtype).name}",
        "judged": f"{place}, {way}",
        "x": _shape(lowest),
    }


def _shape(record: Any) -> str:
    """Spell the shape of a record's input, and its lengths where they differ from T."""
    steps, batch, inputs = record.inputs.shape
    spelled = f"T={steps}, B={batch}, I={inputs}"
    if record.lengths is None:
        return spelled
    ends = np.asarray(record.lengths)
    return f"{spelled}, lengths {ends.min()} to {ends.max()}"
