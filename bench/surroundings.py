"""What a measurement was made in: versions, BLAS libraries, variables that choose kernels."""

import importlib.util
import os
from functools import cache
from typing import Any

from bench import environment, peers

_PREFIXES = ("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "XLA_", "MINIRNN_VECTOR")


@cache
def versions() -> dict[str, str]:
    """Return the version of every library."""
    return peers.versions()


def describe() -> dict[str, Any]:
    """Describe the process as it is now: a BLAS appears when its library has been loaded."""
    chosen = {k: v for k, v in sorted(os.environ.items()) if k.startswith(_PREFIXES)}
    return {
        "versions": versions(),
        "blas": _pools(),
        "variables": chosen,
        "unset": environment.found(),
    }


def _pools() -> list[str]:
    """Name the BLAS and OpenMP libraries that are loaded, their kernels and threads."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return ["unknown: threadpoolctl is not installed"]
    from threadpoolctl import threadpool_info

    return sorted(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')} "
        f"{pool['num_threads']} threads, {os.path.basename(pool['filepath'])}"
        for pool in threadpool_info()
    )
