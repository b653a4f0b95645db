"""PyTorch: ``nn.RNN``, ``nn.GRU`` and ``nn.LSTM``; a loop over time for a cell it has no layer for.

libgomp's workers spin for some milliseconds and then sleep. ``OMP_WAIT_POLICY`` is left unset, the
better for PyTorch: a training step at T=50 B=64 I=H=512 on two threads takes 152 ms (GRU) and
165 ms (LSTM) so, 185 and 193 ms with ``passive``.
"""

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.chains import Chain
from bench.shapes import TORCH_CELLS, TWO_STAGE, USERS
from bench.text import COMPARED, LEARNING_RATE, MAX_NORM, Task
from bench.work import Arrays, Run, Work

Leaves = dict[str, Tensor]


def set_threads(n: int) -> None:
    """Use n threads."""
    torch.set_num_threads(n)


def layer_for(work: Work) -> torch.nn.RNNBase:
    """Make a layer with the weights of a measurement."""
    layer: torch.nn.RNNBase = getattr(torch.nn, work.cell.upper())(
        work.shape.I, work.shape.H, dtype=getattr(torch, work.dtype)
    )
    layer.load_state_dict({f"{n}_l0": torch.from_numpy(work.given[n]) for n in work.parameters})
    return layer


def training(work: Work) -> Run:
    """Forward and backward with the gradients of everything."""
    if work.cell not in TORCH_CELLS:
        return _training_loop(work)
    layer = layer_for(work)
    x = torch.tensor(work.given["x"], requires_grad=True)
    first = {n: torch.tensor(work.given[n][None], requires_grad=True) for n in work.states}
    state = tuple(first.values()) if len(first) > 1 else next(iter(first.values()))
    d_output = torch.tensor(work.d_output)
    last: dict[str, Tensor] = {}

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        for leaf in first.values():
            leaf.grad = None
        last["output"] = layer(x, state)[0]
        last["output"].backward(d_output)

    def results() -> Arrays:
        leaves = {"x": x, **first} | {n: getattr(layer, f"{n}_l0") for n in work.parameters}
        return _numpy(last) | _gradients(leaves, work)

    return Run(step, results)


def inference(work: Work) -> Run:
    """Forward in inference mode."""
    layer = layer_for(work)
    x = torch.tensor(work.given["x"])
    state = tuple(torch.tensor(work.given[n][None]) for n in work.states)
    start = state if len(state) > 1 else state[0]
    last: dict[str, Tensor] = {}

    def step() -> None:
        with torch.inference_mode():
            last["output"] = layer(x, start)[0]

    return Run(step, lambda: _numpy(last))


def _cell_for(work: Work) -> torch.nn.LSTMCell:
    made = torch.nn.LSTMCell(work.shape.I, work.shape.H, dtype=getattr(torch, work.dtype))
    made.load_state_dict({n: torch.from_numpy(work.given[n]) for n in work.parameters})
    return made


def single_step(work: Work) -> Run:
    """One step of ``nn.LSTMCell`` in inference mode."""
    made = _cell_for(work)
    x = torch.tensor(work.given["x"][0])
    state = tuple(torch.tensor(work.given[n]) for n in work.states)
    last: dict[str, Tensor] = {}

    def step() -> None:
        with torch.inference_mode():
            last["output"] = made(x, state)[0]

    return Run(step, lambda: _numpy(last))


def watched(work: Work) -> Run:
    """Read the gradients of every state in PyTorch's only way: an ``LSTMCell`` loop."""
    made = _cell_for(work)
    x = torch.tensor(work.given["x"], requires_grad=True)
    first = {n: torch.tensor(work.given[n], requires_grad=True) for n in work.states}
    d_output = torch.tensor(work.d_output)
    last: dict[str, Tensor] = {}

    def step() -> None:
        made.zero_grad()
        for leaf in (x, *first.values()):
            leaf.grad = None
        states = [tuple(first.values())]
        for row in x.unbind(0):
            states.append(made(row, states[-1]))
            for value in states[-1]:
                value.retain_grad()
        output = torch.stack([h for h, _ in states[1:]])
        output.backward(d_output)
        last["output"] = output
        for i, name in enumerate(work.made.state):
            last[f"d_{name}"] = torch.stack([_or_zero(state[i]) for state in states])

    def results() -> Arrays:
        leaves = {"x": x, **first} | {n: getattr(made, n) for n in work.parameters}
        return _numpy(last) | _gradients(leaves, work)

    return Run(step, results)


def _or_zero(value: Tensor) -> Tensor:
    """Return a gradient; nothing reads the last cell state but the last output."""
    return torch.zeros_like(value) if value.grad is None else value.grad


# Cells without a layer, as a user of PyTorch writes them: one product per step for all gates that
# read the same vector. a: (B, G*H), what the input and its bias give; p: leaves by name.


def _gru_before(a: Tensor, p: Leaves, h: Tensor) -> tuple[Tensor, ...]:
    units = h.shape[1]
    u, b = p["weight_hh"], p["bias_hh"]
    gates = a[:, : 2 * units] + functional.linear(h, u[: 2 * units], b[: 2 * units])
    r, z = torch.sigmoid(gates).chunk(2, 1)
    n = torch.tanh(a[:, 2 * units :] + functional.linear(r * h, u[2 * units :], b[2 * units :]))
    return (n + z * (h - n),)


def _peephole(a: Tensor, p: Leaves, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    i, f, g, o = (a + functional.linear(h, p["weight_hh"], p["bias_hh"])).chunk(4, 1)
    i, f = torch.sigmoid(i + p["p_i"] * c), torch.sigmoid(f + p["p_f"] * c)
    c = f * c + i * torch.tanh(g)
    return torch.sigmoid(o + p["p_o"] * c) * torch.tanh(c), c


_EQUATIONS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    TWO_STAGE: _gru_before,
    USERS: _peephole,
}


def _training_loop(work: Work) -> Run:
    equations = _EQUATIONS[work.cell]
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in work.given.items()}
    d_output = torch.tensor(work.d_output)
    last: dict[str, Tensor] = {}

    def step() -> None:
        for leaf in leaves.values():
            leaf.grad = None
        state: Any = tuple(leaves[n] for n in work.states)
        outputs = []
        for a in functional.linear(leaves["x"], leaves["weight_ih"], leaves["bias_ih"]).unbind(0):
            state = equations(a, leaves, *state)
            outputs.append(state[0])
        last["output"] = torch.stack(outputs)
        last["output"].backward(d_output)

    return Run(step, lambda: _numpy(last) | _gradients(leaves, work))


def _numpy(values: dict[str, Tensor]) -> Arrays:
    return {name: value.detach().numpy() for name, value in values.items()}


def _gradients(leaves: Leaves, work: Work) -> Arrays:
    return {n: t.grad.numpy().reshape(work.given[n].shape) for n, t in leaves.items()}


class _TextModel(torch.nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(task.symbols, task.E)
        self.recurrent = torch.nn.LSTM(task.E, task.H)
        self.linear = torch.nn.Linear(task.H, task.symbols)
        g = {name: torch.tensor(array) for name, array in task.given.items()}
        self.load_state_dict(
            {
                "embedding.weight": g["embedding"],
                "linear.weight": g["weight"],
                "linear.bias": g["bias"],
            }
            | {f"recurrent.{n}_l0": g[n] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        )

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = self.recurrent(self.embedding(ids), state)
        return self.linear(output), state


def text(task: Task) -> Run:
    """One training step of the text model on the next chunk."""
    model = _TextModel(task)
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    chunks = cycle([(torch.tensor(x), torch.tensor(y)) for x, y in task.chunks])
    losses: list[float] = []
    carried: list[Any] = [None]

    def step() -> None:
        x, y = next(chunks)
        adam.zero_grad()
        scores, state = model(x, carried[0])
        loss = functional.cross_entropy(scores.reshape(-1, task.symbols), y.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        adam.step()
        carried[0] = tuple(s.detach() for s in state)
        losses.append(loss.item())

    return Run(step, lambda: {"losses": np.asarray(losses[:COMPARED], task.dtype)})


def chain(task: Chain) -> Run:
    """Forward and backward through a chain of pointwise operations."""
    x, d_output = torch.tensor(task.x, requires_grad=True), torch.tensor(task.d_output)
    last: dict[str, Tensor] = {}

    def step() -> None:
        x.grad = None
        last["output"] = task.run(x, torch.tanh, torch.sigmoid)
        last["output"].backward(d_output)

    return Run(step, lambda: _numpy(last) | {"x": x.grad.numpy()})
