"""Writing files so that nothing half-written is ever seen."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file by way of a temporary one beside it, renamed when it is complete.

    Text becomes UTF-8, line ends stay as they are. A link stays one, what it leads to is written;
    a device or a pipe is written to and not replaced.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        (_fill if is_device(target) else _replace)(target, raw)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # a full disk


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError if a file cannot be written there: better before an hour's work than after.

    Whether the folder takes a new file is tried out, because only the system knows: of a full
    disk, a medium that cannot be written, a name that is too long.
    """
    if "\0" in os.fspath(path):
        raise ValueError(f"{os.fspath(path)!r} is no name of a file: it holds a null character")
    target, shown = Path(os.path.realpath(path)), Path(path)
    try:
        os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise OSError(error.errno, error.strerror, str(shown)) from error
    if target.is_dir():
        raise IsADirectoryError(f"{shown} is a folder; pass the name of a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {shown.parent} does not exist; make it first")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{shown} may not be written to")
    if is_device(target):
        return
    try:
        handle, temporary = _temporary(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(shown)) from error
    os.close(handle)
    os.unlink(temporary)


def check_apart(out: str | os.PathLike[str], read: Iterable[str | os.PathLike[str] | None]) -> None:
    """Raise ValueError if a file to be written is one that is read: it would be lost."""
    for path in read:
        if path and os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
            raise ValueError(
                f"out: {os.fspath(out)} is a file that is read, and would be lost; name another"
            )


def _fill(target: Path, raw: bytes) -> None:
    with open(target, "wb") as file:
        file.write(raw)


def _replace(target: Path, raw: bytes) -> None:
    handle, temporary = _temporary(target)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_device(target: str | os.PathLike[str]) -> bool:
    """Whether what is there is no file: a device, a pipe, a folder."""
    return os.path.exists(target) and not os.path.isfile(target)


def _temporary(target: Path) -> tuple[int, str]:
    """Make a file beside the target; its short name fits wherever the target's does."""
    return tempfile.mkstemp(dir=target.parent, prefix=".")


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Return a folder that files can be written into, or that can be made; else raise OSError."""
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; pass the name of a folder")
    inside = target if target.is_dir() else target.parent
    if not inside.is_dir():
        raise FileNotFoundError(f"the folder {inside} does not exist; make it first")
    if not os.access(inside, os.W_OK):
        raise PermissionError(f"the folder {inside} may not be written to")
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
