"""What `watch` shows of one level and direction, in the user's layout.

Time-major, with a batch axis, in processing order; row 0 of states is the initial state. Nothing is
copied before it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minirnn.engine import Tensor, record
from minirnn.equations.plan import gate_nodes
from minirnn.kernels.passes import Gradients, Run
from minirnn.kernels.rows import Rows
from minirnn.layers.direction import Direction
from minirnn.layers.stepwise import Unrolled

Arrays = Mapping[str, np.ndarray]


class Lazy(Mapping[str, np.ndarray]):
    """A mapping whose values are made, once, when they are asked for."""

    def __init__(self, what: str, names: tuple[str, ...], make: Callable[[str], np.ndarray]) -> None:
        self._what, self._names, self._make = what, names, make
        self._made: dict[str, np.ndarray] = {}

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
        names = tuple(gate_nodes(run.cell))
        self.states = Lazy("states", run.cell.state, self._state)
        self.gates = Lazy("gates", names, self._gate)
        self._gradients: Any = None

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
        """Derivative by the value of a state, through everything that uses it.  (T+1, B, H)"""
        out: Arrays = self._after_backward("state_grads").state_grads
        return out

    @property
    def carried_grads(self) -> Arrays:
        """The same with the other states of the row held fixed.  (T+1, B, H)"""
        out: Arrays = self._after_backward("carried_grads").carried_grads
        return out

    @property
    def gate_grads(self) -> Arrays:
        """Derivative by ``wx.k``.  (T, B, H)"""
        out: Arrays = self._after_backward("gate_grads").gate_grads
        return out

    @property
    def recurrent_gate_grads(self) -> Arrays:
        """Derivative by ``u.k @ v``.  (T, B, H)"""
        out: Arrays = self._after_backward("recurrent_gate_grads").recurrent_gate_grads
        return out

    def pullback(self, d_output: Any = None, d_state: Any = None, clip: float | None = None) -> "View":
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
            d = checked("d_output (T, B, H)", d_output, (steps, batch, size))
            first = cell.state[0]
            total = rows.get(first, np.zeros((steps + 1, batch, size), dtype))
            total[1:] += d
            if self.lengths is not None:  # nothing reads the output after the length
                total[1:][np.arange(steps)[:, None] >= self.lengths] = 0
            rows[first] = total
        return final, rows


class _Gradients:
    """The four mappings of gradients of one backward pass."""

    def __init__(self, **mappings: Arrays) -> None:
        self.state_grads = mappings["state_grads"]
        self.carried_grads = mappings["carried_grads"]
        self.gate_grads = mappings["gate_grads"]
        self.recurrent_gate_grads = mappings["recurrent_gate_grads"]


class FusedView(View):
    """A view of fused passes: it reads the kernels' buffers."""

    _fused: Run

    def attach(self, made: Run) -> None:
        """Take note of the forward pass."""
        self._fused = made

    def tell(self, got: Gradients, final: Arrays) -> None:
        """Take note of a backward pass."""
        self._gradients = self._read(got, dict(final))

    def _pull(self, final: Arrays, rows: Arrays, clip: float | None) -> View:
        internal = {k: self._to_internal(v) for k, v in rows.items()}
        got = self._fused.backward(
            None, final, internal, weights=False, input=False, watch=True, clip=clip
        )
        view = FusedView(self._run)
        view.attach(self._fused)
        outside = {k: np.array(v) for k, v in final.items()}
        for k, v in rows.items():  # sequences of length 0 have no step: what reaches them stays
            outside[k] = outside.get(k, 0) + v[0]
        view.tell(got, outside)
        return view

    # Layout. Internal rows: group after group of living rows, sorted by length.

    def _places(self) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Return the rows, and step and sequence of each row of gate-like buffers."""
        rows = self._fused.rows
        t = np.repeat(np.arange(rows.steps), rows.alive[: rows.steps])
        return rows, t, rows.order[np.arange(rows.count) - rows.gate[t]]

    def _to_internal(self, user: np.ndarray) -> np.ndarray:
        """(T+1, B, H) in processing order -> rows of states (rows, padded)."""
        rows, t, b = self._places()
        k = self._fused.kernel
        out = np.zeros((len(rows.order) + rows.count, k.padded), k.dtype)
        out[: len(rows.order), : k.hidden] = user[0, rows.order]
        out[len(rows.order) :, : k.hidden] = user[t + 1, b]
        return out

    def _steps(self, living: np.ndarray) -> np.ndarray:
        """Rows of gates (count, H) -> (T, B, H), 0 after the length."""
        rows, t, b = self._places()
        steps, batch = self._fused.x_shape[:2]
        if rows.equal and rows.batch == batch and rows.count == steps * batch:
            return np.ascontiguousarray(living).reshape(steps, batch, -1)
        out = np.zeros((steps, batch, living.shape[1]), living.dtype)
        out[t, b] = living
        return out

    def _rows(self, buffer: np.ndarray) -> np.ndarray:
        """Rows of states (rows, padded) -> (T+1, B, H), 0 after the length."""
        k, rows = self._fused.kernel, self._fused.rows
        steps, batch = self._fused.x_shape[:2]
        out = np.zeros((steps + 1, batch, k.hidden), k.dtype)
        out[0, rows.order] = buffer[: len(rows.order), : k.hidden]
        out[1:] = self._steps(buffer[len(rows.order) :, : k.hidden])
        return out

    def _state(self, name: str) -> np.ndarray:
        out = self._rows(self._fused.states[name])
        index = self.cell.state.index(name)
        out[0] = self._run.state[index].numpy()
        if self.lengths is not None:
            t = np.arange(out.shape[0])[:, None]
            last = np.minimum(t, self.lengths)
            out = out[last, np.arange(out.shape[1])]
        return out

    def _gate(self, name: str) -> np.ndarray:
        plan, made = self._fused.kernel.plan, self._fused
        if name not in plan.gate_slots:  # the equations set it to something that is given
            return Unrolled(self._run).gates[name]
        slot = plan.gate_slots[name]
        kind, _, which = slot.buffer.partition(".")
        size = made.kernel.hidden
        if kind == "next":
            return self._steps(made.states[which][len(made.rows.order) :, :size])
        if kind == "operand":
            return self._steps(made.operands[int(which)][:, :size])
        if kind == "saved":
            return self._steps(made.kernel.members(made.saved, slot.member, slot.members))
        return Unrolled(self._run).gates[name]

    def _read(self, got: Gradients, final: Arrays) -> _Gradients:
        cell, made = self.cell, self._fused
        k, plan = made.kernel, made.kernel.plan
        idle = np.ones(made.x_shape[1], bool)
        idle[made.rows.order] = False

        def carried(name: str) -> np.ndarray:
            out = self._rows(got.buffers[f"carry.{name}"])
            if name in final:  # sequences of length 0: the last row is the first
                out[0, idle] = final[name][idle]
            return out

        def inner(name: str) -> np.ndarray:
            out = self._rows(got.buffers[f"inner.{name}"])
            out[0] = carried_grads[name][0]
            return out

        def gate(name: str) -> np.ndarray:
            at = 0
            for names in plan.segments:
                wide = len(names) * k.padded
                if name in names:
                    part = got.buffers["dx"][:, at : at + wide]
                    part = np.ascontiguousarray(part)
                    return self._steps(k.members(part, names.index(name), len(names)))
                at += wide
            raise KeyError(name)

        def block(name: str) -> np.ndarray:
            for g in plan.groups:
                if name in g.blocks:
                    if g.index in plan.shared:
                        return gate(name)
                    part = got.buffers[f"du.{g.index}"]
                    return self._steps(k.members(part, g.blocks.index(name), len(g.blocks)))
            return np.zeros((*made.x_shape[:2], k.hidden), k.dtype)  # a block declared unused

        carried_grads = Lazy("carried_grads", cell.state, carried)
        gradients = _Gradients(
            state_grads=Lazy("state_grads", cell.state, inner),
            carried_grads=carried_grads,
            gate_grads=Lazy("gate_grads", cell.gates, gate),
            recurrent_gate_grads=Lazy("recurrent_gate_grads", cell.products, block),
        )
        gradients.source = got  # type: ignore[attr-defined]  # keeps the buffers leased
        return gradients


class ReferenceView(View):
    """A view of the reference: it runs the steps again, one by one, when something is asked for."""

    _unrolled: Unrolled | None = None

    def unrolled(self) -> Unrolled:
        if self._unrolled is None:
            self._unrolled = Unrolled(self._run)
        return self._unrolled

    def _state(self, name: str) -> np.ndarray:
        return self.unrolled().states[name]

    def _gate(self, name: str) -> np.ndarray:
        return self.unrolled().gates[name]

    def _pull(self, final: Arrays, rows: Arrays, clip: float | None) -> View:
        view = ReferenceView(self._run)
        view._unrolled = self.unrolled()
        view._gradients = _Gradients(**view._unrolled.backward(dict(final), dict(rows), clip))
        return view

    def observe(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pass the outputs of a run on, noting the cotangents that come back through them."""
        if not any(t.requires_grad for t in outputs):
            return outputs

        def vjp(d_output: Any, *d_final: Any) -> tuple[Any, ...]:
            plain = [d.numpy() if isinstance(d, Tensor) else d for d in (d_output, *d_final)]
            self._note(plain[0], plain[1:])
            return (d_output, *d_final)

        return record([t._data for t in outputs], outputs, vjp, name="watch")

    def _note(self, d_output: np.ndarray | None, d_final: list[np.ndarray | None]) -> None:
        final = {k: d for k, d in zip(self.cell.state, d_final, strict=True) if d is not None}
        if d_output is not None:
            order = self._run.processing_order()
            if order is not None:
                flat = d_output.reshape(-1, d_output.shape[2])
                d_output = flat[order.reshape(-1)].reshape(d_output.shape)
        _, rows = self._cotangents(d_output, None)
        self._gradients = _Gradients(**self.unrolled().backward(final, rows, None))
