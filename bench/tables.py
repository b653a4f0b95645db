"""Tables from saved runs: the README's, and all rows in bench/results/RESULTS.md.

Nobody types a number: ``python -m bench --tables`` writes both again from the last run.
"""

from collections.abc import Iterable
from pathlib import Path

from bench import bounding, plots, results
from bench.peers import NOT_INSTALLED
from bench.results import Entry, Results
from bench.shapes import ACCEPTANCE, FLOAT32, SHAPES, TWO_STAGE, USERS
from bench.targets import TARGETS, Row, Target, label, required_rate

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "bench" / "results"
BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"
DISTURBED = 0.1  # processors kept busy by others: beyond, a measurement is marked,
WIDE = 0.25  # and where the quartiles lie further apart by the median: a hypervisor takes unseen
MARK = " (!)"
# The README's rows beside the peers: cell, T, B, I, H.
SHOWN = (
    ("rnn", 100, 32, 128, 256), ("gru", 50, 16, 64, 128), ("gru", 50, 64, 512, 512),
    ("lstm", 100, 1, 64, 64), ("lstm", 50, 16, 64, 128), ("lstm", 50, 64, 512, 512),
    (USERS, 50, 64, 512, 512),
)  # fmt: skip
COMPARED = ("torch", "jax", "numpy")
NAMES = {"torch": "PyTorch", "jax": "JAX", "numpy": "NumPy loop", "minirnn": "minirnn",
         "onnxruntime": "onnxruntime", "autograd": "HIPS autograd"}  # fmt: skip


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def time_of(e: Entry | None, missing: str = "") -> str:
    """Return a median with its quartiles, in the unit that suits it."""
    if e is None:
        return missing
    unit, scale = ("s", 1.0) if e.median >= 1 else ("ms", 1e3) if e.median >= 1e-3 else ("us", 1e6)
    spread = f"{e.low * scale:.3g} to {e.high * scale:.3g}"
    return f"{e.median * scale:.3g} {unit} ({spread}){MARK if disturbed(e) else ''}"


def disturbed(e: Entry) -> bool:
    """Whether others used the machine meanwhile, or times vary as if they had."""
    busy = (e.get("busy with others") or 0) > DISTURBED
    return busy or e.high - e.low > WIDE * e.median


def missing(found: Results, library: str) -> str:
    """Say why a library has no entry: it is not installed, or it has no such thing."""
    versions = [around["versions"] or {} for around in found.around.values()]
    absent = any(v.get(library) == NOT_INSTALLED for v in versions)
    return NOT_INSTALLED if absent else ""


def beside_peers(found: Results, kind: str, e: Entry, libraries: Iterable[str]) -> list[str]:
    """Return one cell per library: how many times as long it takes as minirnn, and its median."""
    facts = {k: e[k] for k in ("cell", "dtype", "T", "B", "I", "H", "threads")}
    cells = []
    for library in libraries:
        peer = found.one(kind, library=library, **facts)
        told = missing(found, library)
        cells.append(told if peer is None else f"{peer.median / e.median:.2f} x: {time_of(peer)}")
    return cells


def verdict(row: Row) -> str:
    """Return met, or missed and what bounds it."""
    return "met" if row.met else f"missed; {row.bound}" if row.bound else "missed"


def summary(target: Target, found: Results, threads: int) -> str:
    """Return how often a target is met with so many threads, and its worst row."""
    everywhere = list(target.rows(found))
    rows = [r for r in everywhere if r.threads == threads]
    if not rows:
        return f"measured with {everywhere[0].threads}" if everywhere else "not measured"
    met, worst = sum(r.met for r in rows), min(rows, key=lambda r: r.margin)
    if len(rows) == 1:
        return f"**{'met' if met else 'missed'}**: {worst.shown}"
    told = "**met**" if met == len(rows) else f"**met on {met} of {len(rows)}**"
    return f"{told}; worst {worst.where}: {worst.shown}"


def targets_table(found: Results) -> str:
    """Return the targets, one line each."""
    counts = sorted(found.around)
    rows = [[t.what, t.must, *(summary(t, found, n) for n in counts)] for t in TARGETS]
    return table(["what", "target", *(threads_said(n) for n in counts)], rows)


def bounds_list(found: Results) -> str:
    """Return, for each target that is missed somewhere, its worst row and what bounds it."""
    lines = []
    for t in TARGETS:
        missed = [r for r in t.rows(found) if not r.met]
        if missed:
            worst = min(missed, key=lambda r: r.margin)
            said = f"{worst.where}, {threads_said(worst.threads)}: {worst.shown}"
            lines.append(f"* {t.what}: {said}; {worst.bound}.")
    return "\n".join(["What bounds the worst of the missed:", "", *lines]) if lines else ""


def threads_said(n: int) -> str:
    """Return "1 thread" or "n threads"."""
    return f"{n} thread{'s' if n > 1 else ''}"


def peers_table(found: Results) -> str:
    """Return the README's rows beside the peers."""
    rows = []
    for cell, t, b, i, h in SHOWN:
        for n in sorted(found.around):
            facts = {"cell": cell, "T": t, "B": b, "I": i, "H": h, "threads": n, "dtype": FLOAT32}
            e = found.one("training", library="minirnn", **facts)
            if e is not None:
                times = [c.split(":")[0] for c in beside_peers(found, "training", e, COMPARED)]
                ours = f"{time_of(e)}, {e['share of peak']:.0%}"
                rows.append([f"{cell} {t}, {b}, {i}, {h}", str(n), ours, *times])
    head = ["cell T, B, I, H", "threads", "minirnn, share of the peak", *map(NAMES.get, COMPARED)]
    return table([str(h) for h in head], rows)


def machine_said(found: Results) -> str:
    """Describe the machine and the versions in one paragraph."""
    counts = sorted(found.around)
    around = found.around[counts[0]]
    peaks = ", ".join(
        f"{found.around[n]['peak GF/s'][FLOAT32]:.0f} GF/s on {threads_said(n)}"
        for n in counts if found.around[n]["peak GF/s"][FLOAT32]
    )  # fmt: skip
    versions = ", ".join(f"{NAMES.get(k, k)} {v}" for k, v in around["versions"].items())
    unset = f" Found and unset: {around['unset']}." if around["unset"] else ""
    return (
        f"{around['cpu']['brand_raw']}, {around['cpu']['count']} cores, {around['date'][:10]}, "
        f"{commits_said(found)}. Peak: {peaks}. {versions}.{unset}"
    )


def commits_said(found: Results) -> str:
    """Name the commit that was measured, or each process's where they differ."""
    commits = {n: around["commit"][:9] for n, around in sorted(found.around.items())}
    if len(set(commits.values())) == 1:
        return f"commit {next(iter(commits.values()))}"
    return "commits " + ", ".join(f"{c} ({threads_said(n)})" for n, c in commits.items())


def readme(found: Results) -> str:
    """Return the README's section between its markers."""
    return "\n\n".join(
        [
            "Training steps (forward and all gradients, float32): median, quartiles, share of the "
            "peak; then how many times as long the others take.",
            peers_table(found),
            "The project's targets on all shapes. [Every row](bench/results/RESULTS.md), and for a "
            "missed one the measurement that bounds it.",
            targets_table(found),
            bounds_list(found),
            machine_said(found),
        ]
    ).replace("\n\n\n\n", "\n\n")


def training_rows(found: Results) -> str:
    """Return every training step beside the peers, its target, and what bounds it."""
    rows = []
    for e in found.select("training", library="minirnn"):
        judged = "no target"
        if e["cell"] in ("rnn", "gru", "lstm") and e["dtype"] == FLOAT32:
            must, rule = required_rate(found, e)
            bound = bounding.of_training(found, e)
            said = f"{must:.0f} GF/s, {rule}"
            judged = f"met ({said})" if e["GF/s"] >= must else f"**missed** ({said}); {bound}"
        rows.append([
            label(e), e["dtype"], str(e["threads"]), time_of(e),
            f"{e['GF/s']:.0f}, {e['share of peak']:.0%}",
            *beside_peers(found, "training", e, COMPARED), judged,
        ])  # fmt: skip
    others = [NAMES[n] for n in COMPARED]
    return table(["cell", "dtype", "threads", "minirnn", "GF/s, share", *others, "target"], rows)


def inference_rows(found: Results) -> str:
    """Return every forward pass beside the peers."""
    libraries = ("torch", "jax", "onnxruntime", "numpy")
    rows = [
        [label(e), str(e["threads"]), time_of(e), f"{e['GF/s']:.0f}, {e['share of peak']:.0%}",
         *beside_peers(found, "inference", e, libraries)]
        for e in found.select("inference", library="minirnn")
    ]  # fmt: skip
    others = [NAMES[n] for n in libraries]
    return table(["cell", "threads", "minirnn", "GF/s, share", *others], rows)


def target_rows(found: Results) -> str:
    """Return every row of the targets that are no training steps."""
    rows = [
        [t.what, r.where, str(r.threads), r.shown, verdict(r)]
        for t in TARGETS
        if not t.what.startswith("training step")
        for r in t.rows(found)
    ]
    return table(["target", "where", "threads", "measured", "verdict"], rows)


def cell_rows(found: Results) -> str:
    """Return every cell of the registry per flop beside the LSTM."""
    rows = [
        [e["cell"], f"{e['B']}, {e['H']}", str(e["threads"]), f"{e['GF/s']:.0f}",
         f"{e['of_lstm']:.0%}"]
        for e in sorted(found.select("cell"), key=lambda e: (e["H"], e["threads"], e["of_lstm"]))
    ]  # fmt: skip
    return table(["cell", "B, I=H", "threads", "GF/s", "of the LSTM in turn"], rows)


def parts_rows(found: Results) -> str:
    """Return the parts of every training step of minirnn."""
    rows = []
    for e in found.select("parts"):
        told = [f"{n} {ms:.3g}" + (f" ({rate:.0f})" if rate else "")
                for n, (ms, rate) in e["parts"].items()]  # fmt: skip
        rows.append([label(e), str(e["threads"]), f"{e.median * 1e3:.3g}", ", ".join(told)])
    return table(["cell", "threads", "whole, ms", "parts, ms (GF/s)"], rows)


def report_rows(found: Results) -> str:
    """Return what a diagnosis on each level and its page take."""
    rows = [
        [e["library"], label(e), str(e["threads"]), time_of(e), f"{e['in_steps']:.3g}"]
        for e in found.select("report")
    ]
    return table(["what", "cell", "threads", "minirnn", "training steps"], rows)


def machine_rows(found: Results) -> str:
    """Return the machine's limits."""
    rows = [
        [e["what"], str(e["threads"]), f"{e['rate']:.1f} {e['unit']}", f"{e['best']:.1f}"]
        for e in found.select("machine")
    ]
    return table(["what", "threads", "median", "best round"], rows)


def start_rows(found: Results) -> str:
    """Return the first training steps of fresh processes, and growth of memory."""
    rows = [[f"first step, {NAMES[e['library']]} {e['case']}".strip(), f"{e.median:.2f} s"]
            for e in found.select("start")]  # fmt: skip
    rows += [[f"memory, {NAMES[e['library']]}, {label(e)}", f"{e['MB']:.0f} MB"]
             for e in found.select("memory")]  # fmt: skip
    return table(["what", "measured"], rows)


def surroundings_said(found: Results) -> str:
    """Return BLAS and variables of each process."""
    lines = []
    for n, around in sorted(found.around.items()):
        lines += [f"* {threads_said(n)}: {blas}" for blas in around["blas"]]
        chosen = " ".join(f"{k}={v}" for k, v in (around["variables"] or {}).items())
        lines.append(f"* {threads_said(n)}: {chosen or 'no variable set'}")
    return "\n".join(lines)


def everything(found: Results) -> str:
    """Return the text of RESULTS.md."""
    shapes = table(["T, B, I, H", "why"],
                   [[f"{s.T}, {s.B}, {s.I}, {s.H}", s.reason] for s in SHAPES])  # fmt: skip
    sections = [
        ("# Results of the benchmark", "Written by `python -m bench`. Times are medians of rounds "
         "(quartiles in brackets) in which the libraries take turns; \"2 x\" beside a library: it "
         f"takes twice as long as minirnn. {MARK.strip()} marks what was disturbed: by other "
         f"processes, or with quartiles further apart than {WIDE:.0%} of the median. "
         "Rules of fairness: bench/README.md.\n\n" + machine_said(found)),
        ("## Targets", targets_table(found)),
        ("## Training steps", training_rows(found)),
        ("## Inference", inference_rows(found)),
        ("## Other targets, row by row", target_rows(found)),
        (f"## Every cell per flop beside the LSTM ({TWO_STAGE}, mgu and {USERS} also at "
         f"{ACCEPTANCE.label})", cell_rows(found)),
        ("## Parts of minirnn's training steps", parts_rows(found)),
        ("## Reports: `diagnose` by level, and the page", report_rows(found)),
        ("## Growth with T, B and H", plots.said()),
        ("## Fresh processes", start_rows(found)),
        ("## The machine", machine_rows(found) + "\n\n" + surroundings_said(found)),
        ("## Shapes", shapes),
    ]  # fmt: skip
    return "\n\n".join(f"{title}\n\n{body}" for title, body in sections) + "\n"


def between_markers(text: str, body: str) -> str:
    """Return a text with what stands between the markers replaced.

    Raises
    ------
    ValueError
        The text does not hold the two markers, once each.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must hold {BEGIN!r} and {END!r} once each")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.partition(END)[2]}"


def write(raw: list[Path]) -> None:
    """Trim the raw files of a run, keep them in bench/results/, and write all tables and plots."""
    FOLDER.mkdir(exist_ok=True)
    kept = []
    for file in raw:
        if file.exists():
            trimmed = results.read(file)
            threads = trimmed["common"]["threads"]
            kept.append(FOLDER / f"{threads}-thread{'s' if threads > 1 else ''}.json")
            results.write(trimmed, kept[-1])
    found = results.load(kept)
    if not found.entries:
        raise SystemExit("bench: nothing was saved yet, so there are no tables to write; run it")
    plots.write(found, FOLDER)
    (FOLDER / "RESULTS.md").write_text(everything(found), encoding="utf-8")
    page = ROOT / "README.md"
    page.write_text(between_markers(page.read_text("utf-8"), readme(found)), encoding="utf-8")
