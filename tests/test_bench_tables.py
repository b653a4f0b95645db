"""Tables of the benchmark say what the saved runs hold: targets, met or missed, what is absent."""

import copy
import json

import pytest

from bench import results, tables, targets
from bench.peers import NOT_INSTALLED
from bench.shapes import ACCEPTANCE

LARGE = {"cell": "lstm", "dtype": "float32", "T": 50, "B": 64, "I": 512, "H": 512}
VERSIONS = {"minirnn": "1", "torch": "2", "jax": NOT_INSTALLED}


def entry(kind, library, seconds, **info):
    """Return an entry as pytest-benchmark writes it; every round took as long."""
    around = {"versions": VERSIONS, "blas": ["a blas"], "variables": {}, "unset": "A=1"}
    name = f"test[{kind} {library} {sorted(info.items())}]"
    stats = dict.fromkeys(("min", "max", "mean", "median", "q1", "q3"), seconds)
    stats |= {"stddev": 0.0, "iqr": 0.0, "rounds": 5, "iterations": 1, "ops": 1 / seconds}
    stats |= {"outliers": "0;0", "total": 5 * seconds}
    return {
        "group": kind, "name": name, "fullname": f"bench/x.py::{name}", "param": "", "params": {},
        "options": {"timer": "x"}, "stats": stats | {"data": [seconds] * 5},
        "extra_info": {"kind": kind, "library": library, "threads": 1, **around, **info},
    }  # fmt: skip


def training(library, rate, **info):
    """Return a training step of the large LSTM, or of what is told, on a peak of 200 GF/s."""
    sizes = LARGE | info
    flop = 6 * sizes["T"] * sizes["B"] * sizes["H"] * 4 * (sizes["I"] + sizes["H"])
    facts = {"GF/s": rate, "share of peak": rate / 200, "peak GF/s": 200.0}
    return entry("training", library, flop / rate / 1e9, **sizes, **facts)


def run(*entries):
    """Return a saved run."""
    return {
        "machine_info": {
            "machine": "x86_64", "python_version": "3", "system": "Linux", "node": "secret",
            "cpu": {"brand_raw": "A processor", "count": 2, "flags": ["fma"]},
        },
        "commit_info": {"id": "0123456789abcdef"}, "datetime": "2026-11-20T00:00:00",
        "version": "5", "benchmarks": list(entries),
    }  # fmt: skip


@pytest.fixture
def found(tmp_path):
    """Give a function that saves a run and reads it back."""

    def read(*entries):
        file = tmp_path / "run.json"
        results.write(results.trim(run(*entries)), file)
        return results.load([file])

    return read


def test_processes_that_measured_different_commits_are_named_each():
    def around(*commits):
        return results.Results([], {n: {"commit": c} for n, c in enumerate(commits, 1)})

    assert tables.commits_said(around("0123456789ab", "0123456789ab")) == "commit 012345678"
    said = tables.commits_said(around("aaaaaaaaaa", "bbbbbbbbbb"))
    assert said == "commits aaaaaaaaa (1 thread), bbbbbbbbb (2 threads)"


def test_a_trimmed_run_keeps_medians_and_facts_and_drops_rounds_and_the_host(tmp_path):
    saved = run(training("minirnn", 150.0), training("torch", 100.0))
    before = copy.deepcopy(saved)
    file = tmp_path / "run.json"
    results.write(results.trim(saved), file)
    assert saved == before
    kept = json.loads(file.read_text())
    assert "secret" not in file.read_text() and "data" not in kept["benchmarks"][0]["stats"]
    assert kept["common"]["versions"] == VERSIONS
    for old, new in zip(saved["benchmarks"], kept["benchmarks"], strict=True):
        assert new["fullname"] == old["fullname"]
        assert new["stats"]["median"] == pytest.approx(old["stats"]["median"], rel=1e-3)
    assert results.load([file]).around[1]["peak GF/s"]["float32"] == 200.0


def test_raw_and_trimmed_runs_read_the_same(tmp_path):
    raw, trimmed = tmp_path / "raw.json", tmp_path / "trimmed.json"
    saved = run(training("minirnn", 150.0))
    raw.write_text(json.dumps(saved))
    results.write(results.trim(saved), trimmed)
    assert results.load([raw]) == results.load([trimmed])


@pytest.mark.parametrize(
    "ours, torch, met, rule",
    [
        (116.0, 100.0, True, "1.15 x torch"),
        (114.0, 100.0, False, "1.15 x torch"),
        (167.0, 190.0, True, "83% of the peak"),  # 1.15 x would ask for more than the machine has
        (165.0, 190.0, False, "83% of the peak"),
    ],
)
def test_an_lstm_must_reach_the_smaller_of_a_multiple_and_a_share(found, ours, torch, met, rule):
    saved = found(training("minirnn", ours), training("torch", torch))
    (row,) = targets.training("lstm")(saved)
    assert row.met is met
    assert rule in row.bound
    assert ("missed" in tables.training_rows(saved)) is not met


def test_one_sequence_asks_more_of_the_lstm_and_less_of_the_peak_of_others(found):
    one = {"B": 1, "I": 64, "H": 64}
    saved = found(training("minirnn", 140.0, **one), training("torch", 100.0, **one))
    (row,) = targets.training("lstm")(saved)
    assert (row.must, row.met) == (pytest.approx(150.0, rel=1e-3), False)
    saved = found(training("minirnn", 151.0, cell="gru", **one))
    (row,) = targets.training("gru")(saved)
    assert (row.must, row.met) == (pytest.approx(150.0, rel=1e-3), True)


@pytest.mark.parametrize("torch, must", [(8.0, 12.0), (12.0, 14.3), (16.0, 16.0)])
def test_weights_beyond_the_cache_are_bound_by_bandwidth_but_the_peer_is_beaten(found, torch, must):
    read = {"unit": "GB/s", "cache bytes": 2 << 20}
    saved = found(
        training("minirnn", 9.0, B=1),
        training("torch", torch, B=1),
        entry("machine", "minirnn", 1.0, what="read from L3", rate=9.0, best=10.0, **read),
        entry("machine", "minirnn", 1.0, what="read from L2", rate=80.0, best=90.0, **read),
    )
    (row,) = targets.training("lstm")(saved)
    # 50 steps read 4 MB of U forward and backward: 42 ms at 10 GB/s, for a step of 0.63 GF of which
    # 2/3 can run at the peak. That allows 14.3 GF/s; 1.5 x the peer asks 12, 18 and 24.
    assert row.must == pytest.approx(must, rel=1e-2)
    assert "U is read from L3: 10 GB/s allow 14 GF/s" in row.bound


def test_one_sequence_of_a_small_lstm_is_bound_by_the_cache_that_holds_its_weights(found):
    sizes = {"B": 1, "I": 256, "H": 256}  # U is 1 MB
    caches = (("L1", 300.0, 48 << 10), ("L2", 60.0, 2 << 20), ("L3", 10.0, 1 << 30))
    reads = [
        entry("machine", "minirnn", 1.0, what=f"read from {name}", rate=rate, unit="GB/s",
              best=rate, **{"cache bytes": size})
        for name, rate, size in caches
    ]  # fmt: skip
    saved = found(training("minirnn", 50.0, **sizes), training("torch", 90.0, **sizes), *reads)
    (row,) = targets.training("lstm")(saved)
    # 2 flop per 4 bytes at 60 GB/s: 30 GF/s for a third of the work, 200 for the rest.
    assert row.must == pytest.approx(1 / (1 / 3 / 30 + 2 / 3 / 200), rel=1e-2)
    assert "reading U from L2" in row.bound


def test_the_share_of_the_peak_is_judged_for_the_shape_of_the_acceptance(found):
    assert all(LARGE[k] == getattr(ACCEPTANCE, k) for k in "TBIH")
    (row,) = targets.acceptance(found(training("minirnn", 171.0)))
    assert row.met
    (row,) = targets.acceptance(found(training("minirnn", 169.0)))
    assert not row.met


def test_what_must_be_small_is_met_when_it_is_small(found):
    sizes = LARGE | {"B": 16}
    plain = entry("watch", "minirnn", 1.0, over_plain=1.0, **sizes)
    cheap = entry("watch", "minirnn watched", 1.02, over_plain=1.02, **sizes)
    dear = entry("watch", "minirnn watched", 1.05, over_plain=1.05, **sizes)
    assert next(targets.watch(found(plain, cheap))).met
    assert not next(targets.watch(found(plain, dear))).met


def test_the_monitor_may_cost_five_percent_of_a_loop_and_a_watched_step_is_told_of(found):
    sizes = {k: v for k, v in LARGE.items() if k != "dtype"}
    facts = {**sizes, "over_plain": 3.0, "more_ms": 4.321, "call_us": 5.04}
    plain = entry("monitor", "minirnn", 1.0, **facts, averaged=1.04)
    cheap = entry("monitor", "minirnn measured", 3.0, **facts, averaged=1.04)
    dear = entry("monitor", "minirnn measured", 3.0, **facts, averaged=1.06)
    (row,) = targets.monitor(found(plain, cheap))
    assert row.met and row.shown == (
        "+4.0% (a watched step 3.00 x a plain one, 4.32 ms more; any other 5.0 us)"
    )
    assert not next(targets.monitor(found(plain, dear))).met


def test_a_report_is_told_in_training_steps_too(found):
    sizes = {k: v for k, v in LARGE.items() if k != "dtype"}
    step = entry("report", "training step", 0.02, **sizes, in_steps=1.0)
    made = entry("report", "standard", 2.25, **sizes, in_steps=100.2)
    lines = tables.report_rows(found(step, made)).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("| standard | lstm T=50 B=64") and lines[3].endswith("| 100 |")
    assert "| 2.25 s (2.25 to 2.25) |" in lines[3] and "| 20 ms (" in lines[2]


def test_a_library_that_is_missing_is_shown_and_the_rest_stands(found):
    text = tables.readme(found(training("minirnn", 150.0), training("torch", 100.0)))
    (line,) = [line for line in text.splitlines() if line.startswith("| lstm 50, 64")]
    assert NOT_INSTALLED in line
    assert "1.50 x" in line and "75%" in line
    assert f"JAX {NOT_INSTALLED}" in text


def test_every_target_is_a_line_of_the_table_even_where_nothing_was_measured(found):
    text = tables.targets_table(found(training("minirnn", 190.0)))
    for target in targets.TARGETS:
        assert text.count(f"| {target.what} |") == 1
    assert "not measured" in text
    assert "**met**: 95.0%" in text


def test_all_pages_can_be_written_from_a_run_with_nothing_but_one_entry(found):
    saved = found(training("minirnn", 150.0))
    assert "# Results of the benchmark" in tables.everything(saved)
    assert "secret" not in tables.everything(saved)


def test_a_measurement_that_others_disturbed_is_marked(found):
    disturbed = training("minirnn", 150.0) | {}
    disturbed["extra_info"]["busy with others"] = 0.5
    assert tables.MARK in tables.training_rows(found(disturbed))


def test_what_stands_between_the_markers_is_replaced_and_nothing_else():
    text = f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n"
    new = tables.between_markers(text, "new")
    assert new == f"above\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nbelow\n"
    assert tables.between_markers(new, "new") == new
    with pytest.raises(ValueError, match="once each"):
        tables.between_markers("no markers", "new")


def test_the_readme_has_the_markers():
    text = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.between_markers(text, "x") != text
