"""What five sets of lecture notes on recurrent networks print, and what is right, with numbers.

``python examples/errata.py`` shows all fifteen errors, ``python examples/errata.py X5`` one.

Each of the functions x1 to x15 is one error: its docstring has the formula as printed (notes and
line) and the right one, and it returns what it measured, which tests/test_errata.py asserts.
Letters: T steps, N units, d inputs; s(.) is the activation, * multiplies vectors unit by unit.

The notes: S0 "Lecture 9. Recurrent Neural Networks" (2022), S1 "Chapter 1 RNN" (after CS231n 2016,
lecture 10), S2 F. Huszar, Cambridge (2022), S3 V. Goncharenko, girafe-ai (2024), S4 "Machine
Learning 9.12.2022".
"""

import argparse
import inspect
import sys
import textwrap
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

import minirnn
from diagnostics.zoo.tasks import adding
from minirnn import Tensor, cell, sigmoid, tanh

Numbers = dict[str, Any]
UNITS = 8


def fill(layer: minirnn.Recurrent, **values: Any) -> minirnn.Recurrent:
    """Write the given parameters of the lowest level, zeros into all others."""
    for name, parameter in layer.named_parameters():
        value = np.zeros(parameter.shape)
        value[...] = values.get(name.removesuffix("_l0"), 0.0)
        parameter.assign(value.astype(parameter.dtype))
    return layer


def jacobian(layer: minirnn.Recurrent, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return d h_T[i] / d h_0[j] by backpropagation: N copies, one cotangent each.  x: (T, I)."""
    start = Tensor(np.tile(h, (1, len(h), 1)), requires_grad=True)
    _, end = layer(np.repeat(x[:, None], len(h), axis=1), start)
    end.backward(np.eye(len(h))[None])
    return start.grad[0]


def message(function: Callable[..., Any], *arguments: Any) -> str:
    """Return what a call that must fail says."""
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError("this was expected to be an error")


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of a from b, in units of b."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def x1() -> Numbers:
    """Multiply by D and W in turn: the two do not commute.

    Printed (S2 L134): dL/dh_t = dL/h_T (prod_s D_s) W_h^(T-t)
    Right:             dL/dh_t = dL/dh_T prod_s (D_s W_h), the latest step first

    (The d before h_T is missing, too.) N = 8, 12 steps of tanh, W_h ~ N(0, 1/N), no input.
    """
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(UNITS, UNITS)) / np.sqrt(UNITS)
    h0 = rng.normal(size=UNITS)
    layer = fill(minirnn.RNN(1, UNITS, dtype="float64"), weight_hh=weight)
    x = np.zeros((12, 1))
    true = jacobian(layer, x, h0)
    states = layer(x, h0[None])[0].numpy()
    slopes = [np.diag(1 - h**2) for h in states]
    in_turn = reduce(lambda product, d: d @ weight @ product, slopes, np.eye(UNITS))
    powers = np.linalg.matrix_power(weight, len(slopes))
    printed = reduce(lambda product, d: d @ product, slopes, np.eye(UNITS)) @ powers
    return {
        "norm of the true product": np.linalg.norm(true, 2),
        "norm of the printed form": np.linalg.norm(printed, 2),
        "relative error of the printed form": relative(printed, true),
        "relative error of the factors in turn": relative(in_turn, true),
    }


def x2() -> Numbers:
    """Take D at the step whose derivative it is.

    Printed (S2 L139): D_t = diag s'(W_t h_(t-1) + + W_x x_t + b)
    Right:             dh_(s+1)/dh_s = D_s W_h, D_s = diag s'(W_h h_s + W_x x_s + b)

    The notes step by h_(t+1) = s(W_h h_t + W_x x_t + b). The printed argument, even with W_h and
    one plus, belongs to no step: it joins h_(t-1) with x_t.
    """
    rng = np.random.default_rng(0)
    layer = minirnn.RNN(3, UNITS, dtype="float64", seed=0)
    p = layer.state_dict()
    x, h0 = rng.normal(size=(2, 3)), rng.normal(size=UNITS)
    h1 = layer(x[:1], h0[None])[1].numpy()[0]
    true = jacobian(layer, x[1:], h1)

    def product(h: np.ndarray) -> np.ndarray:
        a = p["weight_hh_l0"] @ h + p["bias_hh_l0"] + p["weight_ih_l0"] @ x[1] + p["bias_ih_l0"]
        return np.diag(1 - np.tanh(a) ** 2) @ p["weight_hh_l0"]

    return {
        "relative error of dh_2/dh_1 with the printed D": relative(product(h0), true),
        "relative error of dh_2/dh_1 with the right D": relative(product(h1), true),
    }


def x3() -> Numbers:
    """Bound D by 1, and not by less.

    Printed (S2 L150): |D_s| is less than 1 (ReLU)
    Right:             |D_s| <= 1; with ReLU it is 1 as soon as one unit is active,
                       with tanh <= 1, with the logistic function <= 1/4

    With W_h = 1 the derivative of a step is D itself: 1000 random steps and one from zero.
    """
    a = np.random.default_rng(0).normal(size=(1, 1001, UNITS))
    a[0, 0] = 0.0
    norms = {}
    for kind in ("relu", "tanh", "logistic"):
        layer = minirnn.RNN(UNITS, UNITS, nonlinearity=kind, dtype="float64")
        fill(layer, weight_hh=np.eye(UNITS), weight_ih=np.eye(UNITS))
        h = Tensor(np.zeros(a.shape), requires_grad=True)
        layer(a, h)[1].sum().backward()
        norms[kind] = np.abs(h.grad[0]).max(axis=1)
    active = (a[0] > 0).any(axis=1)
    return {
        "steps with an active unit": active.sum(),
        "of these, steps with |D| = 1 (ReLU)": (norms["relu"][active] == 1).sum(),
        "largest |D| (ReLU)": norms["relu"].max(),
        "largest |D| (tanh)": norms["tanh"].max(),
        "largest |D| (logistic)": norms["logistic"].max(),
    }


def x4() -> Numbers:
    """Normalise attention over the encoder's states.

    Printed (S2 L280): alpha_ts = exp(e_t . d_s) / sum_u exp(e_t . d_s)
    Right:             alpha_ts = exp(e_t . d_s) / sum_u exp(e_u . d_s)

    As printed the sum has T equal terms, so that every weight is 1/T, whatever e and d are, and no
    gradient reaches the decoder's state d through them.
    """
    rng = np.random.default_rng(0)
    encoder, decoder = rng.normal(size=(6, UNITS)), rng.normal(size=(4, UNITS))

    def attention(printed: bool) -> tuple[np.ndarray, np.ndarray]:
        d = Tensor(decoder, requires_grad=True)
        scores = minirnn.exp(encoder @ d.transpose(0, 1))  # (T, S)
        terms = minirnn.stack([scores if printed else scores[u] for u in range(6)], dim=0)
        alpha = scores / terms.sum(dim=0)
        context = alpha.transpose(0, 1) @ encoder
        (context * context).sum().backward()
        return alpha.numpy(), d.grad

    (printed, printed_grad), (right, right_grad) = attention(True), attention(False)
    softmax = minirnn.softmax(encoder @ decoder.T, dim=0).numpy()
    return {
        "printed: smallest and largest weight": (printed.min(), printed.max()),
        "printed: largest gradient of the decoder's state": np.abs(printed_grad).max(),
        "right: smallest and largest weight": (right.min(), right.max()),
        "right: largest gradient of the decoder's state": np.abs(right_grad).max(),
        "right: farthest sum over t from 1": np.abs(right.sum(axis=0) - 1).max(),
        "right: distance from softmax": np.abs(right - softmax).max(),
    }


def x5() -> Numbers:
    """Give the input and the state a matrix each.

    Printed (S0 L142): u_t = s(W_uu x_t + W_uu h_(t-1) + b_u)
    Right:             u_t = s(W_xu x_t + W_hu h_(t-1) + b_u)

    One matrix fits both only if d = N, and then the gate cannot tell the input from the state.
    """
    rng = np.random.default_rng(0)
    weight, x, h = rng.normal(size=(UNITS, UNITS)), rng.normal(size=3), rng.normal(size=UNITS)

    def change(layer: minirnn.Recurrent) -> float:
        """Return how far the gate moves when input and state change places."""
        a, b = rng.normal(size=(2, 1, 1, UNITS))
        gates = []
        for first, second in ((a, b), (b, a)):
            with minirnn.watch(layer) as seen:
                layer(first, second)
            gates.append(seen.gates["z"])
        return np.abs(gates[0] - gates[1]).max()

    tied = minirnn.GRU(UNITS, UNITS, dtype="float64", seed=0)
    tied.weight_ih_l0.assign(tied.weight_hh_l0.numpy())
    right = minirnn.GRU(UNITS, UNITS, dtype="float64", seed=0)
    return {
        "printed, d = 3, N = 8": message(lambda: Tensor(weight) @ x + Tensor(weight) @ h),
        "printed, d = N: change of the gate when x and h change places": change(tied),
        "right, d = N: change of the gate when x and h change places": change(right),
    }


@cell(gates="ifog", state=("h", "c", "new"))
def s0_lstm(wx: Any, u: Any, prev: Any) -> Any:
    """Return h, c and c' of the LSTM as S0 prints it: c' of the step before in the carry."""
    i = sigmoid(wx.i + u.i @ prev.h)
    f = sigmoid(wx.f + u.f @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h)
    new = tanh(wx.g + u.g @ prev.h)
    c = f * prev.new + i * new
    return o * tanh(c), c, new


def x6() -> Numbers:
    """Carry the cell's state, not its candidate.

    Printed (S0 L128): c_t = f * c'_(t-1) + i * c'_t
    Right:             c_t = f * c_(t-1) + i * c'_t

    As printed c_(t-1) is never read, and c' lives for one step. Here without recurrent weights, so
    that the carry is the only memory, and with f = 0.953 (forget bias 3).
    """

    def influence(of: Any, state: str, steps: int) -> float:
        """Return the gradient of h_T by a state before the first step, through the carry."""
        layer = minirnn.Recurrent(of, 1, UNITS, dtype="float64")
        bias = [3.0 if k == "f" else 0.0 for k in layer.cell.gates]
        fill(layer, bias_ih=np.repeat(bias, UNITS))
        start = [Tensor(np.full((1, 1, UNITS), 0.1), requires_grad=True) for _ in layer.cell.state]
        layer(np.zeros((steps, 1, 1)), tuple(start))[0][-1].sum().backward()
        grad = start[layer.cell.state.index(state)].grad
        return 0.0 if grad is None else grad[0, 0, 0]  # None: without the JIT, what nothing reads

    return {
        "printed: dh_T/dc_0, T = 1": influence(s0_lstm, "c", 1),
        "printed: dh_T/dc'_0, T = 1": influence(s0_lstm, "new", 1),
        "printed: dh_T/dc'_0, T = 2": influence(s0_lstm, "new", 2),
        "right: dh_T/dc_0, T = 1": influence("lstm", "c", 1),
        "right: dh_T/dc_0, T = 2": influence("lstm", "c", 2),
        "right: dh_T/dc_0, T = 50": influence("lstm", "c", 50),
    }


def s4_gru(wx: Any, u: Any, prev: Any) -> Any:
    """Return h of the GRU as S4 prints it: r is computed and used nowhere."""
    r = sigmoid(wx.r + u.r @ prev.h)  # noqa: F841
    z = sigmoid(wx.z + u.z @ prev.h)
    n = tanh(wx.n + u.n @ prev.h)
    return (1 - z) * prev.h + z * n


def x7() -> Numbers:
    """Reset the state that the candidate reads.

    Printed (S4 L100): h'_t = tanh(W_h x_t + U_h h_(t-1) + b_h)
    Right:             h'_t = tanh(W_h x_t + U_h (r_t * h_(t-1)) + b_h)

    As printed r_t is computed and never used: a third of the weights never learn. The decorator
    `cell` refuses the printed form; unused="r" says that it is meant.
    """

    def share_without_gradient(layer: minirnn.Recurrent) -> float:
        x = np.random.default_rng(0).normal(size=(5, 4, 3))
        layer(x)[0].sum().backward()
        zeros = sum((p.grad == 0).sum() for p in layer.parameters())
        return zeros / sum(p.grad.size for p in layer.parameters())

    printed = cell(gates="rzn", state="h", unused="r")(s4_gru)
    right = minirnn.GRU(3, UNITS, dtype="float64", seed=0, reset="before", update="write")
    return {
        "printed": message(cell(gates="rzn", state="h"), s4_gru),
        "printed: share of the parameters whose gradient is exactly 0": share_without_gradient(
            minirnn.Recurrent(printed, 3, UNITS, dtype="float64", seed=0)
        ),
        "right: share of the parameters whose gradient is exactly 0": share_without_gradient(right),
    }


def s4_elman(wx: Any, u: Any, prev: Any) -> Any:
    """Return y and h of the Elman network with one matrix for the state and for the output."""
    h = sigmoid(wx.h + u.h @ prev.h)
    return sigmoid(u.h @ h), h


def x8() -> Numbers:
    """Give the output a matrix of its own.

    Printed (S4 L45): y_t = s_y(w_h h_t + b_y), w_h the matrix of the input
    Right:            y_t = s_y(w_y h_t + b_y)

    w_h is N x d, and h_t has N entries: no product unless d = N, and then y must have N entries
    too. `cell` refuses a matrix that stands in two products, here that of the state.
    """
    rng = np.random.default_rng(0)
    w_h, h = Tensor(rng.normal(size=(UNITS, 3))), rng.normal(size=UNITS)
    w_y = minirnn.Linear(UNITS, 2, dtype="float64", seed=0)
    elman = minirnn.cells.get("elman")  # h = s(w_h x + u_h h), y = s(w_y h), with biases
    return {
        "printed, d = 3, N = 8": message(lambda: w_h @ h),
        "printed as a cell": message(cell(gates="h", state="yh"), s4_elman),
        "right: entries of y": w_y(h).shape[0],
        "right as a cell, y of 8 entries: parameters": elman.num_params(3, UNITS, bias=1),
    }


def x9() -> Numbers:
    """Predict from the state that has seen the newest letter.

    Printed (S3 L328): P(x_(i+1)) = softmax(W_out h_i + b_out)
    Right:             P(x_(i+1)) = softmax(W_out h_(i+1) + b_out),
                       as h_(i+1) = s(W_hid [h_i, x_i] + b) is the first to have seen x_i

    Learn "hellohello..." begun at any of its five letters, four predictions each. Who has seen the
    newest letter errs only after a first l, where l and o are as likely: 0.4 ln 2 / 4 a letter. As
    printed the first prediction sees nothing, the second what the first should have seen.
    """
    letters = np.array(["helo".index(k) for k in "hellohello"])
    windows = np.array([letters[k : k + 5] for k in range(5)]).T  # (5 steps, 5 beginnings)
    x, y = np.eye(4)[windows[:-1]], windows[1:]

    def learn(printed: bool) -> tuple[float, np.ndarray]:
        layer = minirnn.RNN(4, UNITS, dtype="float64", seed=0)
        readout = minirnn.Linear(UNITS, 4, dtype="float64", seed=1)
        optimizer = minirnn.Adam([*layer.parameters(), *readout.parameters()], lr=0.03)
        zero = np.zeros((1, 5, UNITS))
        for _ in range(300):
            optimizer.zero_grad()
            states = layer(x)[0]
            if printed:
                states = minirnn.concat([zero, states[:-1]], dim=0)
            logits = readout(states)
            loss = minirnn.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
        return loss.item(), minirnn.softmax(logits, dim=-1).numpy()

    (printed, p), (right, q) = learn(True), learn(False)
    first_guess = -np.array([0.2, 0.2, 0.4, 0.2]) @ np.log([0.2, 0.2, 0.4, 0.2])
    return {
        "printed: loss, and the least possible": (printed, (first_guess + 0.4 * np.log(2)) / 4),
        "right: loss, and the least possible": (right, 0.4 * np.log(2) / 4),
        "printed: P(l | begins with e)": p[0, 1, 2],
        "right: P(l | begins with e)": q[0, 1, 2],
        "right: P(l | el), P(o | ll)": (q[1, 1, 2], q[1, 2, 3]),
    }


def x10() -> Numbers:
    """Scale the loss against underflow, not against vanishing.

    Printed (S3 L484): gradient (loss) scaling is a solution of vanishing gradients
    Right:             it moves the point where numbers become 0; ratios between steps stay

    h_t = h_(t-1) / 2 in float32, 200 steps: 0.5^149 is the last number above 0. A scale of 2^k
    lends k steps more. In float64 the scaled gradient, scaled back, is the same bit for bit.
    """

    def gradients(dtype: str, scale: float) -> np.ndarray:
        """Return the gradient at every lag, (T + 1,): tanh has slope 1 at 0."""
        layer = fill(minirnn.RNN(1, 32, dtype=dtype), weight_hh=0.5 * np.eye(32))
        with minirnn.watch(layer) as seen:
            layer(np.zeros((200, 1, 1), dtype))
        back = seen.pullback(d_state=np.full((1, 32), scale, dtype))
        return back.carried_grads["h"][::-1, 0, 0]

    plain, scaled = gradients("float32", 1.0), gradients("float32", 2.0**10)
    exact, exact_scaled = gradients("float64", 1.0), gradients("float64", 2.0**10)
    return {
        "last lag with a gradient": np.flatnonzero(plain).max(),
        "last lag with a gradient, loss times 2^10": np.flatnonzero(scaled).max(),
        "gradient at lag 100, by that at lag 99": plain[100] / plain[99],
        "gradient at lag 100, by that at lag 99, loss times 2^10": scaled[100] / scaled[99],
        "float64, scaled back: gradients that differ": (exact_scaled / 2.0**10 != exact).sum(),
    }


def x11() -> Numbers:
    """Count how long an LSTM's gradient lives: as long as f stays near 1.

    Printed (S1 L172): LSTMs do not have the problem of vanishing gradients
    Right:             only along c, and only while f is near 1; it halves every ln 2 / -ln f steps

    No weights and no biases but the forget gate's b, so that f = logistic(b).
    """
    steps, numbers = 20, {}
    for bias in (0, 1, 2, 3, 5):
        layer = minirnn.LSTM(1, UNITS, dtype="float64")
        fill(layer, bias_ih=np.repeat([0.0, bias, 0.0, 0.0], UNITS))
        with minirnn.watch(layer) as seen:
            layer(np.zeros((steps, 1, 1)))
        back = seen.pullback(d_state=(np.zeros((1, UNITS)), np.ones((1, UNITS))))
        left = back.carried_grads["c"][0, 0, 0]
        numbers[f"forget bias {bias}: half-life of dc in steps"] = steps * np.log(2) / -np.log(left)
    return numbers


def x12() -> Numbers:
    """Bound the gradient by the weights: a bounded activation does not bound it.

    Printed (S3 L334): ReLU is not ok, sigmoid and tanh are ok because they are normed
    Right:             they bound the state, and the gradient may grow as |W_h|^lag all the same;
                       ReLU with W_h = 1 (Le, Jaitly, Hinton 2015) learns what tanh does not

    1.5 times an orthogonal W_h near h = 0, 50 steps; then the adding problem over 30 steps, 400
    updates, where guessing the mean leaves 1/6.
    """
    rng = np.random.default_rng(0)
    weight = 1.5 * minirnn.init.orthogonal()((UNITS, UNITS), rng, "float64")
    layer = fill(minirnn.RNN(1, UNITS, dtype="float64"), weight_hh=weight)
    norm = np.linalg.norm(jacobian(layer, np.zeros((50, 1)), 1e-12 * rng.normal(size=UNITS)), 2)

    def learn(kind: str, init: Any) -> float:
        data = np.random.default_rng(1)
        layer = minirnn.RNN(2, 32, nonlinearity=kind, seed=0, init=init)
        readout = minirnn.Linear(32, 1, seed=0)
        parameters = [*layer.parameters(), *readout.parameters()]
        optimizer, losses = minirnn.Adam(parameters, lr=2e-3), []
        for _ in range(400):
            x, y = adding(data, 30, 32)
            optimizer.zero_grad()
            loss = minirnn.mse_loss(readout(layer(x)[0][-1]), y)
            loss.backward()
            minirnn.clip_grad_norm(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses[-50:]))

    irnn = {"weight_hh": "identity", "weight_ih": minirnn.init.normal(0, 0.1), "bias": "zeros"}
    return {
        "tanh: norm of dh_50/dh_0, by 1.5^50": norm / 1.5**50,
        "tanh: 1.5^50": 1.5**50,
        "tanh: error on the adding problem": learn("tanh", None),
        "ReLU and identity: error on the adding problem": learn("relu", irnn),
    }


def x13() -> Numbers:
    """Choose the length of a chunk: 25 is a setting, no limit.

    Printed (S1 L14): max 25 length
    Right:            seq_length = 25 is a hyperparameter of min-char-rnn; the forward pass carries
                      the state on, and the gradient reaches as far back as the chunk is long

    An LSTM with forget bias 3 over 200 steps in chunks, then 2000 steps in one piece.
    """
    rng = np.random.default_rng(0)
    layer = minirnn.LSTM(3, UNITS, dtype="float64", seed=0)
    bias = np.zeros((4, UNITS))
    bias[1] = 3.0
    layer.bias_ih_l0.assign(bias.ravel())
    x, y = rng.normal(size=(200, 2, 3)), rng.normal(size=(200, 2, UNITS))

    def gradient(chunk: int) -> np.ndarray:
        pieces = [(x[k : k + chunk], y[k : k + chunk]) for k in range(0, len(x), chunk)]
        layer.zero_grad()
        for part in minirnn.tbptt(layer, pieces, loss=lambda a, b: ((a - b) ** 2).sum()):
            part.loss.backward()
        return layer.weight_hh_l0.grad

    full = gradient(200)
    numbers = {
        f"relative error of the gradient, chunks of {k}": relative(gradient(k), full)
        for k in (5, 25, 50, 100, 200)
    }
    long = Tensor(rng.normal(size=(2000, 1, 3)), requires_grad=True)
    layer(long)[0][-1].sum().backward()
    return numbers | {
        "2000 steps in one piece: norm of dh_T/dx at lag 100": np.linalg.norm(long.grad[-101])
    }


def x14() -> Numbers:
    """Read the drawing of a deep network as time to the right, depth upwards.

    Printed (S0 L108): vertical = recurrent, horizontal = feed-forward
    Right:             horizontal = recurrent, vertical = feed-forward

    Two levels, 5 steps: count the pairs (t, s) for which the upper h_t depends on x_s. Cut the
    recurrent weights, and each column stands alone; cut the feed-forward ones, and no x arrives.
    """
    steps = 5

    def dependent(cut: str) -> np.ndarray:
        layer = minirnn.RNN(3, UNITS, num_layers=2, dtype="float64", seed=0)
        for name, parameter in layer.named_parameters():
            if cut and name.startswith(cut):
                parameter.assign(np.zeros(parameter.shape))
        x = np.random.default_rng(0).normal(size=(steps, 1, 3))
        copies = Tensor(np.repeat(x, steps, axis=1), requires_grad=True)  # copy t is asked at t
        layer(copies)[0].backward(np.eye(steps)[:, :, None] * np.ones(UNITS))
        return copies.grad.any(axis=2).T

    whole, columns, rows = dependent(""), dependent("weight_hh"), dependent("weight_ih_l1")
    return {
        "whole: pairs with s < t, with s = t": (np.tril(whole, -1).sum(), np.trace(whole)),
        "no recurrent weights: the same": (np.tril(columns, -1).sum(), np.trace(columns)),
        "no feed-forward weights: the same": (np.tril(rows, -1).sum(), np.trace(rows)),
    }


def x15() -> Numbers:
    """Say which layout a chain rule is written in.

    Printed (S3 L432): dJ/dh1 = dh2/dh1 x dJ/dh2
    Right:             with (dh2/dh1)_ij = dh2_i/dh1_j it is the transpose of that matrix, or the
                       row dJ/dh2 times the matrix; as printed only if dh2/dh1 means the transpose

    h2 = tanh(A h1), J = w . h2; first 3 entries from 8, where the printed product has no shape.
    """
    rng = np.random.default_rng(0)

    def chain(out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return dJ/dh1 by the tape, the matrix dh2/dh1, and dJ/dh2."""
        matrix, w = rng.normal(size=(out, UNITS)), rng.normal(size=out)
        h1 = Tensor(rng.normal(size=UNITS), requires_grad=True)
        h2 = tanh(matrix @ h1)
        (w * h2).sum().backward()
        return h1.grad, (1 - h2.numpy()[:, None] ** 2) * matrix, w

    _, narrow, w = chain(3)
    true, square, v = chain(UNITS)
    return {
        "printed, h2 of 3 entries": message(lambda: Tensor(narrow) @ w),
        "printed, h2 of 8 entries: relative error": relative(square @ v, true),
        "right, h2 of 8 entries: relative error": relative(square.T @ v, true),
    }


ERRATA = {f.__name__.upper(): f for f in (x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13,
                                          x14, x15)}  # fmt: skip


def shown(value: Any) -> str:
    """Return a number, or a pair of them, as text."""
    if isinstance(value, tuple):
        return ", ".join(shown(part) for part in value)
    return f"{value:.4g}"


def show(name: str) -> None:
    """Print one error: what the notes print, what is right, and what was measured."""
    title, _, text = inspect.cleandoc(ERRATA[name].__doc__ or "").partition("\n")
    print(f"{name}  {title}")
    print("\n".join(f"    {line}".rstrip() for line in text.splitlines()))
    numbers = ERRATA[name]()
    width = max(len(what) for what, value in numbers.items() if not isinstance(value, str))
    print()
    for what, value in numbers.items():
        if isinstance(value, str):
            print(textwrap.fill(f"{what}: {value}", 100, initial_indent="    ",
                                subsequent_indent="        "))  # fmt: skip
        else:
            print(f"    {what:<{width}}  {shown(value)}")
    print()


def main(arguments: list[str] | None = None) -> int:
    """Print the errors that the command line names, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("error", nargs="*", type=str.upper, help="X1 to X15; all if none is given")
    asked = parser.parse_args(arguments).error
    unknown = [name for name in asked if name not in ERRATA]
    if unknown:
        parser.error(f"no error is named {', '.join(unknown)}; there are {', '.join(ERRATA)}")
    for name in asked or ERRATA:
        show(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
