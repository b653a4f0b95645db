"""A small training run for test_checkpoint.py to kill: every generator and an optimizer take part.

Run as a script: ``killed_run.py PATH STEPS [--slowly] [--die-in MOMENT]``.
"""

import argparse
import builtins
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from minirnn.checkpoint import load_checkpoint, save_checkpoint
from minirnn.data.text import TextStream
from minirnn.engine import Tensor, manual_seed, stack, tanh
from minirnn.layers.dropout import Dropout
from minirnn.layers.embedding import Embedding
from minirnn.layers.linear import Linear
from minirnn.layers.module import Module
from minirnn.layers.optim import Adam
from minirnn.layers.sequential import Sequential
from minirnn.training import tbptt


class Loop(Module):
    def __init__(self):
        self.map = Linear(4, 4, seed=3)

    def forward(self, x, state=None):
        h = Tensor(np.zeros(x.shape[1:], np.float32)) if state is None else Tensor(state)
        rows = [h := tanh(x[t] + self.map(h)) for t in range(x.shape[0])]
        return stack(rows, 0), h


def model():
    """Dropout from a generator of its own, and from the global one."""
    return Sequential(
        Embedding(7, 4, seed=1), Dropout(0.2, seed=2), Loop(), Dropout(0.2), Linear(4, 7, seed=4)
    )


def run(path, steps, slowly=False):
    """Train to ``steps`` with a checkpoint after each, from the checkpoint if there is one."""
    manual_seed(0)
    net = model()
    optimizer = Adam(net.parameters(), 0.01)
    noise = np.random.default_rng(5)
    stream = TextStream(np.arange(300) ** 2 % 7, 3, 6)
    step, state, start = 0, None, 0
    if path.exists():
        step, extra = load_checkpoint(path, net, optimizer, noise)
        stream.load_state_dict(extra["stream"])
        state, start = tuple(extra["state"]), extra["start"]
    while step < steps:
        for chunk in tbptt(net, stream, state=state, start=start):
            optimizer.zero_grad()
            chunk.loss.backward()
            optimizer.lr = 0.01 * noise.random()
            optimizer.step()
            step += 1
            save_checkpoint(
                path,
                net,
                optimizer,
                step=step,
                rng=noise,
                extra={
                    "stream": stream.state_dict(),
                    "state": chunk.state,
                    "start": chunk.start + chunk.steps,
                },
            )
            if slowly:
                time.sleep(0.01)
            if step == steps:
                return
        state, start = None, 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(moment):
    """Kill this process in the fifth save, at a given moment of it."""
    saves = [0]
    fsync, replace = os.fsync, os.replace

    class Torn:
        """A file that is killed with half of its content written."""

        def __init__(self, file):
            self.file = file

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            die()

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

    def counting_open(file, mode="r", *args, **kwargs):
        opened = plain_open(file, mode, *args, **kwargs)
        if mode == "xb":
            saves[0] += 1
            if saves[0] == 5 and moment == "write":
                return Torn(opened)
        return opened

    def dying(name, function):
        def wrapped(*args):
            if saves[0] == 5 and moment == name:
                die()
            function(*args)
            if saves[0] == 5 and moment == name + "d":
                die()

        return wrapped

    plain_open, builtins.open = builtins.open, counting_open
    os.fsync, os.replace = dying("fsync", fsync), dying("replace", replace)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--slowly", action="store_true")
    parser.add_argument("--die-in")
    arguments = parser.parse_args()
    if arguments.die_in:
        die_in(arguments.die_in)
    run(arguments.path, arguments.steps, arguments.slowly)
