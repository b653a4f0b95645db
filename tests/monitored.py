"""Training loops to be monitored: small, seeded, the same with a monitor and without."""

import numpy as np

import diagnostics as dg
import minirnn

STEPS, BATCH, INPUTS, OUTPUTS = 12, 8, 5, 3


class Net(minirnn.Module):
    """A recurrent layer, and a linear one on top."""

    def __init__(self, cell="lstm", size=8, seed=1, **options):
        self.rnn = minirnn.Recurrent(cell, INPUTS, size, seed=seed, **options)
        width = size * self.rnn.directions
        self.out = minirnn.Linear(width, OUTPUTS, dtype=self.rnn.dtype, seed=seed + 1)

    def forward(self, x, lengths=None):
        return self.out(self.rnn(x, lengths=lengths)[0])


def batches(count, seed=3, lengths=False, dtype="float32"):
    """Yield x (T, B, I), y (T, B, O), and lengths (B,) or None."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = rng.standard_normal((STEPS, BATCH, INPUTS)).astype(dtype)
        y = rng.standard_normal((STEPS, BATCH, OUTPUTS)).astype(dtype)
        drawn = rng.integers(1, STEPS + 1, BATCH)
        yield x, y, drawn if lengths else None


def train(
    net, count, monitor=None, *, before=False, lengths=False, clip=0.2, optimizer=None, seed=3
):
    """Train; monitor.step is called after the optimizer's step, or before it."""
    minirnn.manual_seed(0)
    optimizer = optimizer or minirnn.Adam(net.parameters(), lr=0.01)
    for x, y, drawn in batches(count, seed, lengths, net.rnn.dtype):
        optimizer.zero_grad()
        loss = minirnn.mse_loss(net(x, drawn), y)
        loss.backward()
        info = None if clip is None else minirnn.clip_grad_norm(net.parameters(), clip)
        if monitor is not None and before:
            monitor.step(loss, info)
        optimizer.step()
        if monitor is not None and not before:
            monitor.step(loss, info)
    return net


def monitored(count, every=1, net=None, path=None, level="cheap", **options):
    """Train a net with a monitor that is closed at the end."""
    net = Net() if net is None else net
    loop = {k: options.pop(k) for k in ("before", "lengths", "clip", "optimizer") if k in options}
    with dg.Monitor(net, every=every, level=level, path=path, **options) as monitor:
        train(net, count, monitor, **loop)
    return monitor
