"""What bounds a measurement: the words that stand beside a missed target, made of other rows."""

from bench import cells
from bench.results import Entry, Results

KILO = 1024


def _rate(results: Results, what: str, threads: int) -> float | None:
    found = results.one("machine", what=what, threads=threads)
    return None if found is None else float(found["rate"])


def _private_cache(results: Results) -> int | None:
    """Bytes of a core's own second-level cache."""
    found = results.select("machine", what="read from L2")
    return found[0].get("cache bytes") if found else None


def far_weights(results: Results, e: Entry) -> float | None:
    """Return the bytes of the recurrent weights that one core reads per step from beyond its cache.

    None where they fit, or where eight rows or more make use of each weight that is read.
    """
    share = len(cells.get(e["cell"]).products) * e["H"] ** 2 * 4 / e["threads"]
    private = _private_cache(results)
    if private is None or e["B"] >= 8 or share <= private:
        return None
    return share


def bandwidth_rate(results: Results, e: Entry) -> float | None:
    """Return the GF/s of a training step that the measured read bandwidth allows.

    Forward and backward each read the recurrent weights once per step, from the third-level cache;
    the other four products, over all steps at once, could run at the peak.
    """
    share, read = far_weights(results, e), _rate(results, "read from L3", e["threads"])
    if share is None or read is None:
        return None
    peak = e["GF/s"] / e["share of peak"]
    flop = e["GF/s"] * e.median  # in units of 1e9
    recurrent = flop * _recurrent_share(e) * 2 / 3
    reading = 2 * e["T"] * share * e["threads"] / 1e9 / read
    return flop / (reading + (flop - recurrent) / peak)


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
        best = max(tiles, key=lambda x: x["rate"])
        name = best["what"].split(",")[0]
        said.append(f"the {name} alone, panels in L2: {best['rate'] / peak:.0%} of the peak")
    allowed = bandwidth_rate(results, e)
    if allowed is not None:
        read = _rate(results, "read from L3", e["threads"])
        said.append(f"U lies beyond the core's cache: {read:.0f} GB/s allow {allowed:.0f} GF/s")
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
    return f"reading the weights from L2 takes {least * 1e6:.1f} us; the rest is the call"


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
