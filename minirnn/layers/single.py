"""One step at a time without a tape: `Recurrent.step` without what a sequence needs around it."""

from operator import itemgetter
from typing import Any

import numpy as np

from minirnn.engine import Tensor, tape
from minirnn.engine.tape import constant
from minirnn.kernels.cellkernel import cell_kernel
from minirnn.kernels.onestep import OneStep
from minirnn.layers.direction import Direction
from minirnn.layers.packed import PackedWeights

Arrays = tuple[np.ndarray, ...]


class SingleStep:
    """One step of a layer for a batch size.

    runs: one direction per level, whose x and states are examples of the shapes; weights: packed
    weights of each.
    """

    def __init__(self, runs: list[Direction], weights: list[PackedWeights]) -> None:
        self._runs, self._weights = runs, weights
        named = {
            f"{kind}_l{level}": parameter
            for level, run in enumerate(runs)
            for kind, parameter in run.parameters.items()
        }
        self._look_up, self._parameters = itemgetter(*named), tuple(named.values())
        batch, features = runs[0].x.shape[1:]
        self.dtype, self._written = runs[0].dtype, -1
        self.shape = (len(runs), batch, runs[0].hidden_size)  # of a state, (L, B, H)
        self._step = OneStep(
            [cell_kernel(r.cell, r.dtype, r.hidden_size) for r in runs], batch, features
        )

    def fits(self, layer: Any) -> bool:
        """Whether the layer still has the parameters, and the dtype, that this was made for."""
        same: bool = self._look_up(vars(layer)) == self._parameters
        return same and self._parameters[0].dtype == self.dtype

    def run(self, x: np.ndarray, states: Arrays, start: int) -> Arrays:
        """Run a step. x: (B, I) contiguous; states: (L, B, H) each, of which new ones come out."""
        written = tape.last_write
        if written != self._written:  # some tensor, maybe one of ours
            weights = zip(self._weights, self._runs, strict=True)
            self._step.bind(packed.get(run) for packed, run in weights)
            self._written = written
        out = tuple([np.empty(self.shape, self.dtype) for _ in states])
        self._step.run(x, states, out, start)
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
        batch, features = array.shape
        if not batch or features != layer.input_size or type(start) is not int:
            return None
        try:
            waiting = self._waiting.setdefault(batch, [])
            stepper = waiting.pop()  # atomic: another thread may step the same layer
            if not stepper.fits(layer):
                stepper = SingleStep(*layer.single_step_runs(batch))
        except IndexError:
            stepper = SingleStep(*layer.single_step_runs(batch))
        states = _arrays(state, len(layer.cell.state), stepper.shape, stepper.dtype)
        out = None
        if states is not None and array.dtype == stepper.dtype:
            out = [constant(s) for s in stepper.run(array, states, start)]
        waiting.append(stepper)
        return out


def _arrays(state: Any, count: int, shape: tuple[int, ...], dtype: np.dtype) -> Arrays | None:
    """Return a state as arrays of one shape and dtype, zeros for None, or None if it is not so."""
    if state is None:
        return tuple([np.zeros(shape, dtype) for _ in range(count)])
    given = state if isinstance(state, tuple) else (state,)
    arrays = tuple([s._data if isinstance(s, Tensor) else s for s in given])
    for a in arrays:
        if (
            type(a) is not np.ndarray or a.shape != shape or a.dtype != dtype
            or not a.flags.c_contiguous
        ):  # fmt: skip
            return None
    return arrays if len(arrays) == count else None
