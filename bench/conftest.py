"""Settings of the benchmark: the process is settled here, before anything loads NumPy."""

import pytest

from bench import environment

try:
    environment.settle()
except RuntimeError as error:
    raise pytest.UsageError(str(error)) from error


def pytest_report_header(config):
    """Say at the top what may distort a run."""
    from bench import measure, surroundings  # load NumPy: only now

    around = surroundings.describe()
    lines = [f"bench: {measure.threads_label()}, quick: {environment.quick()}"]
    lines += [f"bench: {name} {version}" for name, version in around["versions"].items()]
    lines += [f"bench: {line}" for line in around["blas"]]
    if around["unset"]:
        lines.append(f"bench: unset, since it chooses kernels: {around['unset']}")
    return lines


def pytest_configure(config):
    """Let peers warn: their deprecations are not ours to mend, and a run must not stop for one."""
    config.addinivalue_line("filterwarnings", "default")


@pytest.fixture(scope="session")
def here():
    """Threads of this run."""
    return environment.threads()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Keep readable names of parameters in the saved file: the objects themselves mean nothing."""
    for entry in output_json["benchmarks"]:
        entry["params"] = {"id": entry["param"]}
