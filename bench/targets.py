"""The targets of the project (the acceptance of the benchmark), judged from saved results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import bounding, peers
from bench.results import Entry, Results
from bench.shapes import ACCEPTANCE, FLOAT32, TWO_STAGE, USERS


@dataclass(frozen=True)
class Row:
    """One measurement beside its target.

    where: cell and sizes. value and must are what is compared, in the unit of the target; at_least
    says which way. shown: the value with its unit; bound: what bounds it, told where it is missed.
    """

    where: str
    threads: int
    value: float
    must: float
    at_least: bool
    shown: str
    bound: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.must if self.at_least else self.value <= self.must

    @property
    def margin(self) -> float:
        """1 just meets the target, less misses it."""
        return self.value / self.must if self.at_least else self.must / self.value


@dataclass(frozen=True)
class Target:
    """A line of the acceptance and the measurements that fall under it."""

    what: str
    must: str
    rows: Callable[[Results], Iterator[Row]]


def label(e: Entry) -> str:
    """Name an entry by its cell and sizes."""
    return f"{e['cell']} T={e['T']} B={e['B']} I={e['I']} H={e['H']}"


def fastest_peer(results: Results, e: Entry) -> Entry | None:
    """Return the faster of PyTorch and JAX at the same thing."""
    facts = {k: e[k] for k in ("kind", "cell", "dtype", "T", "B", "I", "H", "threads")}
    found = [x for name in peers.RIVALS for x in results.select(library=name, **facts)]
    return min(found, key=lambda x: x.median, default=None)


def required_rate(results: Results, e: Entry) -> tuple[float, str]:
    """Return the rate in GF/s that a training step must reach, and which rule says so.

    The smaller of a multiple of the faster peer and a share of the peak; for an LSTM with one or
    two sequences, what the measured bandwidth of the cache allows instead of the share. Where fewer
    than eight rows read recurrent weights from beyond a core's own cache that bandwidth is a limit,
    too, but the peer must still be beaten.
    """
    lstm, few = e["cell"] == "lstm", e["B"] <= 2
    times = 1.8 if not lstm else 1.5 if few else 1.15
    share = 0.75 if e["B"] <= 8 and not lstm else 0.83
    limits = {f"{share:.0%} of the peak": share * e["GF/s"] / e["share of peak"]}
    peer = fastest_peer(results, e)
    if peer is not None:
        limits[f"{times} x {peer['library']}"] = times * peer["GF/s"]
    allowed, near = bounding.bandwidth_rate(results, e), bounding.level(results, e)
    far = e["B"] < 8 and near == "L3"
    if allowed is not None and (far or (lstm and few)):
        least = peer["GF/s"] if far and peer is not None else 0.0
        limits[f"reading U from {near}"] = max(allowed, least)
    rule = min(limits, key=lambda name: limits[name])
    return limits[rule], rule


def training(*cells: str) -> Callable[[Results], Iterator[Row]]:
    """Return the rows of training steps of some cells."""

    def rows(results: Results) -> Iterator[Row]:
        for e in results.select("training", library="minirnn", dtype=FLOAT32):
            if e["cell"] not in cells:
                continue
            must, rule = required_rate(results, e)
            peer = fastest_peer(results, e)
            beside = "" if peer is None else f", {peer.median / e.median:.2f} x {peer['library']}"
            shown = f"{e['GF/s']:.0f} GF/s, {e['share of peak']:.0%} of the peak{beside}"
            missed = f"must {must:.0f} GF/s ({rule}); {bounding.of_training(results, e)}"
            yield Row(label(e), e["threads"], e["GF/s"], must, True, shown, missed)

    return rows


def acceptance(results: Results) -> Iterator[Row]:
    """Yield the large LSTM: its share of the peak."""
    s = ACCEPTANCE
    for e in results.select("training", library="minirnn", dtype=FLOAT32, cell="lstm"):
        if (e["T"], e["B"], e["I"], e["H"]) == (s.T, s.B, s.I, s.H) and e["threads"] <= 2:
            must = 0.85 if e["threads"] == 1 else 0.82
            bound = bounding.of_training(results, e)
            share = e["share of peak"]
            yield Row(label(e), e["threads"], share, must, True, f"{share:.1%}", bound)


def beside_lstm(must: float, *cells: str) -> Callable[[Results], Iterator[Row]]:
    """Return the rows of cells per flop beside the LSTM, at the large shape."""

    def rows(results: Results) -> Iterator[Row]:
        for e in results.select("cell", H=ACCEPTANCE.H):
            if e["cell"] in cells:
                shown = f"{e['of_lstm']:.0%} of the LSTM's {e['LSTM GF/s']:.0f} GF/s"
                bound = f"{e['GF/s']:.0f} GF/s, {e['share of peak']:.0%} of the peak"
                yield Row(label(e), e["threads"], e["of_lstm"], must, True, shown, bound)

    return rows


def single_step(results: Results) -> Iterator[Row]:
    """Yield one step of inference beside PyTorch's LSTMCell."""
    for e in results.select("single_step", library="minirnn"):
        peer = fastest_peer(results, e)
        if peer is not None:
            times, must = peer.median / e.median, 5.0 if e["H"] <= 128 else 3.0
            shown = f"{times:.1f} x ({e.median * 1e6:.0f} us, {peer.median * 1e6:.0f} us)"
            bound = bounding.of_step(results, e)
            yield Row(f"H={e['H']}", e["threads"], times, must, True, shown, bound)


def watch(results: Results) -> Iterator[Row]:
    """Yield what reading the gradient of every state costs."""
    for e in results.select("watch", library="minirnn watched"):
        facts = {k: e[k] for k in ("T", "B", "I", "H", "threads")}
        loop = results.one("watch", library="torch watched", **facts)
        must = 1.03 if e["H"] >= 256 else 1.08
        shown = f"{e['over_plain'] - 1:+.1%}"
        if loop is not None:
            shown += f" (PyTorch {loop['over_plain']:.1f} x its plain step)"
        bound = bounding.of_watch(results, e)
        yield Row(label(e), e["threads"], e["over_plain"], must, False, shown, bound)


def monitor(results: Results) -> Iterator[Row]:
    """Yield what a Monitor costs a training loop, and what one watched step does."""
    for e in results.select("monitor", library="minirnn measured"):
        shown = (
            f"{e['averaged'] - 1:+.1%} (a watched step {e['over_plain']:.2f} x a plain one, "
            f"{e['more_ms']:.3g} ms more; any other {e['call_us']:.1f} us)"
        )
        bound = "what looks at every state and gate once, in NumPy; one more sweep; one JSON line"
        more = [f"{e['levels']} levels"] if (e.get("levels") or 1) > 1 else []
        more += ["both directions"] if (e.get("directions") or 1) > 1 else []
        where = ", ".join([label(e), *more])
        yield Row(where, e["threads"], e["averaged"], 1.05, False, shown, bound)


def tape(results: Results) -> Iterator[Row]:
    """Yield a node of the tape beside HIPS autograd and PyTorch."""
    for e in results.select("tape", library="minirnn"):
        bare = results.one(
            "tape", library="numpy", operation=e["operation"], threads=e["threads"]
        )  # fmt: skip
        least = "" if bare is None else f", NumPy's calls without a tape {bare['us per node']:.1f}"
        for library, share in (("autograd", 0.25), ("torch", 1.5)):
            facts = {"operation": e["operation"], "threads": e["threads"]}
            peer = results.one("tape", library=library, **facts)
            if peer is not None:
                value = e.median / peer.median
                shown = f"{value:.2f} of {library}'s time ({e['us per node']:.1f} us a node)"
                where = f"{e['operation']}, beside {library}"
                bound = f"{library} {peer['us per node']:.1f} us a node{least}"
                yield Row(where, e["threads"], value, share, False, shown, bound)


def first_step(results: Results) -> Iterator[Row]:
    """Yield the first training step of a process."""
    for case, must in (("cached", 1.0), ("new cell", 3.0)):
        e = results.one("start", library="minirnn", case=case)
        if e is not None:
            shown, bound = f"{e.median:.2f} s", "the import and the compiler, one thread"
            yield Row(case, e["threads"], e.median, must, False, shown, bound)


def memory(results: Results) -> Iterator[Row]:
    """Yield the growth of memory beside PyTorch."""
    for e in results.select("memory", library="minirnn"):
        facts = {k: e[k] for k in ("T", "B", "I", "H", "threads", "series")}
        peer = results.one("memory", library="torch", **facts)
        if peer is not None and e["T"] * e["B"] * e["H"] >= 1e6:
            shown = f"{e['MB']:.0f} MB, PyTorch {peer['MB']:.0f} MB"
            bound = f"{e['MB'] * 1e6 / (4 * e['T'] * e['B'] * e['H']):.1f} numbers per T*B*H"
            yield Row(label(e), e["threads"], e["MB"], peer["MB"], False, shown, bound)


def text(results: Results) -> Iterator[Row]:
    """Yield characters per second of the text model beside PyTorch."""
    for e in results.select("text"):
        peer = results.one("text", library="torch", H=e["H"], threads=e["threads"])
        if peer is not None and e["library"].startswith("minirnn"):
            name = "characters per second"
            times = e[name] / peer[name]
            shown = f"{times:.2f} x ({e[name]:,} characters per second, PyTorch {peer[name]:,})"
            where = f"H={e['H']}{e['library'].removeprefix('minirnn').replace(' ', ', ')}"
            bound = bounding.of_text(results, e)
            yield Row(where, e["threads"], times, 1.5, True, shown, bound)


def steady(results: Results) -> Iterator[Row]:
    """Yield the time per step of long sequences, in terms of that at T = 100."""
    for e in results.select("growth", library="minirnn", series="T"):
        if e["T"] < 1000:
            continue
        base = results.one("growth", library="minirnn", series="T", T=100, threads=e["threads"])
        if base is not None:
            value = (e.median / e["T"]) / (base.median / 100)
            bound = f"{e['GF/s']:.0f} GF/s against {base['GF/s']:.0f} at T=100"
            yield Row(f"T={e['T']}", e["threads"], value, 1.1, False, f"{value:.2f}", bound)


def linear(results: Results) -> Iterator[Row]:
    """Yield the growth of memory when T doubles."""
    for e in results.select("memory", library="minirnn", series="T"):
        facts = {k: e[k] for k in ("B", "I", "H", "threads", "series", "library")}
        half = results.one("memory", T=e["T"] // 2, **facts)
        if half is not None and e["T"] >= 1000:
            value = e["MB"] / half["MB"]
            shown = f"{value:.2f} ({half['MB']:.0f} to {e['MB']:.0f} MB)"
            yield Row(f"T={e['T']}", e["threads"], value, 2.1, False, shown, "see memory.svg")


TARGETS = (
    Target("training step, RNN and GRU",
           "the smaller of 1.8 x the faster of PyTorch and JAX and 83 % of the peak (B <= 8: 75 %)",
           training("rnn", "gru")),
    Target("training step, LSTM", "the smaller of 1.15 x (B <= 2: 1.5 x) and 83 % of the peak",
           training("lstm")),
    Target(f"share of the peak, LSTM {ACCEPTANCE.label}", "85 % on one core, 82 % on two",
           acceptance),
    Target("a user's cell per flop beside the LSTM", "90 %", beside_lstm(0.90, USERS)),
    Target("two-stage cells per flop beside the LSTM", "85 %",
           beside_lstm(0.85, TWO_STAGE, "mgu")),
    Target("text model, end to end, beside PyTorch", "1.5 x", text),
    Target("one inference step, B=1, beside `LSTMCell`", "5 x at H=128, 3 x at H=256", single_step),
    Target("`watch`: gradients of every state", "+3 % for H >= 256, +8 % below", watch),
    Target("Monitor, cheap tier, every 50 steps", "+5 %", monitor),
    Target("a node of the tape", "a quarter of HIPS autograd's time, 1.5 of PyTorch's", tape),
    Target("first training step of a process", "1 s cached, 3 s for a new cell", first_step),
    Target("growth of memory, T*B*H >= 1e6", "at most PyTorch's", memory),
    Target("memory of a step with twice as many time steps", "at most 2.1 times", linear),
    Target("time per step of 1000 and 3000 steps", "at most 1.1 of that at T=100", steady),
)  # fmt: skip
