"""One array from a .npy or .npz file, checked before anything is computed from it."""

import zipfile
from pathlib import Path

import numpy as np

from diagnostics.others.halves import Array

FLOATS, INTEGERS = "f", "iu"
KINDS = (b"\x93NUMPY", b"PK\x03\x04")  # how a .npy and a .npz begin


def read_array(path: str, what: str) -> Array:
    """Read an array of real numbers, or say in one line why it cannot be used.

    what: the command line's name for it, "input".

    Raises
    ------
    OSError
        There is no such file, or it is a folder.
    ValueError
        It is no .npy, and no .npz with a single array; it was cut off; it holds no real numbers.
    """
    place = f"{what}: {path}"
    if Path(path).is_dir():
        raise IsADirectoryError(f"{place} is a folder; name the file in it")
    with open(path, "rb") as file:
        if not file.read(6).startswith(KINDS):
            raise ValueError(f"{place} must be an array that numpy.save wrote; it is another file")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                names = list(loaded.files)
                array = loaded[names[0]] if len(names) == 1 else None
        else:
            names, array = [], loaded
    except (ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(
            f"{place} must be an array that numpy.save wrote, and whole ({error})"
        ) from error
    if array is None:
        raise ValueError(f"{place} must hold one array, got {len(names)}: {', '.join(names)}")
    if array.dtype.kind not in FLOATS + INTEGERS:
        raise ValueError(f"{place} must hold real numbers, got dtype {array.dtype}")
    return array


def check_finite(place: str, array: Array) -> None:
    """Raise ValueError, with the first place, if numbers are not finite."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise ValueError(
            f"{place} must hold finite numbers, got {len(bad)} that are not, the first at index "
            f"{tuple(int(i) for i in bad[0])}"
        )
