"""What `torch.save` wrote, read without PyTorch and without running what the file says.

A .pt file is a zip archive: a pickle with the structure, and one raw file per storage. A pickle
can call anything; this reader knows the few names that tensors are made of and refuses the rest.
"""

import collections
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diagnostics.others.halves import Array, from_bfloat16, widened

# Storages of PyTorch by name: NumPy's type of an entry.
STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bf16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, IndexError, AttributeError,
    TypeError, ValueError, MemoryError, RecursionError, OverflowError, NotImplementedError,
    zlib.error,
)  # fmt: skip
WAY_OUT = "save model.state_dict() alone, or use safetensors"


class _NotTensors(Exception):
    """The file holds something that is no tensor, number, text or container of these."""


def read_torch(path: Path) -> Mapping[str, Array]:
    """Return the tensors of a .pt file by name; nested dicts are joined by dots.

    Raises
    ------
    ValueError
        The file is damaged, or holds objects that only code could make.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (pickled,) = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
            with archive.open(pickled) as file:
                reader = _Reader(file, archive, pickled.removesuffix("data.pkl"))
                return dict(_flat("", reader.load()))
    except _NotTensors as error:
        raise ValueError(f"{path}: {error}; {WAY_OUT}") from error
    except DAMAGE as error:
        raise ValueError(f"{path}: was cut off or damaged ({error})") from error


class _Reader(pickle.Unpickler):
    """An unpickler that makes tensors, ordered dicts and plain values, and nothing else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._archive, self._folder = archive, folder
        big = f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder")
        self._order: Literal["<", ">"] = ">" if big == b"big" else "<"

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the pickle stands for, if it is one of the few."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Parameter()
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise _NotTensors(f"holds a {module}.{name}, which only running code could make")

    def persistent_load(self, pid: Any) -> Array:
        """Return a storage as a flat array.  pid: ("storage", type, key, device, entries)."""
        _, kind, key, _, count = pid
        raw = self._archive.read(f"{self._folder}data/{key}")
        half = kind == "bf16"
        entries = np.frombuffer(raw, np.dtype("u2" if half else kind).newbyteorder(self._order))
        if len(entries) < count:
            raise ValueError(f"storage {key} must have {count} entries, got {len(entries)}")
        native = entries.astype(entries.dtype.newbyteorder("="), copy=False)
        return from_bfloat16(native) if half else widened(native)


class _Tensor:
    """Stands for torch._utils._rebuild_tensor_v2; without attributes that a pickle could set."""

    __slots__ = ()

    def __call__(self, storage: Array, offset: int, size: Any, stride: Any, *_: Any) -> Array:
        """Return a tensor as an array; NumPy checks that it lies inside its storage."""
        width = storage.itemsize
        return np.ndarray(
            tuple(size), storage.dtype, np.ascontiguousarray(storage), offset * width,
            tuple(s * width for s in stride),
        )  # fmt: skip


class _Parameter:
    """Stands for torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, data: Array, *_: Any) -> Array:
        """Return the parameter's tensor."""
        return data


def _flat(prefix: str, value: Any) -> Any:
    """Yield (name, array) of all arrays in nested dicts."""
    if isinstance(value, np.ndarray):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
