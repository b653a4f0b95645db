"""The process of a run: its processors, threads and variables, settled before NumPy is loaded.

Nothing here may import a library that loads a BLAS.
"""

import os
import sys

THREADS_VARIABLE = "BENCH_THREADS"
QUICK_VARIABLE = "BENCH_QUICK"
FOUND_VARIABLE = "BENCH_FOUND"

# What forces a BLAS into kernels other than those it would choose: unset, and said so in the table.
PRESETS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def threads() -> int:
    """Return how many threads this process gives to every library."""
    return int(os.environ.get(THREADS_VARIABLE, "1"))


def quick() -> bool:
    """Whether only a few shapes are measured, each for a shorter time."""
    return os.environ.get(QUICK_VARIABLE) == "1"


def processors() -> int:
    """Return how many processors the machine lends to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def child(count: int, is_quick: bool, given: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process that measures with so many threads."""
    variables = dict(os.environ if given is None else given)
    found = [f"{name}={variables.pop(name)}" for name in PRESETS if name in variables]
    if found:
        variables[FOUND_VARIABLE] = " ".join(found)
    variables |= {name: str(count) for name in COUNTS}
    variables[THREADS_VARIABLE] = str(count)
    variables[QUICK_VARIABLE] = "1" if is_quick else "0"
    # A thread pool of XLA has as many threads as the process has processors: see pin(). This keeps
    # Eigen's loops from being cut into more pieces than there are threads.
    if count == 1:
        flag = "--xla_cpu_multi_thread_eigen=false"
        variables["XLA_FLAGS"] = f"{variables.get('XLA_FLAGS', '')} {flag}".strip()
    variables["JAX_PLATFORMS"] = "cpu"
    return variables


def found() -> str:
    """Return the presets that were found and unset, as ``NAME=value``, or an empty string."""
    return os.environ.get(FOUND_VARIABLE, "")


def pin(count: int) -> None:
    """Keep this process on so many processors: what a library cannot exceed it cannot gain by.

    JAX has no setting for its number of threads; it makes one per processor that it may use.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < count:
            raise RuntimeError(
                f"bench: {count} threads need as many processors, this process may use "
                f"{len(allowed)}; ask for fewer with --threads"
            )
        # The last ones: interrupts and everybody's first processes crowd the first.
        os.sched_setaffinity(0, allowed[-count:])


def settle() -> None:
    """Settle this process; call it before anything loads NumPy.

    Raises
    ------
    RuntimeError
        NumPy is loaded already and some variable differs from what the run needs.
    """
    wanted = child(threads(), quick())
    differ = sorted(
        name for name in {*PRESETS, *COUNTS} if os.environ.get(name) != wanted.get(name)
    )
    if differ and "numpy" in sys.modules:
        raise RuntimeError(
            f"bench: NumPy was loaded before {', '.join(differ)} could be set; "
            "run `python -m bench`, which starts a process with the right variables"
        )
    for name in PRESETS:
        os.environ.pop(name, None)
    os.environ.update(wanted)
    pin(threads())
