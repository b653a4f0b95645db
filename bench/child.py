"""What must be measured in a process of its own: a first training step, growth of memory.

    python -m bench.child start LIBRARY CELL
    python -m bench.child memory LIBRARY T B I H

prints one line of JSON. Nothing is imported before the clock runs.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

STEPS, BATCH, INPUTS, UNITS = 50, 16, 64, 128  # of the first training step


def start_minirnn(cell: str) -> None:
    """Import minirnn and run a first training step."""
    import numpy as np

    import minirnn

    if cell not in minirnn.cells.names():
        from bench import cells

        cell = cells.get(cell)
    layer = minirnn.Recurrent(cell, INPUTS, UNITS, seed=0)
    x = minirnn.Tensor(np.ones((STEPS, BATCH, INPUTS), np.float32), requires_grad=True)
    layer(x)[0].backward(np.ones((STEPS, BATCH, UNITS), np.float32))


def start_torch(cell: str) -> None:
    """Import PyTorch and run a first training step."""
    import torch

    layer = getattr(torch.nn, cell.upper())(INPUTS, UNITS)
    x = torch.ones(STEPS, BATCH, INPUTS, requires_grad=True)
    layer(x)[0].backward(torch.ones(STEPS, BATCH, UNITS))


def start_jax(cell: str) -> None:
    """Import JAX, compile and run a first training step."""
    from bench import peers
    from bench.shapes import Shape
    from bench.work import Work

    peers.load("jax").training(Work(cell, Shape(STEPS, BATCH, INPUTS, UNITS, ""))).step()


def start(library: str, cell: str) -> dict[str, float]:
    """Return the seconds from before the import to the end of a first training step."""
    run: Callable[[str], None] = globals()[f"start_{library}"]
    begun = time.perf_counter()
    run(cell)
    return {"seconds": time.perf_counter() - begun}


def _status(name: str) -> int:
    """Return an entry of this process's status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"bench.child: /proc/self/status has no {name}")


def memory(library: str, *sizes: int) -> dict[str, float]:
    """Return how much a training step adds to a process that is warm and holds its inputs.

    Warm: a step of two time steps has loaded and compiled everything. The peak is then reset, so
    that only the large step can raise it.
    """
    from bench import environment, peers
    from bench.shapes import Shape
    from bench.work import Work

    module = peers.load(library, environment.threads())
    steps, *rest = sizes
    module.training(Work("lstm", Shape(min(2, steps), *rest, ""))).step()
    run = module.training(Work("lstm", Shape(steps, *rest, "")))
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is in use now
    before, begun = _status("VmRSS"), time.perf_counter()
    run.step()
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes": _status("VmHWM") - before}


def main() -> None:
    """Run what the command line asks for."""
    what, library, *arguments = sys.argv[1:]
    if what == "start":
        found = start(library, *arguments)
    else:
        found = memory(library, *(int(a) for a in arguments))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
