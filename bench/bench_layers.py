"""Training steps of RNN, GRU and LSTM beside PyTorch: ``make bench``.

One thread each, float32; a round is forward and backward with all gradients.  Both libraries of a
shape stand in one group, so that the table compares them; trust ratios within one run.
"""

import numpy as np
import pytest

import minirnn

# T, B, I, H: one row at a time, a small layer, sizes that fit no vector, a large layer.
SHAPES = [(100, 1, 64, 64), (50, 16, 64, 128), (50, 20, 77, 131), (50, 64, 512, 512)]


def minirnn_step(kind, shape, x):
    """Return a function that runs one training step."""
    _, _, inputs, units = shape
    layer = getattr(minirnn, kind)(inputs, units, seed=0)
    seed = np.ones((*x.shape[:2], units), np.float32)
    given = minirnn.Tensor(x, requires_grad=True)

    def step():
        layer.zero_grad()
        given.grad = None
        layer(given)[0].backward(seed)

    minirnn.set_num_threads(1)
    return step


def torch_step(kind, shape, x):
    """Return the same for PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    _, _, inputs, units = shape
    torch.set_num_threads(1)
    layer = getattr(torch.nn, kind)(inputs, units)
    seed = torch.ones(*x.shape[:2], units)
    given = torch.tensor(x, requires_grad=True)

    def step():
        layer.zero_grad()
        given.grad = None
        layer(given)[0].backward(seed)

    return step


LIBRARIES = {"minirnn": minirnn_step, "torch": torch_step}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "T{} B{} I{} H{}".format(*s))
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_training_step(benchmark, kind, shape, library):
    steps, batch, inputs, units = shape
    x = np.random.default_rng(0).normal(size=(steps, batch, inputs)).astype(np.float32)
    step = LIBRARIES[library](kind, shape, x)
    step()  # compiles
    benchmark.group = f"{kind} " + "T{} B{} I{} H{}".format(*shape)
    benchmark.pedantic(step, rounds=15, warmup_rounds=2)
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    flops = 6 * steps * batch * units * gates * (inputs + units)
    benchmark.extra_info["GF/s"] = round(flops / benchmark.stats["median"] / 1e9, 1)
