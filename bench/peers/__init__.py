"""The libraries compared, one small module each, set up as their users would.

A module has ``set_threads(n)`` and, for what `offers` says, ``training(work)``,
``inference(work)`` and the like, which return a `bench.work.Run`. Modules import their library at
the top: `load` imports them only where the library is installed.
"""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

from bench import cells
from bench.shapes import FLOAT32, TORCH_CELLS, TWO_STAGE
from bench.work import Work

# name in tables -> (module here, the packages that must be installed)
LIBRARIES = {
    "minirnn": ("ours", ("minirnn",)),
    "torch": ("pytorch", ("torch",)),
    "jax": ("scan", ("jax", "jaxlib")),
    "onnxruntime": ("runtime", ("onnxruntime", "onnx")),
    "numpy": ("loop", ("numpy",)),
    "autograd": ("hips", ("autograd",)),
}
RIVALS = ("torch", "jax")  # "the faster peer" of a target is the faster of these
NOT_INSTALLED = "not installed"
MOST_LOOP_FLOPS = 4e9  # beyond, a hand-written loop takes so long that only this would be measured


def offers(library: str, kind: str, work: Work) -> bool:
    """Whether a library has such a thing: ``kind`` is "training" or "inference"."""
    if library == "torch":  # a loop over time trains any cell; nobody runs such a loop for speed
        return kind == "training" or work.cell in TORCH_CELLS
    if library == "onnxruntime":
        known = work.cell in (*TORCH_CELLS, TWO_STAGE) and work.dtype == FLOAT32
        return kind == "inference" and known
    if library == "numpy":
        return work.cell in TORCH_CELLS and cells.flops(work.made, work.shape) <= MOST_LOOP_FLOPS
    return library in ("minirnn", "jax")


def installed(name: str) -> bool:
    """Whether a library can be imported here."""
    return all(importlib.util.find_spec(package) for package in LIBRARIES[name][1])


def load(name: str, threads: int = 1) -> Any:
    """Import the module of a library and give it so many threads."""
    module = importlib.import_module(f"bench.peers.{LIBRARIES[name][0]}")
    module.set_threads(threads)
    return module


def present(names: tuple[str, ...]) -> list[str]:
    """Return those of the names that are installed here, in the same order."""
    return [name for name in names if installed(name)]


def versions() -> dict[str, str]:
    """Return the version of every library, or that it is not installed."""
    return {
        name: importlib.metadata.version(packages[0]) if installed(name) else NOT_INSTALLED
        for name, (_, packages) in LIBRARIES.items()
    }
