"""What a report says about the machine and the versions: nothing that names its owner."""

import platform
from importlib import metadata
from pathlib import Path

import numpy as np

import minirnn


def machine() -> dict[str, str]:
    """Describe processor, threads and versions; the same on every run in one environment."""
    return {
        "processor": _processor(),
        "architecture": f"{platform.machine()}, {platform.system()}",
        "threads": str(minirnn.get_num_threads()),
        "Python": platform.python_version(),
        "minirnn": minirnn.__version__,
        **{name: v for name in ("numpy", "numba", "matplotlib") if (v := _version(name))},
        "BLAS": _blas(),
    }


def _version(name: str) -> str:
    """Return the version of a package, empty where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _blas() -> str:
    """Name the library of NumPy's matrix products, with its version."""
    built = np.show_config(mode="dicts") or {}
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return " ".join(blas[key] for key in ("name", "version") if blas.get(key)) or "unknown"


def _processor() -> str:
    """Name the processor; Linux tells it in a file only, and Python not at all."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"
