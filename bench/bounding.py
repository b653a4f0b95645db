"""What bounds a measurement: the words that stand beside a missed target, made of other rows."""

from bench import cells
from bench.results import Entry, Results


def _rate(results: Results, what: str, threads: int) -> float | None:
    """Return what the machine can do: the best round, as with the peak. A median is no limit."""
    found = results.one("machine", what=what, threads=threads)
    return None if found is None else float(found["best"])


def recurrent_bytes(e: Entry) -> int:
    """Bytes of the recurrent weights in float32."""
    return len(cells.get(e["cell"]).products) * int(e["H"]) ** 2 * 4


def level(results: Results, e: Entry) -> str:
    """Name the cache from which a core reads its share of the recurrent weights at every step."""
    share = recurrent_bytes(e) / e["threads"]
    for name in ("L1", "L2"):
        found = results.select("machine", what=f"read from {name}")
        if found and share <= (found[0].get("cache bytes") or 0):
            return name
    return "L3"


def bandwidth_rate(results: Results, e: Entry) -> float | None:
    """Return the GF/s of a training step that the measured read bandwidth allows.

    Forward and backward each read the recurrent weights once per step; the other four products,
    over all steps at once, could run at the peak. None where the bandwidth was not measured.
    """
    read = _rate(results, f"read from {level(results, e)}", e["threads"])
    if read is None:
        return None
    peak = e["GF/s"] / e["share of peak"]
    flop = e["GF/s"] * e.median  # in units of 1e9
    recurrent = flop * _recurrent_share(e) * 2 / 3
    reading = 2 * e["T"] * recurrent_bytes(e) / 1e9 / read
    return flop / (max(reading, recurrent / peak) + (flop - recurrent) / peak)


def _recurrent_share(e: Entry) -> float:
    """Share of a training step's operations that meet the recurrent weights."""
    made = cells.get(e["cell"])
    recurrent, given = len(made.products) * e["H"], len(made.gates) * e["I"]
    return recurrent / (recurrent + given)


def of_training(results: Results, e: Entry) -> str:
    """Say what bounds a training step: its parts, the tile by itself, reading the weights."""
    peak = e["GF/s"] / e["share of peak"]
    said = []
    facts = {k: e[k] for k in ("cell", "T", "B", "I", "H", "threads")}
    parts = results.one("parts", **facts)
    if parts is not None:
        said.append(parts_said(parts, peak))
    tiles = [
        x for x in results.select("machine", threads=e["threads"])
        if x["what"].startswith("tile") and x["what"].endswith("L2")
    ]  # fmt: skip
    if tiles:
        best = max(tiles, key=lambda x: x["best"])
        name = best["what"].split(",")[0]
        said.append(f"the {name} alone, panels in L2: {best['best'] / peak:.0%} of the peak")
    allowed, near = bandwidth_rate(results, e), level(results, e)
    if allowed is not None and e["B"] < 8:
        read = _rate(results, f"read from {near}", e["threads"])
        said.append(f"U is read from {near}: {read:.0f} GB/s allow {allowed:.0f} GF/s")
    return "; ".join(said) or "no part of it was measured"


def parts_said(parts: Entry, peak: float) -> str:
    """Tell the parts of a step: share of the peak of each product, time outside kernels."""
    told = [
        f"{name} {rate / peak:.0%}" if rate else f"{name} {ms:.2g} ms"
        for name, (ms, rate) in parts["parts"].items()
    ]
    return "of the peak: " + ", ".join(told)


def of_step(results: Results, e: Entry) -> str:
    """Say what reading the weights for one step costs at least."""
    read = _rate(results, "read from L2", e["threads"])
    if read is None:
        return ""
    least = 4 * e["H"] * (e["I"] + e["H"]) * 4 / 1e9 / read
    said = f"reading the weights takes {least * 1e6:.1f} us if they lie in L2"
    kernel = e.get("kernel us")
    return said if kernel is None else f"{said}; the kernel by itself {kernel:.1f} us"


def of_watch(results: Results, e: Entry) -> str:
    """Say what a watched step writes besides."""
    numbers = 2 * e["T"] * e["B"] * e["H"] * 4
    return f"two more arrays of {numbers / 2e6:.1f} MB, in {e.median * 1e3:.1f} ms"


def of_text(results: Results, e: Entry) -> str:
    """Say how fast the recurrent layer by itself is beside PyTorch's."""
    facts = {"cell": "lstm", "threads": e["threads"], "H": e["H"]}
    near = [x for x in results.select("training", library="minirnn", **facts) if x["B"] >= 16]
    said = [f"{x['times the faster peer']:.2f} x at T={x['T']} B={x['B']} I={x['I']}"
            for x in near if x.get("times the faster peer")]  # fmt: skip
    return "the layer alone: " + ", ".join(said[:2]) if said else "the layer was not measured"
