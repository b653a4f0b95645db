"""One nested value in one safetensors file, written so that a kill cannot spoil it.

The file holds the value's arrays, and in its metadata one JSON text with everything else. Reading
it never runs code: there is no pickle in it.
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

from minirnn.engine import Tensor

Arrays = dict[str, NDArray[Any]]

# What a safetensors file and NumPy both know.
_DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
)


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or does not fit what it is loaded into."""


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a dict of arrays, Tensors and JSON values, also nested in dicts, lists and tuples.

    The file appears under its name only when it is complete and on the disk: it is written to a
    temporary file in the same folder, synced, and renamed.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"save_checkpoint: the folder {path.parent} does not exist; make it first"
        )
    arrays: Arrays = {}
    text = json.dumps({key: _pack(item, key, arrays) for key, item in value.items()})
    metadata = {"minirnn": text, "digest": _digest(text, arrays)}
    _replace(path, safetensors.numpy.save(arrays, metadata))


def read(path: Path) -> dict[str, Any]:
    """Return what ``write`` wrote, Tensors as arrays, or say what is wrong with the file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a checkpoint; name the file in it")
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
        return {key: _unpack(item, arrays) for key, item in record.items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata is not that of a checkpoint") from error


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
        while place in arrays:  # {"a.b": x, "a": {"b": y}}
            place += "'"
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


def _replace(path: Path, content: bytes) -> None:
    """Put ``content`` under ``path``, at once and durably."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
