"""What this processor offers: vector width, vector registers, fused multiply-add."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import config as _config

SETTINGS: Any = _config  # its attributes are made at run time

VARIABLE = "MINIRNN_VECTOR_BITS"


@dataclass(frozen=True)
class Machine:
    """Vector bits, number of vector registers, and whether ``fma`` is one instruction."""

    bits: int
    registers: int
    fma: bool

    def lanes(self, itemsize: int) -> int:
        """Return how many numbers of so many bytes a vector holds."""
        return self.bits // (8 * itemsize)


def _features() -> set[str]:
    """Return the processor's features as LLVM names them, or those that Numba is told to use."""
    told = SETTINGS.CPU_FEATURES
    if told is not None:
        return {name[1:] for name in told.split(",") if name.startswith("+")}
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def detect() -> Machine:
    """Describe the host; ``MINIRNN_VECTOR_BITS`` (128, 256 or 512) overrides the width.

    A narrower vector than the host's is given the register count of a machine with that width, so
    that the tiles of such machines can be tested on this one.
    """
    features = _features()
    arm = platform.machine() in ("aarch64", "arm64")
    if arm:
        bits, registers, fma = 128, 32, True
    else:
        bits = 512 if "avx512f" in features else 256 if "avx2" in features else 128
        registers, fma = (32 if bits == 512 else 16), "fma" in features
    asked = os.environ.get(VARIABLE)
    if asked:
        if asked not in ("128", "256", "512"):
            raise ValueError(f"{VARIABLE} must be 128, 256 or 512, got {asked!r}")
        bits = int(asked)
        registers = 32 if bits == 512 or arm else 16
    return Machine(bits, registers, fma)


def second_level_cache() -> int:
    """Return the bytes of a core's second-level cache; 1 MiB where the system does not tell."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 20


MACHINE = detect()
CACHE_BYTES = second_level_cache()
