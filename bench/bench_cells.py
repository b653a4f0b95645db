"""Training steps of every cell, per floating-point operation, beside the LSTM: ``make bench``.

Flops of a cell are 6 T B H (G I + P H), P products (a triangular block counts what is not 0). Every
round of a cell comes right after a step of the LSTM, so that drift of the machine hits both alike;
``extra_info`` holds the rates and ``of_lstm``, their ratio.
"""

import statistics
import time

import numpy as np
import pytest

import minirnn
from minirnn import cell, cells, sigmoid, tanh

STEPS, BATCH, INPUTS, UNITS = 50, 64, 512, 512


@cell(gates="ifgo", state="hc", vectors=("p_i", "p_f", "p_o"))
def users_peephole(wx, u, prev, p):
    """Peephole LSTM as a user would write it: no kernel knows it."""
    i = sigmoid(wx.i + u.i @ prev.h + p.p_i * prev.c)
    f = sigmoid(wx.f + u.f @ prev.h + p.p_f * prev.c)
    c = f * prev.c + i * tanh(wx.g + u.g @ prev.h)
    o = sigmoid(wx.o + u.o @ prev.h + p.p_o * c)
    return o * tanh(c), c


def flops(made):
    """Floating-point operations of a training step."""
    recurrent = made.num_params(0, UNITS, bias=0) - len(made.vectors) * UNITS
    return 6 * STEPS * BATCH * (len(made.gates) * UNITS * INPUTS + recurrent)


def training_step(made):
    """Make a function that runs forward and backward with all gradients."""
    layer = minirnn.Recurrent(made, INPUTS, UNITS, seed=0)
    x = minirnn.Tensor(
        np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    )
    x.requires_grad = True
    seed = np.ones((STEPS, BATCH, UNITS), np.float32)

    def step():
        layer.zero_grad()
        x.grad = None
        layer(x)[0].backward(seed)

    step()  # compiles
    return step


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [*cells.names(), "users_peephole"])
@pytest.mark.benchmark(group="cells")
def test_training_step_of_a_cell_beside_the_lstm(benchmark, name, threads):
    minirnn.set_num_threads(threads)
    made = users_peephole if name == "users_peephole" else cells.get(name)
    step, lstm = training_step(made), training_step(cells.get("lstm"))
    beside = []

    def lstm_first():
        start = time.perf_counter()
        lstm()
        beside.append(time.perf_counter() - start)

    benchmark.pedantic(step, setup=lstm_first, rounds=5, warmup_rounds=1)
    if not benchmark.disabled:
        rate = flops(made) / benchmark.stats.stats.median / 1e9
        of_lstm = flops(cells.get("lstm")) / statistics.median(beside[1:]) / 1e9
        benchmark.extra_info.update(
            threads=threads, gflops=round(rate, 1), lstm_gflops=round(of_lstm, 1),
            of_lstm=round(rate / of_lstm, 3),
        )  # fmt: skip
