"""Run the benchmark: one process per number of threads, then the tables.

    python -m bench [--quick] [--threads 1,2] [arguments of pytest]

Each process is started with the right variables and keeps to as many processors as it has threads
(bench/environment.py). A full run rewrites bench/results/ and the table in README.md; a quick one,
or one in which pytest's arguments pick tests, only prints.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench import environment

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".benchmarks"  # raw files of pytest-benchmark, not committed


def raw_file(threads: int, kind: str = "full") -> Path:
    """Return where a process leaves what it measured: all ("full"), "quick" or a "part"."""
    return KEPT / f"{kind}-{threads}.json"


def command(threads: int, quick: bool, arguments: list[str]) -> list[str]:
    """Return the command of one process.

    Runs are also kept by number in a storage for each number of threads, so that
    ``--benchmark-compare`` finds the last run of the same kind.
    """
    kind = "part" if picks(arguments) else "quick" if quick else "full"
    return [
        sys.executable, "-m", "pytest", "bench", "--benchmark-only",
        "-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning",
        "--benchmark-columns=median,iqr,rounds",
        f"--benchmark-json={raw_file(threads, kind)}",
        f"--benchmark-storage=file://{KEPT}/{threads}-threads", "--benchmark-autosave",
        *arguments,
    ]  # fmt: skip


def picks(arguments: list[str]) -> bool:
    """Whether pytest's arguments leave out some of the tests."""
    return any(not a.startswith("--benchmark") for a in arguments)


def main() -> int:
    """Measure, then write tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few shapes, under two minutes")
    parser.add_argument("--threads", default=None, help="numbers of threads (default: 1,2)")
    parser.add_argument("--tables", action="store_true", help="only write tables from the last run")
    options, arguments = parser.parse_known_args()
    available = environment.processors()
    asked = options.threads or ",".join(str(n) for n in (1, 2) if n <= available)
    counts = [int(n) for n in asked.split(",")]
    KEPT.mkdir(exist_ok=True)
    failed = 0
    for threads in () if options.tables else counts:
        variables = environment.child(threads, options.quick)
        ran = subprocess.run(
            command(threads, options.quick, arguments), env=variables, cwd=ROOT, check=False
        )
        failed = failed or ran.returncode
    if options.tables or not (options.quick or picks(arguments)):
        from bench import tables  # after measuring: a mistake in a table loses nothing

        tables.write([raw_file(n) for n in counts])
    return failed


if __name__ == "__main__":
    sys.exit(main())
