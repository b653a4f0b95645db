"""Numbers of 16 bits, as the float32 that holds them exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def from_bfloat16(bits: Array) -> Array:
    """Return float32 from bfloat16: its 16 bits are the upper half.  bits: unsigned, 16 each."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def widened(array: Array) -> Array:
    """Return float16 as float32, everything else as it is."""
    return array.astype(np.float32) if array.dtype == np.float16 else array
