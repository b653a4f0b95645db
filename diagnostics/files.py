"""Writing files so that nothing half-written is ever seen."""

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file by way of a temporary one beside it, renamed when it is complete.

    Text becomes UTF-8, line ends stay as they are.
    """
    target = Path(path)
    check_writable(target)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError if a file cannot be written there: better before an hour's work than after."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; pass the name of a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"the folder {target.parent} may not be written to")


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
