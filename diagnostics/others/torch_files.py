"""What `torch.save` wrote, read without PyTorch and without running what the file says.

A .pt file is a zip archive: a pickle with the structure, and one raw file per storage. A pickle
can call anything; this reader knows the few names that tensors are made of, and puts nothing in
the place of all others: a checkpoint may hold settings and objects beside its tensors.
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


def read_torch(path: Path) -> Mapping[str, Array]:
    """Return the tensors of a .pt file by name; nested dicts are joined by dots.

    Raises
    ------
    ValueError
        The file is damaged, or holds no tensors but objects that only code could make.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (pickled,) = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
            with archive.open(pickled) as file:
                reader = _Reader(file, archive, pickled.removesuffix("data.pkl"))
                found = dict(_flat("", reader.load()))
    except DAMAGE as error:
        raise ValueError(f"{path}: was cut off or damaged ({error})") from error
    if reader.left_out and not found:
        raise ValueError(
            f"{path}: holds no tensors by name but {', '.join(sorted(reader.left_out))}, which "
            f"only running code could make; {WAY_OUT}"
        )
    return found


class _Reader(pickle.Unpickler):
    """An unpickler that makes tensors, ordered dicts and plain values, and nothing else.

    left_out: names of the pickle in whose place `_Nothing` was put.
    """

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._archive, self._folder = archive, folder
        self.left_out: set[str] = set()
        big = f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder")
        self._order: Literal["<", ">"] = ">" if big == b"big" else "<"

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the pickle stands for, `_Nothing` if it is not one of the few."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Parameter()
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        self.left_out.add(f"{module}.{name}")
        return _Nothing

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


class _Nothing:
    """Stands for any other class or function: takes everything, does nothing, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> "_Nothing":
        """Make one, whatever it was to be made of."""
        return object.__new__(cls)

    def _ignore(self, *_: Any) -> None:
        """Do nothing with what a pickle adds to the object."""

    # What a pickle may call on an object: its state, items of a list, a set and a dict.
    __setstate__ = append = extend = add = __setitem__ = _ignore


def _flat(prefix: str, value: Any) -> Any:
    """Yield (name, array) of all arrays in nested dicts."""
    if isinstance(value, np.ndarray):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
