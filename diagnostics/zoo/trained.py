"""A zoo that is trained: what R1 and R8 say before the first update, and the loss in the end.

Cells by initialisations are trained on tasks that need a memory of a known number of steps.
Before the first update the lag gain at that lag (R1's number) and the units' timescales over it
(R8's number) are taken; afterwards the loss on unseen sequences.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.timescales import memory_timescales
from diagnostics.zoo.tasks import adding, copying

SYMBOLS, ALPHABET = 3, 4  # of copying: small, for runs of minutes
UNSEEN = 256  # sequences that the final loss is taken from
SOLVED = 0.1  # part of the baseline below which a task counts as solved
BEGUN = 0.9  # and below which anything was learned: unseen sequences tell 1 to a few parts of 100

# The gain of an orthogonal recurrent matrix, and the forget (GRU: update) gate's bias.
GAINS = {"orthogonal": 1.0, "0.5 orthogonal": 0.5, "1.5 orthogonal": 1.5}
BIASES = {"rnn": ("",), "lstm": ("0", "1", "chrono"), "gru": ("0", "1", "chrono")}


@dataclass(frozen=True)
class Plan:
    """What is trained: tasks, steps T with the updates each gets, cells of `BIASES`, and how."""

    tasks: tuple[str, ...] = ("adding", "copying")
    updates: tuple[tuple[int, int], ...] = ((50, 1500), (200, 600), (500, 250))
    cells: tuple[str, ...] = tuple(BIASES)
    hidden: int = 32
    batch: int = 32
    rate: float = 5e-3
    clip: float = 1.0


TINY = Plan(updates=((10, 4),), hidden=8, batch=8)


@dataclass(frozen=True)
class Run:
    """One network: what was known before training, and what came of it.

    lag: how many steps the task needs.  gain, vanishing: the lag gain there and R1's level.
    memory, memory_level: R8's number and level.  loss: on unseen sequences after the updates.
    baseline: the loss of the best guess without memory, on the same sequences.
    """

    task: str
    steps: int
    updates: int
    cell: str
    init: str
    bias: str
    lag: int
    gain: float
    vanishing: str
    memory: float
    memory_level: str
    loss: float
    baseline: float

    @property
    def group(self) -> tuple[str, int]:
        """Runs of one task and length: those that are ranked among each other."""
        return self.task, self.steps

    @property
    def relative(self) -> float:
        """The loss in parts of the baseline; inf for one that is not finite."""
        return self.loss / self.baseline if math.isfinite(self.loss) else math.inf

    @property
    def begun(self) -> bool:
        """Whether the loss fell below what is had without memory."""
        return self.relative < BEGUN

    @property
    def solved(self) -> bool:
        """Whether nearly nothing is left of the loss."""
        return self.relative < SOLVED


class Task:
    """A task of a length: batches, the loss, the lag that it needs, and the memoryless loss."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps, self.adding = name, steps, name == "adding"
        # Adding's loss is at the last step, and the first mark may be on the first.
        self.lag = steps - 1 if self.adding else steps + SYMBOLS
        self.inputs, self.outputs = (2, 1) if self.adding else (ALPHABET + 2, ALPHABET)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Any, Any]:
        """Draw x and y."""
        if self.adding:
            return adding(rng, self.steps, size)
        return copying(rng, self.steps, size, SYMBOLS, ALPHABET)

    def loss(self, layer: Any, readout: Any, x: Any, y: Any) -> Any:
        """Return the loss: of the last step's number, or of the symbols at the marks."""
        output = layer(x)[0]
        if self.adding:
            return minirnn.mse_loss(readout(output[-1]), y)
        return minirnn.cross_entropy(readout(output[-SYMBOLS:]), y)

    def baseline(self, y: Any) -> float:
        """Return the loss of the best guess without memory on these very sequences."""
        return float(np.mean((y - 1.0) ** 2)) if self.adding else math.log(ALPHABET)


def train_zoo(
    plan: Plan = Plan(), seed: int = 0, told: Callable[[Run], None] = lambda run: None
) -> list[Run]:
    """Train every network of a plan.  The same arguments give the same numbers.

    told: called with each run when it is finished.
    """
    found = []
    for name, (steps, updates), cell in product(plan.tasks, plan.updates, plan.cells):
        for init, bias in product(GAINS, BIASES[cell]):
            found.append(_run(plan, Task(name, steps), updates, cell, init, bias, seed))
            told(found[-1])
    return found


def _run(plan: Plan, task: Task, updates: int, cell: str, init: str, bias: str, seed: int) -> Run:
    """Measure a network, train it, and measure its loss."""
    # The same seeds for all: they differ by cell and initialisation, not by the data they get.
    rng, unseen = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    layer = layer_of(cell, init, bias, task, plan.hidden, seed)
    readout = minirnn.Linear(plan.hidden, task.outputs, seed=seed + 1)
    x, _ = task.batch(unseen, plan.batch)
    flow = rules.vanishing(lag_gain(layer, x, max_lag=task.lag))
    memory = rules.memory(memory_timescales(layer, x), task.lag)
    parameters = [*layer.parameters(), *readout.parameters()]
    adam = minirnn.Adam(parameters, lr=plan.rate)
    for _ in range(updates):
        adam.zero_grad()
        task.loss(layer, readout, *task.batch(rng, plan.batch)).backward()
        minirnn.clip_grad_norm(parameters, plan.clip)
        adam.step()
    x, y = task.batch(unseen, UNSEEN)
    with minirnn.no_grad():
        loss = task.loss(layer, readout, x, y).item()
    return Run(
        task=task.name, steps=task.steps, updates=updates, cell=cell, init=init, bias=bias,
        lag=task.lag, gain=flow.value, vanishing=flow.level, memory=memory.value,
        memory_level=memory.level, loss=loss, baseline=task.baseline(y),
    )  # fmt: skip


def layer_of(cell: str, init: str, bias: str, task: Task, hidden: int, seed: int) -> Any:
    """Make a layer with weights by `GAINS`, and with the forget gate's bias where there is one."""
    by_name: dict[str, Any] = {"weight_hh": minirnn.init.orthogonal(GAINS[init])}
    if bias == "chrono":
        by_name["bias"] = minirnn.init.chrono(task.lag)
    elif bias:
        by_name["bias"] = minirnn.init.forget_bias(float(bias))
    return minirnn.Recurrent(cell, task.inputs, hidden, init=by_name, seed=seed)
