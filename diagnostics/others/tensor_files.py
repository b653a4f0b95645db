"""Tensors by name from a file: safetensors, NumPy's .npz, PyTorch's .pt; none runs any code."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors

from diagnostics.others.halves import Array, from_bfloat16, widened
from diagnostics.others.torch_files import read_torch

# What a safetensors file calls the numbers that NumPy has no type for.
BFLOAT16 = "BF16"


class TensorFile(Mapping[str, Array]):
    """The tensors of a file by name; each is read when it is asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Array]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, name: str) -> Array:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def read_tensors(path: str | os.PathLike[str]) -> Mapping[str, Array]:
    """Open a file of tensors; what kind it is its first bytes say, not its name.

    float16 and bfloat16 come as float32, which holds them exactly.

    Raises
    ------
    OSError
        There is no such file, or it is a folder.
    ValueError
        It is none of the three kinds, was cut off, or holds objects other than tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file of weights in it")
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    return (_zipped if zipped else _safetensors)(path)


def _zipped(path: Path) -> Mapping[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: was cut off or damaged ({error})") from error
    if any(name.endswith("data.pkl") for name in names):
        return read_torch(path)
    if any(name.endswith(".npy") for name in names):
        with np.load(path, allow_pickle=False) as file:
            held = list(file.files)
        return TensorFile({name: _from_npz(path, name) for name in held})
    raise ValueError(f"{path}: is a zip file without tensors; pass .safetensors, .npz or .pt")


def _from_npz(path: Path, name: str) -> Callable[[], Array]:
    def read() -> Array:
        try:
            with np.load(path, allow_pickle=False) as file:
                return widened(file[name])
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: {name} cannot be read ({error})") from error

    return read


def _safetensors(path: Path) -> Mapping[str, Array]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: must be a file of safetensors, .npz or .pt (torch.save since 1.6), and whole "
            f"({error})"
        ) from error
    return TensorFile({name: _from_safetensors(path, name, kinds[name]) for name in kinds})


def _from_safetensors(path: Path, name: str, kind: str) -> Callable[[], Array]:
    def read() -> Array:
        if kind == BFLOAT16:
            return _bfloat16(path, name)
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                return widened(file.get_tensor(name))
        except (TypeError, AttributeError, KeyError) as error:  # a type that NumPy lacks
            raise ValueError(
                f"{path}: {name} holds numbers of type {kind}; save it as float32"
            ) from error

    return read


def _bfloat16(path: Path, name: str) -> Array:
    """Read a bfloat16 tensor: the upper half of a float32 each.

    The format: 8 bytes with the length of a JSON header, the header, the numbers.
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        halves = np.frombuffer(file.read(end - begin), "<u2")
    return from_bfloat16(halves).reshape(entry["shape"])
