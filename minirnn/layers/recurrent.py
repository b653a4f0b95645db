"""Recurrent: any cell as a layer, stacked, in both directions, over sequences of any length."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minirnn import cells, engine
from minirnn.engine import Tensor, concat, no_grad, stack
from minirnn.engine.random import generator
from minirnn.equations import Cell
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.layers import arguments, reference
from minirnn.layers import init as initialisers
from minirnn.layers.call import Call, Watchers
from minirnn.layers.direction import Direction, upper_mask
from minirnn.layers.embedding import Embedding
from minirnn.layers.fused import run_fused
from minirnn.layers.fused_view import FusedView
from minirnn.layers.module import Module, module_rng, positive
from minirnn.layers.packed import PackedWeights
from minirnn.layers.reference_view import ReferenceView
from minirnn.layers.single import Steppers
from minirnn.layers.views import View


class Recurrent(Module):
    """A layer of any cell, by its name in the registry or made with `minirnn.cell`.

    Parameters
    ----------
    cell
        A `Cell`, or the name of one in `minirnn.cells`.
    input_size, hidden_size
        I and H.
    num_layers
        L levels; each reads the output of the level below.
    bias
        Whether there are ``bias_ih`` and ``bias_hh``.
    batch_first
        x and output are (B, T, ...); states are not touched.
    dropout
        Probability of dropout between levels, in training mode.
    bidirectional
        Run a second direction from the end of each sequence; D is 2 then, else 1.
    skew
        Level j >= 1 reads the state of the level below one step earlier.
    dtype
        float32 or float64.
    seed
        For the initial weights; the global generator draws them if it is not given.
    init
        A dict from "weight_ih", "weight_hh", "bias" or "vector" to an initialiser of
        `minirnn.init`; what is not listed is uniform in +-1/sqrt(H), as in PyTorch.

    Parameters are named as in PyTorch: ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (P*H, H),
    ``bias_ih_l0`` (G*H,), ``bias_hh_l0`` (H for each block that has a bias), ``vector_<name>_l0``
    (H,); other levels by their number, the reverse direction with the suffix ``_reverse``.
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        skew: bool = False,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        init: dict[str, Any] | None = None,
        proj_size: int = 0,
    ) -> None:
        place = type(self).__name__
        self.cell = arguments.checked_cell(
            place, cells.get(cell) if isinstance(cell, str) else cell
        )
        self.input_size = positive(place, "input_size", input_size)
        self.hidden_size = positive(place, "hidden_size", hidden_size)
        self.num_layers = positive(place, "num_layers", num_layers)
        arguments.check_options(place, self.cell, dropout, bidirectional, skew, proj_size)
        self.bias, self.batch_first, self.dropout = bool(bias), bool(batch_first), float(dropout)
        self.bidirectional, self.skew = bool(bidirectional), bool(skew)
        self._watchers = Watchers()
        self._packed: dict[tuple[int, int], PackedWeights] = {}
        self._steppers = Steppers()
        self._make_parameters(arguments.checked_dtype(place, dtype), module_rng(seed), init or {})

    @property
    def directions(self) -> int:
        """D: 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the parameters."""
        dtype: np.dtype = vars(self)["weight_ih_l0"].dtype
        return dtype

    def extra_repr(self) -> str:
        """Show what differs from the defaults."""
        words = [repr(self.cell.name), str(self.input_size), str(self.hidden_size)]
        if self.num_layers > 1:
            words.append(f"num_layers={self.num_layers}")
        words += [f"{n}=True" for n in ("batch_first", "bidirectional", "skew") if getattr(self, n)]
        return ", ".join(words)

    # Parameters

    def _shapes(self, level: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one level's parameters by kind."""
        c, size = self.cell, self.hidden_size
        width = self.input_size if level == 0 else self.directions * size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (len(c.gates) * size, width),
            "weight_hh": (len(c.products) * size, size),
        }
        if self.bias:
            shapes |= {"bias_ih": (len(c.gates) * size,), "bias_hh": (len(c.biased) * size,)}
        return shapes | {f"vector_{k}": (size,) for k in c.vectors}

    def _make_parameters(
        self, dtype: np.dtype, rng: np.random.Generator, init: dict[str, Any]
    ) -> None:
        known = ("weight_ih", "weight_hh", "bias", "vector")
        for kind in init:
            if kind not in known:
                raise ValueError(
                    f"{type(self).__name__}: init has {kind!r}; the kinds of parameters are "
                    f"{', '.join(known)}"
                )
        chosen = {kind: initialisers.resolve(given) for kind, given in init.items()}
        for level in range(self.num_layers):
            for direction in range(self.directions):
                suffix = _suffix(level, direction)
                arrays = self._draw(level, dtype, rng, chosen)
                mask = upper_mask(self.cell, self.hidden_size, dtype)
                if mask is not None:
                    arrays["weight_hh"] = arrays["weight_hh"] * mask
                for kind, array in arrays.items():
                    setattr(self, f"{kind}_{suffix}", Tensor(array, requires_grad=True))
                self._packed[level, direction] = PackedWeights()

    def _draw(
        self, level: int, dtype: np.dtype, rng: np.random.Generator, chosen: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        c, size = self.cell, self.hidden_size
        bound = 1.0 / np.sqrt(size)
        out: dict[str, np.ndarray] = {}
        for kind, shape in self._shapes(level).items():
            family = kind.split("_")[0] if kind.startswith(("bias", "vector")) else kind
            make = chosen.get(family)
            first = c.vector_init.get(kind.removeprefix("vector_")) if family == "vector" else None
            if first is not None and make is None:
                out[kind] = np.full(shape, first, dtype)
            elif make is None:
                out[kind] = rng.uniform(-bound, bound, shape).astype(dtype)
            elif hasattr(make, "bias"):
                if family != "bias":
                    raise ValueError(f"{type(self).__name__}: {make} is for init['bias'] only")
                both = make.bias(c.gates, c.biased, size, rng, dtype) if kind == "bias_ih" else None
                if both is not None:
                    out["bias_ih"], out["bias_hh"] = both
            elif len(shape) == 2:  # weights are initialised block by block
                parts = [make((size, shape[1]), rng, dtype) for _ in range(shape[0] // size)]
                out[kind] = np.concatenate(parts) if parts else np.zeros(shape, dtype)
            else:
                out[kind] = make(shape, rng, dtype)
        return out

    def check_loaded(self, name: str, array: np.ndarray) -> None:
        """Refuse entries of ``weight_hh`` outside the blocks' triangle, which must be 0."""
        mask = upper_mask(self.cell, self.hidden_size, array.dtype)
        if mask is not None and name.startswith("weight_hh") and (array * (1 - mask)).any():
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: {name} must be 0 where a module would "
                f"read a lower one (blocks {', '.join(self.cell.upper)} of cell "
                f"{self.cell.name!r} are upper triangular over its modules); set them to 0"
            )

    def _direction_parameters(self, level: int, direction: int) -> dict[str, Tensor]:
        suffix = _suffix(level, direction)
        return {kind: getattr(self, f"{kind}_{suffix}") for kind in self._shapes(level)}

    # Forward

    def forward(
        self, x: Any, state: Any = None, lengths: Any = None, start: int = 0,
        embedding: Embedding | Tensor | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """Run the layer over a batch of sequences.

        Parameters
        ----------
        x
            (T, B, I), (B, T, I) if ``batch_first``, or (T, I) without a batch.
        state
            Initial state, zeros if None: an array (L*D, B, H), or a tuple of them in the order of
            the cell's states if it has several; (L*D, H) without a batch.
        lengths
            (B,) whole numbers from 0 to T. After its length a sequence's output is 0 and its
            state stays; padding influences nothing.
        start
            Index of the first step, for cells that use it.
        embedding
            An `Embedding`, or its table (V, I), that x is to be looked up in: x is then integers
            without the last axis, and the call means ``layer(embedding(x), ...)``. Where a batch
            has at least V ids, W_ih times the table is formed once instead of W_ih times every
            row: faster, and equal to rounding.

        Returns
        -------
        output
            The first state of the last level after every step, (T, B, D*H), laid out like x.
        state
            The last states, laid out like ``state``.
        """
        place = type(self).__name__
        x, ids, batched = self._read(x, embedding)
        steps, batch = x.shape[:2] if ids is None else ids.shape
        lengths = arguments.checked_lengths(place, lengths, steps, batch, batched)
        states = arguments.checked_state(
            place, state, self.cell, self.num_layers * self.directions, batch, self.hidden_size,
            self.dtype, batched,
        )  # fmt: skip
        start = arguments.checked_start(place, start)
        views: dict[tuple[int, int], View] = {}
        finals: list[tuple[Tensor, ...]] = []
        level_input = x
        lowest: tuple[Tensor, ...] = ()
        if "below" in self.cell.arguments:
            zero = Tensor(np.zeros((steps, batch, self.hidden_size), self.dtype))
            lowest = (zero,) * len(self.cell.state)
        below = [lowest] * self.directions
        for level in range(self.num_layers):
            outputs = []
            for direction in range(self.directions):
                index = level * self.directions + direction
                run = Direction(
                    self.cell, self.hidden_size, self._direction_parameters(level, direction),
                    level_input, _each(states, index), below[direction], lengths,
                    direction == 1, start, ids if level == 0 else None,
                )  # fmt: skip
                output, *others = self._run(run, (level, direction), views)
                outputs.append(output)
                finals.append(tuple(others[: len(states)]))
                below[direction] = (output, *others[len(states) :]) if lowest else ()
            joined = outputs[0] if len(outputs) == 1 else concat(outputs, dim=2)
            if level + 1 < self.num_layers:
                level_input = self._between(
                    joined, states[0][level] if self.skew else None, lengths
                )
        self._remember(views)
        return self._lay_out(joined, finals, batched)

    def _read(
        self, x: Any, embedding: Embedding | Tensor | None
    ) -> tuple[Tensor, np.ndarray | None, bool]:
        """Return what the lowest level reads: x (T, B, I) and None, or a table and ids (T, B).

        And whether there was a batch axis.
        """
        place, size, first = type(self).__name__, self.input_size, self.batch_first
        if embedding is None:
            given, batched = arguments.checked_x(place, x, size, self.dtype, first)
            return given, None, batched
        ids, table, batched = arguments.checked_ids(place, x, embedding, size, self.dtype, first)
        if ids.size < table.shape[0]:  # fewer rows than the table has: nothing to gain
            return engine.embedding(ids, table), None, batched
        return table, ids, batched

    def _run(
        self, run: Direction, place: tuple[int, int], views: dict[tuple[int, int], View]
    ) -> tuple[Tensor, ...]:
        """Run one level and direction, fused or by the reference."""
        watched = bool(self._watchers)
        if JIT_DISABLED or reference.forced():
            run = run.unfolded()
            outputs = reference.run_reference(run)
            if watched:
                shown = views[place] = ReferenceView(run)
                outputs = shown.observe(outputs)
            return outputs
        view = FusedView(run.unfolded()) if watched else None
        if view is not None:
            view.keep = any([seen.keep for seen in self._watchers])
            views[place] = view
        return run_fused(run, self._packed[place], view)

    def _between(
        self, output: Tensor, initial: Tensor | None, lengths: np.ndarray | None
    ) -> Tensor:
        """Return what the next level reads: skewed, and with dropout in training."""
        if initial is not None:
            rows = initial.reshape(1, *initial.shape)
            output = concat([rows, output[:-1]], dim=0) if output.shape[0] else output
        if self.dropout and self.training:
            kept = generator().random(output.shape, dtype=np.float32) >= self.dropout
            scale = 1.0 / (1.0 - self.dropout) if self.dropout < 1.0 else 0.0
            output = output * (kept * scale).astype(output.dtype)
        return output

    def _remember(self, views: dict[tuple[int, int], View]) -> None:
        if self._watchers:
            for seen in self._watchers:
                seen.calls.append(Call(views))

    def _lay_out(
        self, output: Tensor, finals: list[tuple[Tensor, ...]], batched: bool
    ) -> tuple[Tensor, Any]:
        if len(finals) == 1:  # to show the same numbers costs less than to copy them
            states = tuple([s.reshape(1, *s.shape) for s in finals[0]])
        else:
            states = tuple(stack(list(parts), dim=0) for parts in zip(*finals, strict=True))
        if not batched:
            output = output[:, 0]
            states = tuple(s[:, 0] for s in states)
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, states if len(states) > 1 else states[0]

    def step(self, x_t: Any, state: Any = None, start: int = 0) -> Any:
        """Run one step without a tape and return the new state; the same bits as the sequence.

        x_t: (B, I) or (I,); state as in ``forward``; the output is the first state's last level.
        """
        place = f"{type(self).__name__}.step"
        if self.bidirectional:
            raise ValueError(
                f"{place}: a bidirectional layer needs the whole sequence; call the layer on it"
            )
        if self._steps_plainly():
            out = self._steppers.step(self, x_t, state, start)
            if out is not None:
                return tuple(out) if len(out) > 1 else out[0]
        x_t = arguments.checked_step(place, x_t, self.input_size, self.dtype)
        with no_grad():
            x = x_t.reshape(1, *x_t.shape)
            if self.batch_first and x_t.ndim == 2:
                x = x.transpose(0, 1)
            return self(x, state, start=start)[1]

    def _steps_plainly(self) -> bool:
        """Whether a step is nothing but the kernels of its levels, one after the other."""
        return not (
            self._watchers or self.skew or JIT_DISABLED or "below" in self.cell.arguments
            or (self.dropout and self.training) or reference.forced()
        )  # fmt: skip

    def single_step_runs(self, batch: int) -> tuple[list[Direction], list[PackedWeights]]:
        """Return every level's direction for one step of a batch, and its packed weights."""
        runs = []
        for level in range(self.num_layers):
            width = self.hidden_size if level else self.input_size
            x = Tensor(np.zeros((1, batch, width), self.dtype))
            state = Tensor(np.zeros((batch, self.hidden_size), self.dtype))
            runs.append(Direction(
                self.cell, self.hidden_size, self._direction_parameters(level, 0), x,
                (state,) * len(self.cell.state), (), None, False, 0,
            ))  # fmt: skip
        return runs, [self._packed[level, 0] for level in range(self.num_layers)]

    def explain(self, x_t: Any, state: Any = None, start: int = 0) -> str:
        """Return every equation of one step with the numbers it gives, gate by gate.

        x_t: (B, I) or (I,), of which the first sequence is shown; state as in ``forward``. Dropout
        is off. The equations without numbers: ``layer.cell.explain()``.
        """
        from minirnn.layers.explained import explained_step  # which stands above this module

        return explained_step(self, x_t, state, start)


def _each(states: tuple[Tensor, ...], index: int) -> tuple[Tensor, ...]:
    """Return entry ``index`` of every state (L*D, B, H)."""
    if len(states[0]._data) == 1:
        return tuple([s.reshape(s.shape[1:]) for s in states])
    return tuple([s[index] for s in states])


def _suffix(level: int, direction: int) -> str:
    return f"l{level}" + ("_reverse" if direction else "")
