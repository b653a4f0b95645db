"""Checkpoints: a whole run in one safetensors file, written so that a kill cannot spoil it.

The file holds arrays, and in its metadata one JSON text with everything that is not an array: the
optimizer's options, the states of the random generators, the step, the user's values. Reading it
never runs code: there is no pickle in it.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from minirnn.engine import Tensor, random
from minirnn.layers.module import Module
from minirnn.layers.optimizer import Optimizer

FORMAT = 1
Arrays = dict[str, NDArray[Any]]
Generators = np.random.Generator | Mapping[str, np.random.Generator] | None

# What a safetensors file and NumPy both know.
_DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
)


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or does not fit what it is loaded into."""


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
    arrays: Arrays = {}
    record = {
        "format": FORMAT,
        "step": int(step),
        "model": _pack({**model.state_dict()}, "model", arrays),
        "optimizer": _pack(_optimizer_record(optimizer), "optimizer", arrays),
        "generators": _pack(_states(_generators(model, rng)), "generators", arrays),
        "global": _pack(random.get_state(), "global", arrays),
        "extra": _pack(dict(extra or {}), "extra", arrays),
    }
    text = json.dumps(record)
    metadata = {"minirnn": text, "digest": _digest(text, arrays)}
    _write(Path(path), safetensors.numpy.save(arrays, metadata))


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
    record = _read(Path(path))
    writes: list[Any] = []
    plan: Any = None
    try:
        if model is not None:
            writes, _, _ = model.plan_load(record["model"])
        if optimizer is not None:
            plan = optimizer.plan_load(_own_record(optimizer, record["optimizer"]))
        states = _matched_states(_generators(model, rng), record["generators"])
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
    """Every generator of a run by name: those of modules, and those the user gave."""
    found = {f"model.{k}": g for k, g in (model.named_generators() if model else ())}
    given = rng if isinstance(rng, Mapping) else {} if rng is None else {"": rng}
    for name, generator in given.items():
        if not isinstance(generator, np.random.Generator) or not isinstance(name, str):
            raise TypeError(
                "checkpoint: rng must be a NumPy Generator or a dict from names to Generators, "
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


# ---------------------------------------------------------------------- values and arrays


def _pack(value: Any, place: str, arrays: Arrays) -> Any:
    """Return ``value`` as JSON, its arrays moved to ``arrays`` under the name of their place.

    An array becomes {"$array": name}, a tuple {"$tuple": [...]}; a key of a dict that itself
    begins with $ gets another $ in front.
    """
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        if value.dtype.name not in _DTYPES:
            raise TypeError(
                f"save_checkpoint: {place} has dtype {value.dtype}; use numbers or bool"
            )
        # safetensors 0.8 writes arrays that are not C-contiguous wrongly, without an error.
        native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        arrays[place] = native.reshape(value.shape)
        return {"$array": place}
    if isinstance(value, np.generic) and value.dtype.name in _DTYPES:
        return value.item()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"save_checkpoint: {place} has a key {key!r} that is no string")
        return {
            ("$" + key if key.startswith("$") else key): _pack(item, f"{place}.{key}", arrays)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = [_pack(item, f"{place}.{k}", arrays) for k, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"save_checkpoint: {place} must be an array or a JSON value, got {type(value).__name__}"
    )


def _unpack(value: Any, arrays: Arrays) -> Any:
    """Undo ``_pack``."""
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return arrays[value["$array"]]
    if "$tuple" in value:
        return tuple(_unpack(item, arrays) for item in value["$tuple"])
    return {key.removeprefix("$"): _unpack(item, arrays) for key, item in value.items()}


def _digest(text: str, arrays: Arrays) -> str:
    """Return a fingerprint of the content: a bit flipped on the disk is to be an error."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------------- the file


def _write(path: Path, content: bytes) -> None:
    """Put ``content`` under ``path``, at once and durably."""
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"save_checkpoint: the folder {folder} does not exist; make it")
    temporary = folder / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The new name itself is on the disk only when the folder is.
    folder_descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_descriptor)
    finally:
        os.close(folder_descriptor)


def _read(path: Path) -> dict[str, Any]:
    """Return the record of a checkpoint file with its arrays in place, or say what is wrong."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "minirnn" not in metadata or "digest" not in metadata:
                raise CheckpointError(
                    f"{path}: is a safetensors file but no checkpoint of minirnn; load its arrays "
                    "with safetensors.numpy.load_file and Module.load_state_dict"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}: is no checkpoint, or was cut off or damaged ({error})"
        ) from error
    if _digest(metadata["minirnn"], arrays) != metadata["digest"]:
        raise CheckpointError(f"{path}: was changed or damaged after it was written")
    try:
        record = json.loads(metadata["minirnn"])
        version = record["format"]
        parts = {key: _unpack(value, arrays) for key, value in record.items()}
        complete = isinstance(parts["step"], int) and isinstance(parts["extra"], dict)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata is not that of a checkpoint") from error
    if version != FORMAT or not complete:
        raise CheckpointError(
            f"{path}: has format {version!r}, this version of minirnn reads {FORMAT}"
        )
    return parts
