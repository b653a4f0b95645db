"""How a monitor's file begins: what the run is, and whether a file that exists holds that run."""

import os
from typing import Any

from diagnostics.machine import machine
from diagnostics.monitor.journal import Journal, Line, Run, read_run
from diagnostics.quantities.watching import recurrent_layers


def head_of(model: Any, every: int, level: str, window: int, seed: int) -> Line:
    """Describe a run.  Model and layers have to be the same for a file to be one run's."""
    layers = {
        name or type(layer).__name__: {
            "cell": layer.cell.name,
            "input_size": layer.input_size,
            "hidden_size": layer.hidden_size,
            "num_layers": layer.num_layers,
            "directions": layer.directions,
        }
        for name, layer in recurrent_layers(model).items()
    }
    return {
        "kind": "run",
        "model": type(model).__name__,
        "layers": layers,
        "every": every,
        "level": level,
        "window": window,
        "seed": seed,
        "machine": machine(),
    }


def opened(path: str | os.PathLike[str], head: Line, resume: bool, run: Run) -> Journal:
    """Open the journal; run takes the lines that it holds already."""
    journal = Journal(path)
    if not journal.path.exists() or not journal.path.stat().st_size:
        return journal
    if not resume:
        raise FileExistsError(
            f"Monitor: {path} exists already; pass resume=True to append to the run that it "
            "holds, or another path"
        )
    read_run(path, run)
    for name in ("model", "layers"):
        if run.head.get(name, head[name]) != head[name]:
            raise ValueError(
                f"Monitor: {path} is of another run: its {name} {run.head[name]} is not "
                f"{head[name]}; pass another path"
            )
    journal.mend()
    return journal
