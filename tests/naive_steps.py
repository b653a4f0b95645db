"""One hand-written NumPy step for every cell of the registry: the textbook, line by line.

They share no code with the library, and run on complex arrays too, so that a complex step through
them gives derivatives.  ``tests/naive.py`` has seven of the cells with a backward pass.
Letters: T steps, B batch, I input size, H hidden size.

``step(w, x, state, t, below) -> new state``
    w: dict "weight_ih" "weight_hh" "bias_ih" "bias_hh" "vector_<name>".  x: (B, I).
    state: tuple of (B, H), the output first.  t: index of the step.  below: the states of the
    level below after this step, zeros at the lowest.
"""

import numpy as np


def logistic(a):
    """1 / (1 + e^-a); the arguments of tests do not overflow."""
    return 1 / (1 + np.exp(-a))


def relu(a):
    """The positive part, by the real part."""
    return np.where(np.real(a) > 0, a, 0)


def norm(v):
    """Layer norm without gain and shift: over the last axis, eps 1e-5."""
    centred = v - v.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def blocks(w):
    """Cut every matrix and bias into blocks of H rows, in order: W, U, b (of W), d (of U)."""
    units = w["weight_hh"].shape[1]
    keys = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return tuple([w[k][j : j + units] for j in range(0, len(w[k]), units)] for k in keys)


def vanilla(f):
    """h = f(W x + U h)."""

    def step(w, x, state, t, below):
        (W,), (U,), (b,), (d,) = blocks(w)
        return (f(x @ W.T + b + state[0] @ U.T + d),)

    return step


def elman(w, x, state, t, below):
    """The hidden layer is fed back."""
    _, h = state
    (W,), (U_h, U_y), (b,), (d_h, d_y) = blocks(w)
    h = logistic(x @ W.T + b + h @ U_h.T + d_h)
    return logistic(h @ U_y.T + d_y), h


def jordan(w, x, state, t, below):
    """The output is fed back."""
    (y,) = state
    (W,), (U_h, U_y), (b,), (d_h, d_y) = blocks(w)
    h = logistic(x @ W.T + b + y @ U_h.T + d_h)
    return (logistic(h @ U_y.T + d_y),)


def lstm(w, x, state, t, below):
    """The standard LSTM."""
    h, c = state
    a_i, a_f, a_g, a_o = (x @ W.T + b + h @ U.T + d for W, U, b, d in zip(*blocks(w), strict=True))
    c = logistic(a_f) * c + logistic(a_i) * np.tanh(a_g)
    return logistic(a_o) * np.tanh(c), c


def lstm_cifg(w, x, state, t, below):
    """Olah's coupled gates: what is forgotten is written."""
    h, c = state
    a_f, a_g, a_o = (x @ W.T + b + h @ U.T + d for W, U, b, d in zip(*blocks(w), strict=True))
    f = logistic(a_f)
    c = f * c + (1 - f) * np.tanh(a_g)
    return logistic(a_o) * np.tanh(c), c


def lstm_1997(w, x, state, t, below):
    """No forget gate; gates and cell input see the previous gates."""
    h, c, i, o = state
    (W_i, W_g, W_o), U, (b_i, b_g, b_o), (d_i, d_g, d_o) = blocks(w)
    U_i, U_g, U_o, U_ii, U_io, U_gi, U_go, U_oi, U_oo = U
    a_i = x @ W_i.T + b_i + h @ U_i.T + d_i + i @ U_ii.T + o @ U_io.T
    a_g = x @ W_g.T + b_g + h @ U_g.T + d_g + i @ U_gi.T + o @ U_go.T
    a_o = x @ W_o.T + b_o + h @ U_o.T + d_o + i @ U_oi.T + o @ U_oo.T
    i, o = logistic(a_i), logistic(a_o)
    c = c + i * (4 * logistic(a_g) - 2)
    return o * (2 * logistic(c) - 1), c, i, o


def gru(reset, update):
    """Three places for the reset gate, two roles of z."""

    def step(w, x, state, t, below):
        (h,) = state
        (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n), (d_r, d_z, d_n) = blocks(w)
        r = logistic(x @ W_r.T + b_r + h @ U_r.T + d_r)
        z = logistic(x @ W_z.T + b_z + h @ U_z.T + d_z)
        recurrent = {
            "after": r * (h @ U_n.T + d_n),
            "before": (r * h) @ U_n.T + d_n,
            "none": h @ U_n.T + d_n,
        }[reset]
        n = np.tanh(x @ W_n.T + b_n + recurrent)
        return ((1 - z) * n + z * h if update == "keep" else (1 - z) * h + z * n,)

    return step


def greff(gates="ifgo", peepholes=True, coupled=False, squash_in=np.tanh, squash_out=np.tanh):
    """Greff's vanilla LSTM and its departures; a gate that is missing is 1."""

    def step(w, x, state, t, below):
        h, c = state
        p = {k: w[f"vector_p_{k}"] if peepholes else 0.0 for k in gates if k != "g"}
        sums = (x @ W.T + b + h @ U.T + d for W, U, b, d in zip(*blocks(w), strict=True))
        a = dict(zip(gates, sums, strict=True))
        i = logistic(a["i"] + p["i"] * c) if "i" in gates else 1.0
        f = logistic(a["f"] + p["f"] * c) if "f" in gates else 1.0
        if coupled:
            f = 1 - i
        c = f * c + i * squash_in(a["g"])
        o = logistic(a["o"] + p["o"] * c) if "o" in gates else 1.0
        return o * squash_out(c), c

    return step


def greff_fgr(w, x, state, t, below):
    """Full gate recurrence: nine more matrices from the previous i, f and o."""
    h, c, i, f, o = state
    (W_i, W_f, W_g, W_o), U, (b_i, b_f, b_g, b_o), (d_i, d_f, d_g, d_o) = blocks(w)
    U_i, U_f, U_g, U_o, U_ii, U_if, U_io, U_fi, U_ff, U_fo, U_oi, U_of, U_oo = U
    p_i, p_f, p_o = (w[f"vector_p_{k}"] for k in "ifo")
    a_i = x @ W_i.T + b_i + h @ U_i.T + d_i + i @ U_ii.T + f @ U_if.T + o @ U_io.T
    a_f = x @ W_f.T + b_f + h @ U_f.T + d_f + i @ U_fi.T + f @ U_ff.T + o @ U_fo.T
    a_o = x @ W_o.T + b_o + h @ U_o.T + d_o + i @ U_oi.T + f @ U_of.T + o @ U_oo.T
    g = np.tanh(x @ W_g.T + b_g + h @ U_g.T + d_g)
    i, f = logistic(a_i + p_i * c), logistic(a_f + p_f * c)
    c = f * c + i * g
    o = logistic(a_o + p_o * c)
    return o * np.tanh(c), c, i, f, o


def depth_gated(w, x, state, t, below):
    """The cell of the level below enters through a gate."""
    h, c = state
    (W_i, W_f, W_g, W_o, W_d), U, (b_i, b_f, b_g, b_o, b_d), d = blocks(w)
    i = logistic(x @ W_i.T + b_i + h @ U[0].T + d[0])
    f = logistic(x @ W_f.T + b_f + h @ U[1].T + d[1])
    g = np.tanh(x @ W_g.T + b_g + h @ U[2].T + d[2])
    o = logistic(x @ W_o.T + b_o + h @ U[3].T + d[3])
    depth = logistic(x @ W_d.T + b_d + w["vector_w_c"] * c + w["vector_w_l"] * below[1])
    c = depth * below[1] + f * c + i * g
    return o * np.tanh(c), c


def clockwork(w, x, state, t, below):
    """Unit by unit: those whose period divides t move, and read no faster module."""
    (h,) = state
    (W,), (U,), (b,), (d,) = blocks(w)
    units, new = h.shape[1], h.copy()
    for j in range(units):
        module = j * 4 // units
        if t % (1, 2, 4, 8)[module] == 0:
            slower = [k for k in range(units) if k * 4 // units >= module]
            new[:, j] = np.tanh(x @ W[j] + b[j] + h[:, slower] @ U[j, slower] + d[j])
    return (new,)


def mgu(w, x, state, t, below):
    """One gate that resets and writes."""
    (h,) = state
    (W_f, W_n), (U_f, U_n), (b_f, b_n), (d_f, d_n) = blocks(w)
    f = logistic(x @ W_f.T + b_f + h @ U_f.T + d_f)
    n = np.tanh(x @ W_n.T + b_n + (f * h) @ U_n.T + d_n)
    return ((1 - f) * h + f * n,)


def mut1(w, x, state, t, below):
    """z sees the input alone; x is squashed on its way to the candidate."""
    (h,) = state
    (W_r, W_z, W_n), (U_r, U_n), (b_r, b_z, b_n), (d_r, d_n) = blocks(w)
    r = logistic(x @ W_r.T + b_r + h @ U_r.T + d_r)
    z = logistic(x @ W_z.T + b_z)
    n = np.tanh((r * h) @ U_n.T + d_n + np.tanh(x @ W_n.T + b_n))
    return ((1 - z) * h + z * n,)


def mut3(w, x, state, t, below):
    """z sees tanh(h)."""
    (h,) = state
    (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n), (d_r, d_z, d_n) = blocks(w)
    r = logistic(x @ W_r.T + b_r + h @ U_r.T + d_r)
    z = logistic(x @ W_z.T + b_z + np.tanh(h) @ U_z.T + d_z)
    n = np.tanh(x @ W_n.T + b_n + (r * h) @ U_n.T + d_n)
    return ((1 - z) * h + z * n,)


def ligru(w, x, state, t, below):
    """No reset gate, ReLU."""
    (h,) = state
    (W_z, W_n), (U_z, U_n), (b_z, b_n), (d_z, d_n) = blocks(w)
    z = logistic(x @ W_z.T + b_z + h @ U_z.T + d_z)
    n = relu(x @ W_n.T + b_n + h @ U_n.T + d_n)
    return (z * h + (1 - z) * n,)


def lstm_layernorm(w, x, state, t, below):
    """Each gate is normalised, and c on its way to h."""
    h, c = state
    gain = {k: w[f"vector_gain_{k}"] for k in "ifgoc"}
    shift = {k: w[f"vector_shift_{k}"] for k in "ifgoc"}
    i, f, g, o = (
        gain[k] * norm(x @ W.T + b + h @ U.T + d) + shift[k]
        for k, W, U, b, d in zip("ifgo", *blocks(w), strict=True)
    )
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    return logistic(o) * np.tanh(gain["c"] * norm(c) + shift["c"]), c


def gru_layernorm(w, x, state, t, below):
    """Each gate is normalised, the two halves of the candidate apart."""
    (h,) = state
    (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n), (d_r, d_z, d_n) = blocks(w)

    def affine(k, v):
        return w[f"vector_gain_{k}"] * norm(v) + w[f"vector_shift_{k}"]

    r = logistic(affine("r", x @ W_r.T + b_r + h @ U_r.T + d_r))
    z = logistic(affine("z", x @ W_z.T + b_z + h @ U_z.T + d_z))
    n = np.tanh(affine("xn", x @ W_n.T + b_n) + r * affine("hn", h @ U_n.T + d_n))
    return ((1 - z) * n + z * h,)


STEPS = {
    "rnn": vanilla(np.tanh),
    "rnn_relu": vanilla(relu),
    "rnn_logistic": vanilla(logistic),
    "elman": elman,
    "jordan": jordan,
    "lstm": lstm,
    "lstm_peephole": greff(),
    "lstm_cifg": lstm_cifg,
    "lstm_1997": lstm_1997,
    "lstm_1997_truncated": lstm_1997,
    "gru": gru("after", "keep"),
    "gru_write": gru("after", "write"),
    "gru_before": gru("before", "keep"),
    "gru_before_write": gru("before", "write"),
    "gru_none": gru("none", "keep"),
    "gru_none_write": gru("none", "write"),
    "greff_v": greff(),
    "greff_nig": greff("fgo"),
    "greff_nfg": greff("igo"),
    "greff_nog": greff("ifg"),
    "greff_niaf": greff(squash_in=lambda a: a),
    "greff_noaf": greff(squash_out=lambda c: c),
    "greff_np": greff(peepholes=False),
    "greff_cifg": greff("igo", coupled=True),
    "greff_fgr": greff_fgr,
    "depth_gated": depth_gated,
    "clockwork": clockwork,
    "mgu": mgu,
    "mut1": mut1,
    "mut2": gru("before", "write"),
    "mut3": mut3,
    "ligru": ligru,
    "lstm_layernorm": lstm_layernorm,
    "gru_layernorm": gru_layernorm,
}


def run(name, w, x, state0, below=None, start=0):
    """Run the cell over a sequence.

    x: (T, B, I).  state0: tuple of (B, H).  below: per state (T, B, H), or None for zeros.
    Returns the states, a tuple of (T+1, B, H) with state0 in row 0.
    """
    rows = [tuple(state0)]
    for t, x_t in enumerate(x):
        under = tuple(np.zeros_like(s) for s in state0)
        if below is not None:
            under = tuple(s[t] for s in below)
        rows.append(STEPS[name](w, x_t, rows[-1], start + t, under))
    return tuple(np.stack(values) for values in zip(*rows, strict=True))
