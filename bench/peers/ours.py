"""minirnn: a layer and a backward pass."""

from itertools import cycle
from typing import Any

import numpy as np

import minirnn
from bench.chains import Chain
from bench.text import COMPARED, LEARNING_RATE, MAX_NORM, Task
from bench.work import Arrays, Run, Work


def set_threads(n: int) -> None:
    """Use n threads."""
    minirnn.set_num_threads(n)


def layer_for(work: Work) -> minirnn.Recurrent:
    """Make a layer with the weights of a measurement."""
    layer = minirnn.Recurrent(work.made, work.shape.I, work.shape.H, dtype=work.dtype)
    kinds = {n: f"vector_{n}" if n in work.made.vectors else n for n in work.parameters}
    layer.load_state_dict({f"{kind}_l0": work.given[name] for name, kind in kinds.items()})
    return layer


def _parameters(layer: minirnn.Recurrent, work: Work) -> dict[str, minirnn.Tensor]:
    kinds = {n: f"vector_{n}" if n in work.made.vectors else n for n in work.parameters}
    return {name: getattr(layer, f"{kind}_l0") for name, kind in kinds.items()}


def training(work: Work) -> Run:
    """Forward and backward with the gradients of everything."""
    return _training(work, watched=False)


def watched(work: Work) -> Run:
    """Read, besides, the gradient of every state at every step."""
    return _training(work, watched=True)


def _training(work: Work, watched: bool) -> Run:
    layer = layer_for(work)
    x = minirnn.Tensor(work.given["x"], requires_grad=True)
    first = {n: minirnn.Tensor(work.given[n][None], requires_grad=True) for n in work.states}
    state = tuple(first.values()) if len(first) > 1 else next(iter(first.values()))
    leaves = {"x": x, **first}
    last: Arrays = {}

    def step() -> None:
        layer.zero_grad()
        for leaf in leaves.values():
            leaf.grad = None
        output, _ = layer(x, state)
        output.backward(work.d_output)
        last["output"] = output.numpy()

    def watched_step() -> None:
        with minirnn.watch(layer) as seen:
            step()
        for name in work.made.state:
            last[f"d_{name}"] = seen.state_grads[name]

    def results() -> Arrays:
        tensors = leaves | _parameters(layer, work)
        gradients = {name: t.grad.reshape(work.given[name].shape) for name, t in tensors.items()}
        return last | gradients

    return Run(watched_step if watched else step, results)


def inference(work: Work) -> Run:
    """Forward without a tape."""
    layer = layer_for(work)
    x = minirnn.Tensor(work.given["x"])
    state = tuple(minirnn.Tensor(work.given[n][None]) for n in work.states)
    start = state if len(state) > 1 else state[0]
    last: Arrays = {}

    def step() -> None:
        with minirnn.no_grad():
            last["output"] = layer(x, start)[0].numpy()

    return Run(step, lambda: last)


def single_step(work: Work) -> Run:
    """One step of inference, as in sampling or control."""
    layer = layer_for(work)
    x = work.given["x"][0]
    state = tuple(minirnn.Tensor(work.given[n][None]) for n in work.states)
    start = state if len(state) > 1 else state[0]
    last: list[minirnn.Tensor] = []

    def step() -> None:
        after = layer.step(x, start)
        last[:] = after if isinstance(after, tuple) else (after,)

    return Run(step, lambda: {"output": last[0].numpy()[0]})


class _TextModel(minirnn.Module):
    def __init__(self, task: Task) -> None:
        self.folded = task.folded
        self.embedding = minirnn.Embedding(task.symbols, task.E)
        self.recurrent = minirnn.LSTM(task.E, task.H)
        self.linear = minirnn.Linear(task.H, task.symbols)
        g = task.given
        self.load_state_dict(
            {
                "embedding.weight": g["embedding"],
                "linear.weight": g["weight"],
                "linear.bias": g["bias"],
            }
            | {f"recurrent.{n}_l0": g[n] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        )

    def forward(self, ids: Any, state: Any = None) -> tuple[Any, Any]:
        if self.folded:
            output, state = self.recurrent(ids, state, embedding=self.embedding)
        else:
            output, state = self.recurrent(self.embedding(ids), state)
        return self.linear(output), state


def text(task: Task) -> Run:
    """One training step of the text model on the next chunk."""
    model = _TextModel(task)
    adam = minirnn.Adam(model.parameters(), lr=LEARNING_RATE)
    chunks = cycle(task.chunks)
    losses: list[float] = []
    carried: list[Any] = [None]

    def step() -> None:
        x, y = next(chunks)
        adam.zero_grad()
        scores, state = model(x, carried[0])
        loss = minirnn.cross_entropy(scores, y)
        loss.backward()
        minirnn.clip_grad_norm(model.parameters(), MAX_NORM)
        adam.step()
        carried[0] = tuple(s.detach() for s in state)
        losses.append(loss.item())

    return Run(step, lambda: {"losses": np.asarray(losses[:COMPARED], task.dtype)})


def chain(task: Chain) -> Run:
    """Forward and backward through a chain of pointwise operations."""
    x = minirnn.Tensor(task.x, requires_grad=True)
    last: Arrays = {}

    def step() -> None:
        x.grad = None
        y = task.run(x, minirnn.tanh, minirnn.sigmoid)
        y.backward(task.d_output)
        last["output"] = y.numpy()

    return Run(step, lambda: last | {"x": x.grad})
