"""Checkpoints: a whole run in one file, from which it goes on bit for bit."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minirnn.container import CheckpointError, read, write
from minirnn.engine import random
from minirnn.layers.module import Module
from minirnn.layers.optimizer import Optimizer

__all__ = ["CheckpointError", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
Generators = np.random.Generator | Mapping[str, np.random.Generator] | None


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Optimizer | None = None,
    *,
    step: int = 0,
    rng: Generators = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a run to a file from which it goes on bit for bit as if it had not stopped.

    The global generator is always in it, and so are the generators of modules (a seeded Dropout).
    The file appears under its name only when it is complete and on the disk: it is written to a
    temporary file in the same folder, synced, and renamed. A run that is killed meanwhile leaves
    the older checkpoint as it was, and at worst a file ``.NAME.*.tmp`` beside it.

    Parameters
    ----------
    path : file to write
    model, optimizer : what to save
    step : number of steps done, given back by ``load_checkpoint``
    rng : a NumPy Generator or a dict of them
    extra : dict of arrays, Tensors and JSON values, also nested in dicts, lists and tuples
    """
    record = {
        "format": FORMAT,
        "step": int(step),
        "model": model.state_dict(),
        "optimizer": _optimizer_record(optimizer),
        "generators": _states(_generators(model, rng)),
        "global": random.get_state(),
        "extra": dict(extra or {}),
    }
    write(Path(path), record)


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    rng: Generators = None,
) -> tuple[int, dict[str, Any]]:
    """Read a run from a file, all or nothing: on any error nothing has been changed.

    Puts back the parameters of ``model`` and the generators of its modules, the state of
    ``optimizer``, the generators in ``rng`` and always the global one. What is not asked for is
    passed over. A file that is damaged or does not fit is a CheckpointError.

    Returns
    -------
    step, extra : as given to ``save_checkpoint``; Tensors come back as arrays
    """
    generators = _generators(model, rng)
    record = read(Path(path))
    _check_format(path, record)
    writes: list[Any] = []
    plan: Any = None
    try:
        if model is not None:
            writes, _, _ = model.plan_load(record["model"])
        if optimizer is not None:
            plan = optimizer.plan_load(_own_record(optimizer, record["optimizer"]))
        states = _matched_states(generators, record["generators"])
        random.set_state(record["global"])  # the last that can fail, the first that writes
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{os.fspath(path)}: does not fit: {error}") from error
    for parameter, array in writes:
        parameter.assign(array)
    if optimizer is not None:
        optimizer.apply_load(plan)
    for generator, state in states:
        generator.bit_generator.state = state
    return record["step"], record["extra"]


# ---------------------------------------------------------------------- the parts of a run


def _check_format(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Raise unless the record has the parts that ``save_checkpoint`` writes."""
    missing = {"step", "model", "optimizer", "generators", "global", "extra"} - set(record)
    if record.get("format") != FORMAT or missing or not isinstance(record["step"], int):
        raise CheckpointError(
            f"{os.fspath(path)}: has format {record.get('format')!r}, this version of minirnn "
            f"reads {FORMAT}" + (f"; without {sorted(missing)}" if missing else "")
        )


def _optimizer_record(optimizer: Optimizer | None) -> dict[str, Any] | None:
    if optimizer is None:
        return None
    saved = optimizer.state_dict()
    state = {str(index): kept for index, kept in saved["state"].items()}
    return {"class": type(optimizer).__name__, **saved, "state": state}


def _own_record(optimizer: Optimizer, record: dict[str, Any] | None) -> dict[str, Any]:
    if record is None:
        raise ValueError("the file holds no optimizer; load it with optimizer=None")
    if record["class"] != type(optimizer).__name__:
        raise ValueError(
            f"the file holds the state of {record['class']}, not of {type(optimizer).__name__}"
        )
    return record


def _generators(model: Module | None, rng: Generators) -> dict[str, np.random.Generator]:
    """Return every generator of a run by name: those of modules, and those the user gave."""
    found = {}
    if model is not None:
        found = {f"model.{name}": g for name, g in model.named_generators()}
    given = rng if isinstance(rng, Mapping) else {} if rng is None else {"": rng}
    for name, generator in given.items():
        if not isinstance(generator, np.random.Generator) or not isinstance(name, str):
            raise TypeError(
                "rng must be a NumPy Generator or a dict from names to Generators, "
                f"got {type(generator).__name__} under {name!r}"
            )
        found[f"rng.{name}"] = generator
    return found


def _states(generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
    return {name: dict(g.bit_generator.state) for name, g in generators.items()}


def _matched_states(
    generators: Mapping[str, np.random.Generator], saved: Mapping[str, Any]
) -> list[tuple[np.random.Generator, Any]]:
    """Pair generators with their saved states, tried on a fresh generator of the same kind."""
    own = {name for name in generators if name.startswith("rng.")}
    held = {name for name in saved if name.startswith("rng.")}
    if own and own != held:
        raise ValueError(
            f"rng names the generators {sorted(n[4:] for n in own)}, "
            f"the file holds {sorted(n[4:] for n in held)} ('' is one given without a name)"
        )
    pairs = []
    for name, generator in generators.items():
        # A model's own generators are put back where both have one: evaluating without the
        # seeded Dropout of the training run is no error.
        if name in saved:
            type(generator.bit_generator)().state = saved[name]
            pairs.append((generator, saved[name]))
    return pairs
