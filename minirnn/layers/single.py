"""One step at a time without a tape: `Recurrent.step` without what a sequence needs around it."""

from typing import Any

import numpy as np

from minirnn.engine import Tensor
from minirnn.engine.tape import constant
from minirnn.kernels import celltype
from minirnn.kernels.cellkernel import cell_kernel
from minirnn.kernels.frame import Frame
from minirnn.kernels.rows import arrange
from minirnn.layers.direction import Direction
from minirnn.layers.packed import PackedWeights

Arrays = list[np.ndarray]


class SingleStep:
    """The frames of one step of a layer for a batch size; one step at a time runs in them.

    runs: one direction per level, whose x and states are examples of the shapes; weights: packed
    weights of each.
    """

    def __init__(self, runs: list[Direction], weights: list[PackedWeights]) -> None:
        self.runs, self.weights = runs, weights
        self.batch = runs[0].x.shape[1]
        rows = arrange(1, self.batch, None, False)
        self.frames = [
            Frame(cell_kernel(r.cell, r.dtype, r.hidden_size), rows, r.x.shape[2], False, ())
            for r in runs
        ]
        first = self.frames[0].kernel
        columns = self.frames[0].x_rows.shape[1]
        self._dtype = runs[0].dtype
        self.flops = 2.0 * self.batch * columns * (runs[0].x.shape[2] + first.hidden)

    def fits(self, layer: Any) -> bool:
        """Whether the layer still has the parameters, and the dtype, that this was made for."""
        here = vars(layer)
        return layer.dtype == self._dtype and all(
            here.get(f"{kind}_l{level}") is parameter
            for level, run in enumerate(self.runs)
            for kind, parameter in run.parameters.items()
        )

    def run(self, x: np.ndarray, states: Arrays, start: int) -> Arrays:
        """Run a step. x: (B, I) contiguous; states: (L, B, H) each, of which new ones come out."""
        batch, size = self.batch, self.runs[0].hidden_size
        out = [np.empty_like(s) for s in states]
        for level, (run, packed, frame) in enumerate(
            zip(self.runs, self.weights, self.frames, strict=True)
        ):
            buffers = list(frame.states.values())
            for buffer, given in zip(buffers, states, strict=True):
                buffer[:batch, :size] = given[level]
            frame.bind(packed.get(run), x)
            frame.descriptor.set(START=start)
            frame.descriptor.run(celltype.FORWARD, self.flops)
            for buffer, made in zip(buffers, out, strict=True):
                made[level] = buffer[batch:, :size]
            x = out[0][level]
        return out


class Steppers:
    """The `SingleStep`s of a layer by batch size; copied and pickled as an empty one."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[SingleStep]] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Steppers, ()

    def step(self, layer: Any, x: Any, state: Any, start: int) -> list[Tensor] | None:
        """Run a step if x and state need no conversion; returns the states, (L, B, H) each.

        None where something is unusual, or wrong: the ordinary way deals with it.
        """
        array = x._data if isinstance(x, Tensor) else x
        if type(array) is not np.ndarray or array.ndim != 2 or not array.flags.c_contiguous:
            return None
        batch = array.shape[0]
        if array.dtype != layer.dtype or array.shape[1] != layer.input_size or not batch:
            return None
        shape = (layer.num_layers, batch, layer.hidden_size)
        states = _arrays(state, len(layer.cell.state), shape, layer.dtype)
        if states is None or type(start) is not int:
            return None
        waiting = self._waiting.setdefault(batch, [])
        try:
            stepper = waiting.pop()  # atomic: another thread may step the same layer
        except IndexError:
            stepper = None
        if stepper is None or not stepper.fits(layer):
            stepper = SingleStep(*layer.single_step_runs(batch))
        out = stepper.run(array, states, start)
        waiting.append(stepper)
        return [constant(s) for s in out]


def _arrays(state: Any, count: int, shape: tuple[int, ...], dtype: np.dtype) -> Arrays | None:
    """Return a state as arrays of one shape and dtype, zeros for None, or None if it is not so."""
    if state is None:
        return [np.zeros(shape, dtype) for _ in range(count)]
    given = state if isinstance(state, tuple) else (state,)
    arrays = [s._data if isinstance(s, Tensor) else s for s in given]
    fits = len(arrays) == count and all(
        type(a) is np.ndarray and a.shape == shape and a.dtype == dtype for a in arrays
    )
    return arrays if fits else None
