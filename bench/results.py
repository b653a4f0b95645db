"""Saved runs: what pytest-benchmark wrote, trimmed to what is worth keeping, and read back."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Facts about the whole process, kept once per file.
COMMON = ("versions", "blas", "variables", "unset", "peak GF/s")
DIGITS = 4
STATS = ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "rounds", "iterations", "ops",
         "outliers")  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One library's rounds in one group: median and quartiles in seconds, and its extra_info."""

    median: float
    low: float
    high: float
    rounds: int
    info: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.info[name]

    def get(self, name: str) -> Any:
        """Return a fact about the entry, or None."""
        return self.info.get(name)


@dataclass(frozen=True)
class Results:
    """Entries of one or several processes, and what was around each, by number of threads."""

    entries: list[Entry]
    around: dict[int, dict[str, Any]] = field(default_factory=dict)

    def select(self, kind: str, **facts: Any) -> list[Entry]:
        """Return the entries of a kind with these facts."""
        wanted = {"kind": kind, **facts}
        return [e for e in self.entries if all(e.get(k) == v for k, v in wanted.items())]

    def one(self, kind: str, **facts: Any) -> Entry | None:
        """Return the only such entry, or None."""
        found = self.select(kind, **facts)
        if len(found) > 1:
            raise ValueError(f"results: {len(found)} entries of {kind} have {facts}")
        return found[0] if found else None


def load(files: Iterable[Path]) -> Results:
    """Read saved runs, raw or trimmed; files that do not exist are left out."""
    entries: list[Entry] = []
    around: dict[int, dict[str, Any]] = {}
    for file in files:
        if not file.exists():
            continue
        trimmed = read(file)
        common = trimmed["common"]
        about = {"cpu": trimmed["machine_info"]["cpu"], "date": trimmed["datetime"]}
        around[common["threads"]] = common | about | {"commit": trimmed["commit_info"]["id"]}
        for saved_entry in trimmed["benchmarks"]:
            s, info = saved_entry["stats"], saved_entry["extra_info"]
            whole = info | {"threads": common["threads"]}
            entries.append(Entry(s["median"], s["q1"], s["q3"], s["rounds"], whole))
    return Results(entries, around)


def read(file: Path) -> dict[str, Any]:
    """Read a saved run, raw or trimmed, as a trimmed one."""
    saved: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return saved if "common" in saved else trim(saved)


def trim(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a saved run without the rounds themselves and with common facts once.

    What is left is still a file that ``--benchmark-compare`` reads.
    """
    cpu = saved["machine_info"]["cpu"]
    machine = {k: saved["machine_info"][k] for k in ("machine", "python_version", "system")}
    benchmarks = saved["benchmarks"]
    common = {k: _last(benchmarks, k) for k in COMMON}
    common["blas"] = sorted({b for e in benchmarks for b in e["extra_info"].get("blas", ())})
    common["threads"] = _last(benchmarks, "threads")
    common["peak GF/s"] = {
        dtype: max(
            (
                e["extra_info"]["peak GF/s"]
                for e in benchmarks
                if e["extra_info"].get("dtype") == dtype and "peak GF/s" in e["extra_info"]
            ),
            default=None,
        )
        for dtype in ("float32", "float64")
    }
    return {
        "machine_info": machine | {"cpu": {k: cpu.get(k) for k in ("brand_raw", "count")}},
        "commit_info": {"id": saved["commit_info"]["id"]},
        "datetime": saved["datetime"],
        "version": saved["version"],
        "common": common,
        "benchmarks": [_trim_entry(entry) for entry in benchmarks],
    }


def _last(benchmarks: list[dict[str, Any]], name: str) -> Any:
    """Return the last value of a fact: libraries are loaded one after the other."""
    return next((e["extra_info"][name] for e in benchmarks[::-1] if name in e["extra_info"]), None)


def _trim_entry(entry: dict[str, Any]) -> dict[str, Any]:
    stats = {k: _rounded(entry["stats"][k]) for k in STATS}
    dropped = (*COMMON, "threads", "peak in turn GF/s")
    info = {k: v for k, v in entry["extra_info"].items() if k not in dropped}
    kept = {k: entry[k] for k in ("group", "name", "fullname")}
    unused = {"param": None, "params": None}
    return kept | unused | {"extra_info": info, "stats": stats}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write(trimmed: dict[str, Any], file: Path) -> None:
    """Write a trimmed run with one benchmark per line, so that a change of one shows as one."""
    entries = trimmed["benchmarks"]
    head = json.dumps({k: v for k, v in trimmed.items() if k != "benchmarks"}, indent=1)
    lines = ",\n".join(json.dumps(e, separators=(",", ":")) for e in entries)
    file.write_text(f'{head[:-2]},\n "benchmarks": [\n{lines}\n]}}\n', encoding="utf-8")
