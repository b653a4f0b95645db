"""What `watch` shows of one level and direction, in the user's layout.

Time-major, with a batch axis, in processing order; row 0 of states is the initial state. Nothing is
copied before it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minirnn.engine import Tensor
from minirnn.equations.levels import gate_nodes
from minirnn.layers.contributions import operands, vector_gradients
from minirnn.layers.direction import Direction
from minirnn.layers.evaluate import Inputs, Values
from minirnn.layers.jacobians import (
    Chosen,
    check_size,
    chosen_of,
    mean_jacobian,
    step_jacobians,
)
from minirnn.layers.reference import read

Arrays = Mapping[str, np.ndarray]


class Lazy(Mapping[str, np.ndarray]):
    """A mapping whose values are made, once, when they are asked for.

    made: where they are kept, for an owner that must not hold the mapping because ``make`` is a
    method of it: only the garbage collector would free such a ring, with all buffers of a pass.
    """

    def __init__(
        self, what: str, names: tuple[str, ...], make: Callable[[str], np.ndarray],
        made: dict[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self._what, self._names, self._make = what, names, make
        self._made: dict[str, np.ndarray] = {} if made is None else made

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(f"{self._what} has no {name!r}; there are {', '.join(self._names)}")
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{self._what}: {', '.join(self._names)}"


class View:
    """One level and direction of one call: states, gates, and gradients after a backward pass."""

    def __init__(self, run: Direction) -> None:
        self._run = run.detached()
        self.cell = run.cell
        self.lengths = run.lengths
        self._states: dict[str, np.ndarray] = {}
        self._gates: dict[str, np.ndarray] = {}
        self._gradients: Any = None
        self._versions = [t.version for t in self._run.inputs]

    @property
    def states(self) -> Arrays:
        """States before and after every step, (T+1, B, H); row 0 is the initial state."""
        return Lazy("states", self.cell.state, self._state, self._states)

    @property
    def gates(self) -> Arrays:
        """Gates at every step, (T, B, H)."""
        return Lazy("gates", tuple(gate_nodes(self.cell)), self._gate, self._gates)

    def _state(self, name: str) -> np.ndarray:
        raise NotImplementedError

    def _gate(self, name: str) -> np.ndarray:
        raise NotImplementedError

    @property
    def has_gradients(self) -> bool:
        """Whether a backward pass has been recorded."""
        return self._gradients is not None

    def _after_backward(self, what: str) -> Any:
        if self._gradients is None:
            raise RuntimeError(
                f"watch: {what} is known after a backward pass through this call; call backward() "
                "on a loss of its output (a forward under no_grad has none), or use pullback"
            )
        return self._gradients

    @property
    def state_grads(self) -> Arrays:
        """Derivative by the value of a state, through all that uses it, (T+1, B, H)."""
        out: Arrays = self._after_backward("state_grads").state_grads
        return out

    @property
    def carried_grads(self) -> Arrays:
        """The same with the other states of the row held fixed, (T+1, B, H)."""
        out: Arrays = self._after_backward("carried_grads").carried_grads
        return out

    @property
    def gate_grads(self) -> Arrays:
        """Derivative by ``wx.k``, (T, B, H)."""
        out: Arrays = self._after_backward("gate_grads").gate_grads
        return out

    @property
    def recurrent_gate_grads(self) -> Arrays:
        """Derivative by ``u.k @ v``, (T, B, H)."""
        out: Arrays = self._after_backward("recurrent_gate_grads").recurrent_gate_grads
        return out

    @property
    def inputs(self) -> np.ndarray:
        """What this level and direction reads, (T, B, I) in processing order; padding is 0."""
        self._check_unwritten("inputs")
        return read(self._run).numpy()

    @property
    def operands(self) -> Arrays:
        """The vector that each block of the recurrent matrix is multiplied with, (T, B, H).

        So that ``dU_k`` is the sum over steps of ``recurrent_gate_grads[k]^T operands[k]``. Blocks
        that are multiplied with the same vector share one array.
        """
        return operands(self._given("operands"), self.lengths)

    @property
    def vector_grads(self) -> Arrays:
        """Each step's share in the derivative by the vector parameters, (T, B, H)."""
        carried = self.carried_grads
        return vector_gradients(self._given("vector_grads"), carried, self.lengths)

    def pullback(
        self, d_output: Any = None, d_state: Any = None, clip: float | None = None
    ) -> "View":
        """Run the recurrence backward again from other cotangents, without weight gradients.

        Parameters
        ----------
        d_output
            (T, B, H) in this record's order, added to the first state of rows 1 to T.
        d_state
            An array or a tuple with one per state, (B, H): added at each sequence's last row; or
            a dict from state name to (T+1, B, H): added at every row.
        clip
            Each sequence's gradient, all states jointly, is scaled to at most this norm before
            every step back.

        Returns a record with the gradients of this pass. May be called any number of times, before
        or after backward.
        """
        final, rows = self._cotangents(d_output, d_state)
        if clip is not None and not clip > 0:
            raise ValueError(f"pullback: clip must be a positive norm, got {clip}")
        return self._pull(final, rows, clip)

    def _pull(self, final: Arrays, rows: Arrays, clip: float | None) -> "View":
        raise NotImplementedError

    def _cotangents(
        self, d_output: Any, d_state: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        cell, dtype = self.cell, self._run.dtype
        steps, batch = self._run.x.shape[:2]
        size = self._run.hidden_size

        def checked(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
            array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
            if array.shape != shape:
                raise ValueError(f"pullback: {name} must have shape {shape}, got {array.shape}")
            return array.astype(dtype)

        final: dict[str, np.ndarray] = {}
        rows: dict[str, np.ndarray] = {}
        if isinstance(d_state, Mapping):
            for k, v in d_state.items():
                if k not in cell.state:
                    raise ValueError(
                        f"pullback: d_state has {k!r}; the states are {', '.join(cell.state)}"
                    )
                rows[k] = checked(f"d_state[{k!r}] (T+1, B, H)", v, (steps + 1, batch, size))
        elif d_state is not None:
            given = d_state if isinstance(d_state, (tuple, list)) else (d_state,)
            if len(given) != len(cell.state):
                raise ValueError(
                    f"pullback: d_state must hold one array per state ({', '.join(cell.state)}), "
                    f"got {len(given)}"
                )
            for k, v in zip(cell.state, given, strict=True):
                if v is not None:
                    array = np.asarray(v.numpy() if isinstance(v, Tensor) else v)
                    array = array[0] if array.shape == (1, batch, size) else array
                    final[k] = checked(f"d_state of {k} (B, H)", array, (batch, size))
        if d_output is not None:
            first = cell.state[0]
            d = checked("d_output (T, B, H)", d_output, (steps, batch, size))
            rows[first] = self.after_every_step(d) + rows.get(first, 0)
        return final, rows

    def _check_unwritten(self, what: str) -> None:
        if [t.version for t in self._run.inputs] != self._versions:
            raise RuntimeError(
                f"watch: {what} is computed from the parameters and the input when it is asked "
                "for, and one of them has been written to since; ask before the optimizer's step"
            )

    def _given(self, what: str) -> Inputs:
        """Return what was given to every step, if it still is what it was."""
        self._check_unwritten(what)
        return Inputs(self._run, self.states)

    def values(self, t: int, b: int) -> Values:
        """Return the values of the equations at step t of sequence b, by nodes of the graph."""
        return self._given("values").at(np.array([t]), np.array([b]))

    def step_jacobians(self, steps: Chosen = None, sequences: Chosen = None) -> np.ndarray:
        """Return the Jacobian of every step, all states side by side, (T, B, S, S).

        ``[t, b, i, j]`` is the derivative of entry i of row t + 1 of the states by entry j of row
        t, with the input held fixed; ``stop`` passes none. Padded steps are the identity.

        Parameters
        ----------
        steps, sequences
            Which: the first so many, a slice, or their indices; None: all T, all B.
        """
        total, batch = self._run.x.shape[:2]
        chosen = chosen_of("steps", steps, total)
        some = chosen_of("sequences", sequences, batch)
        size = len(self.cell.state) * self._run.hidden_size
        check_size(len(chosen), len(some), size, self._run.dtype.itemsize)
        return step_jacobians(self._given("step_jacobians"), self.lengths, chosen, some)

    def mean_jacobian(self, sequences: Chosen = None) -> np.ndarray:
        """Return the mean of the Jacobians of all steps, (S, S), in float64.

        A few products over all steps, where no product takes what another one gave: none of the
        Jacobians is written down. Padded steps do not count; NaN where there is no other.

        Parameters
        ----------
        sequences
            Which: the first so many, a slice, or their indices; None: all B.
        """
        some = chosen_of("sequences", sequences, self._run.x.shape[1], "mean_jacobian")
        return mean_jacobian(self._given("mean_jacobian"), self.lengths, some)

    def after_every_step(self, d: np.ndarray) -> np.ndarray:
        """Return (T, B, H) as rows of states (T+1, B, H): nothing is read after the length."""
        total = np.zeros((d.shape[0] + 1, *d.shape[1:]), d.dtype)
        total[1:] = d
        if self.lengths is not None:
            total[1:][np.arange(d.shape[0])[:, None] >= self.lengths] = 0
        return total


class ViewGradients:
    """The four mappings of gradients of one backward pass."""

    def __init__(self, **mappings: Arrays) -> None:
        self.state_grads = mappings["state_grads"]
        self.carried_grads = mappings["carried_grads"]
        self.gate_grads = mappings["gate_grads"]
        self.recurrent_gate_grads = mappings["recurrent_gate_grads"]
