"""Before anything is timed, all libraries must give the same results."""

from collections.abc import Mapping

import numpy as np

from bench.work import Arrays

# Largest difference, relative to the largest entry of an array. Sums are taken in other orders over
# up to T*B = 12800 rows and through up to 1000 steps; a missing bias, another gate order or a
# gradient left out is wrong in the first digit.
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


class Disagreement(AssertionError):
    """Two libraries computed different things."""


def check(results: Mapping[str, Arrays], dtype: str, of: str = "minirnn") -> None:
    """Compare every library's results with those of one of them.

    Raises
    ------
    Disagreement
        A result is missing, has another shape or dtype, or differs by more than rounding.
    """
    ours = results[of]
    for library, theirs in results.items():
        if set(theirs) != set(ours):
            raise Disagreement(
                f"{library} gives {sorted(theirs)}, {of} gives {sorted(ours)}: "
                "compared must be the same"
            )
        for name, array in theirs.items():
            if array.shape != ours[name].shape or str(array.dtype) != dtype:
                raise Disagreement(
                    f"{library}: {name} is {array.dtype} of shape {array.shape}, "
                    f"expected {dtype} of shape {ours[name].shape}"
                )
            scale = max(float(np.abs(ours[name]).max(initial=0)), 1e-30)
            difference = float(np.abs(array - ours[name]).max(initial=0)) / scale
            if not difference <= TOLERANCE[dtype]:
                raise Disagreement(
                    f"{library}: {name} differs from {of} by {difference:.2g} of its largest "
                    f"entry; rounding explains {TOLERANCE[dtype]:g}"
                )
