"""Compile options and the cache folder of every kernel, spelled once."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba import cfunc, njit
from numba.core import config as _config

from minirnn.kernels.machine import MACHINE

SETTINGS: Any = _config  # its attributes are made at run time

# No fast-math flags: the diagnostics exist to see NaN, and a row must give the same bits in every
# tile height, so sums are ordered and fused multiply-adds written out.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
JIT_DISABLED = bool(SETTINGS.DISABLE_JIT)


def _user_folder() -> Path:
    """Return the folder below which kernels are cached, by environment or by platform."""
    for variable in ("MINIRNN_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.environ.get(variable):
            return Path(os.environ[variable])
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "minirnn"


def _fingerprint() -> str:
    """Hash every source of minirnn and the choice of vectors.

    Numba notices an edit of the file that defines a kernel, but not of a file that the kernel
    calls into or that emits its code; and an override of the vector width is not in its key.
    """
    digest = hashlib.sha256(f"{numba.__version__} {MACHINE}".encode())
    package = Path(__file__).resolve().parent.parent
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> str | None:
    """Return the folder for compiled kernels, or None where nothing can be written."""
    try:
        folder = _user_folder() / _fingerprint()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None


CACHE = None if JIT_DISABLED else cache_folder()


def _decorate(decorator: Callable[..., Any], *args: Any) -> Callable[[Callable[..., Any]], Any]:
    def apply(function: Callable[..., Any]) -> Any:
        if JIT_DISABLED:
            return function
        if CACHE is None:
            return decorator(*args, **OPTIONS)(function)
        # Numba fixes the folder of a kernel when the kernel is decorated.
        before = SETTINGS.CACHE_DIR
        SETTINGS.CACHE_DIR = CACHE
        try:
            return _with_own_files(decorator(*args, cache=True, **OPTIONS)(function))
        finally:
            SETTINGS.CACHE_DIR = before

    return apply


def _with_own_files(made: Any) -> Any:
    """Give what a kernel writes to the cache a name that no other process writes to.

    Numba numbers the files of a kernel, one for each signature, and takes the next free number
    without a lock: two processes that compile at once could end with an index that names the file
    of another signature, and every later process would run wrong code. So they may lose an entry.
    """
    file = getattr(getattr(made, "_cache", None), "_cache_file", None)
    pattern = getattr(file, "_data_name_pattern", "")
    if file is not None and ".{number" in pattern:
        file._data_name_pattern = pattern.replace(".{number", f".{uuid4().hex[:12]}.{{number")
    return made


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called with given types."""
    return _decorate(njit)(function)


def native(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function to one with a plain C signature, which has an ``.address``."""
    return _decorate(cfunc, signature)


def compiled_address(function: Any, arguments: tuple[Any, ...]) -> int:
    """Compile a kernel for argument types, or load it, and return the address of its code."""
    function.compile(arguments)
    made = function.overloads[arguments]
    address: int = made.library.get_pointer_to_function(made.fndesc.llvm_func_name)
    return address
