"""Hand-written NumPy loops for seven cells, forward and backward: slow, obvious twins.

They share no code with the library.  Letters: T steps, B batch, I input size, H hidden size.
A cell is a pair of functions:

``step(w, x, state) -> (state, saved)``
    x: (B, I).  state: tuple of (B, H), the output first.
``step_back(w, saved, d_state, dw) -> (dx, d_prev)``
    d_state: tuple of (B, H), derivatives by the values that ``step`` returned, all uses later
    than this step included.  Adds the parameters' gradients into the dict dw.

``w`` maps "weight_ih" "weight_hh" "bias_ih" "bias_hh" and "vector_<name>" to arrays.
"""

import numpy as np


def logistic(a):
    """1 / (1 + e^-a), without overflow."""
    return np.where(a < 0, np.exp(-abs(a)), 1.0) / (1.0 + np.exp(-abs(a)))


def project(w, x, h):
    """x W^T + b_ih and h U^T + b_hh, each (B, G*H)."""
    return x @ w["weight_ih"].T + w["bias_ih"], h @ w["weight_hh"].T + w["bias_hh"]


def project_back(w, x, h, da_x, da_h, dw):
    """Adjoint of ``project``: the parameters' gradients into dw; returns dx and dh."""
    dw["weight_ih"] += da_x.T @ x
    dw["bias_ih"] += da_x.sum(0)
    dw["weight_hh"] += da_h.T @ h
    dw["bias_hh"] += da_h.sum(0)
    return da_x @ w["weight_ih"], da_h @ w["weight_hh"]


# The vanilla RNN: h = f(a).  Each entry: f, and f' from a and f(a).
NONLINEARITIES = {
    "rnn": (np.tanh, lambda a, y: 1 - y * y),
    "rnn_relu": (lambda a: np.where(a > 0, a, 0.0), lambda a, y: np.where(a > 0, 1.0, 0.0)),
    "rnn_logistic": (logistic, lambda a, y: y * (1 - y)),
}


def make_rnn(name):
    """Step and step_back of the vanilla RNN with the named nonlinearity."""
    f, slope = NONLINEARITIES[name]

    def step(w, x, state):
        (h,) = state
        a_x, a_h = project(w, x, h)
        y = f(a_x + a_h)
        return (y,), (x, h, a_x + a_h, y)

    def step_back(w, saved, d_state, dw):
        x, h, a, y = saved
        da = d_state[0] * slope(a, y)
        dx, dh = project_back(w, x, h, da, da, dw)
        return dx, (dh,)

    return step, step_back


def make_lstm(peephole):
    """Step and step_back of the LSTM; with peepholes i and f see c_{t-1} and o sees c_t."""

    def step(w, x, state):
        h_prev, c_prev = state
        a_x, a_h = project(w, x, h_prev)
        a_i, a_f, a_g, a_o = np.split(a_x + a_h, 4, axis=1)
        if peephole:
            a_i = a_i + w["vector_p_i"] * c_prev
            a_f = a_f + w["vector_p_f"] * c_prev
        i, f, g = logistic(a_i), logistic(a_f), np.tanh(a_g)
        c = f * c_prev + i * g
        if peephole:
            a_o = a_o + w["vector_p_o"] * c
        o = logistic(a_o)
        return (o * np.tanh(c), c), (x, h_prev, c_prev, i, f, g, o, c)

    def step_back(w, saved, d_state, dw):
        x, h_prev, c_prev, i, f, g, o, c = saved
        dh, dc = d_state
        # h = o tanh(c)
        da_o = dh * np.tanh(c) * o * (1 - o)
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        if peephole:
            # a_o = ... + p_o c
            dw["vector_p_o"] += (da_o * c).sum(0)
            dc = dc + da_o * w["vector_p_o"]
        # c = f c_prev + i g
        da_i = dc * g * i * (1 - i)
        da_f = dc * c_prev * f * (1 - f)
        da_g = dc * i * (1 - g * g)
        dc_prev = dc * f
        if peephole:
            # a_i = ... + p_i c_prev, a_f = ... + p_f c_prev
            dw["vector_p_i"] += (da_i * c_prev).sum(0)
            dw["vector_p_f"] += (da_f * c_prev).sum(0)
            dc_prev = dc_prev + da_i * w["vector_p_i"] + da_f * w["vector_p_f"]
        da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
        dx, dh_prev = project_back(w, x, h_prev, da, da, dw)
        return dx, (dh_prev, dc_prev)

    return step, step_back


def gru_step(w, x, state):
    """PyTorch's GRU: the reset gate acts after the product."""
    (h,) = state
    a_x, a_h = project(w, x, h)
    x_r, x_z, x_n = np.split(a_x, 3, axis=1)
    h_r, h_z, h_n = np.split(a_h, 3, axis=1)
    r, z = logistic(x_r + h_r), logistic(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,), (x, h, r, z, n, h_n)


def gru_step_back(w, saved, d_state, dw):
    """Adjoint of ``gru_step``."""
    x, h, r, z, n, h_n = saved
    (dy,) = d_state
    # y = (1 - z) n + z h
    da_z = dy * (h - n) * z * (1 - z)
    da_n = dy * (1 - z) * (1 - n * n)
    # n = tanh(x_n + r h_n)
    da_r = da_n * h_n * r * (1 - r)
    da_x = np.concatenate([da_r, da_z, da_n], axis=1)
    da_h = np.concatenate([da_r, da_z, da_n * r], axis=1)
    dx, dh = project_back(w, x, h, da_x, da_h, dw)
    return dx, (dh + dy * z,)


def gru_before_step(w, x, state):
    """The papers' GRU: the reset gate acts on h before the product."""
    (h,) = state
    units = h.shape[1]
    u_rz, u_n = np.split(w["weight_hh"], [2 * units])
    b_rz, b_n = np.split(w["bias_hh"], [2 * units])
    x_r, x_z, x_n = np.split(x @ w["weight_ih"].T + w["bias_ih"], 3, axis=1)
    h_r, h_z = np.split(h @ u_rz.T + b_rz, 2, axis=1)
    r, z = logistic(x_r + h_r), logistic(x_z + h_z)
    n = np.tanh(x_n + (r * h) @ u_n.T + b_n)
    return ((1 - z) * n + z * h,), (x, h, r, z, n)


def gru_before_step_back(w, saved, d_state, dw):
    """Adjoint of ``gru_before_step``."""
    x, h, r, z, n = saved
    (dy,) = d_state
    units = h.shape[1]
    u_rz, u_n = np.split(w["weight_hh"], [2 * units])
    # y = (1 - z) n + z h
    da_z = dy * (h - n) * z * (1 - z)
    da_n = dy * (1 - z) * (1 - n * n)
    # n = tanh(x_n + U_n (r h))
    d_rh = da_n @ u_n
    da_r = d_rh * h * r * (1 - r)
    da_rz = np.concatenate([da_r, da_z], axis=1)
    da = np.concatenate([da_rz, da_n], axis=1)
    dw["weight_ih"] += da.T @ x
    dw["bias_ih"] += da.sum(0)
    dw["weight_hh"] += np.concatenate([da_rz.T @ h, da_n.T @ (r * h)])
    dw["bias_hh"] += da.sum(0)
    return da @ w["weight_ih"], (dy * z + d_rh * r + da_rz @ u_rz,)


CELLS = {
    **{name: make_rnn(name) for name in NONLINEARITIES},
    "lstm": make_lstm(peephole=False),
    "lstm_peephole": make_lstm(peephole=True),
    "gru": (gru_step, gru_step_back),
    "gru_before": (gru_before_step, gru_before_step_back),
}


def run(name, w, x, state0):
    """Run the cell over a sequence.

    x: (T, B, I).  state0: tuple of (B, H).
    Returns the states, a tuple of (T+1, B, H) with state0 in row 0, and what ``run_back`` needs.
    """
    step, _ = CELLS[name]
    rows, saved, state = [state0], [], state0
    for x_t in x:
        state, kept = step(w, x_t, state)
        rows.append(state)
        saved.append(kept)
    return tuple(np.stack(values) for values in zip(*rows, strict=True)), saved


def run_back(name, w, saved, d_states):
    """Run the recurrence backward.

    d_states: tuple of (T+1, B, H), the loss's own derivative by the state at every row.
    Returns dw (a dict like w), dx (T, B, I) and d_state0 (tuple of (B, H)).
    """
    _, step_back = CELLS[name]
    dw = {key: np.zeros_like(value) for key, value in w.items()}
    delta, dx = tuple(d[-1] for d in d_states), []
    for t in reversed(range(len(saved))):
        dx_t, d_prev = step_back(w, saved[t], delta, dw)
        dx.append(dx_t)
        delta = tuple(d[t] + back for d, back in zip(d_states, d_prev, strict=True))
    return dw, np.stack(dx[::-1]), delta
