"""Optimizer: what all update rules share - groups, kept arrays, stepping, saving and loading."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minirnn.engine import Tensor
from minirnn.engine.tape import wrote
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.kernels.flat import by_dtype, table_of
from minirnn.kernels.spread import spread
from minirnn.layers import reference
from minirnn.layers.module import owns_memory

Array = NDArray[Any]
Options = dict[str, Any]

_COST = 0.6  # nanoseconds an entry


@dataclass(frozen=True)
class Update:
    """What a step does to one parameter: contiguous arrays of one shape and dtype.

    p: the parameter; g: its gradient; kept: what the rule keeps between steps, by name; t: number
    of the step, from 1.
    """

    parameter: Tensor
    p: Array
    g: Array
    kept: dict[str, Array]
    t: int


class Optimizer:
    """Base: parameter groups, kept arrays, ``step``, saving and loading.

    ``params`` are Tensors, or dicts with the key ``params`` and options for these alone.
    ``state_dict`` has PyTorch's layout and names, so that either library's can be loaded.

    A rule is written twice: as a formula (``_rule``), and as a kernel (``_kernel``, which reads the
    numbers that ``_numbers`` lists and the arrays ``_kept``). Both give the same bits.
    """

    _kernel: ClassVar[Callable[..., None]]
    _kept: ClassVar[tuple[str, ...]]

    def __init__(
        self, params: Iterable[Tensor] | Iterable[Mapping[str, Any]], defaults: Options
    ) -> None:
        self.defaults = defaults
        self.param_groups: list[Options] = []
        self.state: dict[int, dict[str, Any]] = {}
        listed = _listed(type(self).__name__, params)
        groups = listed if isinstance(listed[0], Mapping) else [{"params": listed}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own; options not given are the optimizer's."""
        place = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{place}: a parameter group must be a dict with the key 'params'")
        unknown = sorted(set(group) - set(self.defaults) - {"params"})
        if unknown:
            raise ValueError(
                f"{place}: a parameter group has unknown options {unknown}; "
                f"known are {sorted(self.defaults)}"
            )
        params = _listed(place, group["params"])
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for parameter in params:
            if not isinstance(parameter, Tensor):
                raise TypeError(f"{place}: params must be Tensors, got {type(parameter).__name__}")
            if not owns_memory(parameter):
                raise ValueError(
                    f"{place}: params must be leaves, got the result of an operation; "
                    "pass the Tensor it was computed from"
                )
            if id(parameter) in known:
                raise ValueError(
                    f"{place}: a parameter of shape {parameter.shape} was given twice; "
                    "each belongs to one group, once"
                )
            known.add(id(parameter))
        options = {**self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        self._check(options)
        self.param_groups.append({"params": params, **options})

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets that of every group."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        at_least_zero(type(self).__name__, {"lr": value}, "lr")
        for group in self.param_groups:
            group["lr"] = float(value)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self._parameters():
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        index = 0
        for group in self.param_groups:
            # NumPy's scalars would turn float32 arithmetic into float64.
            options: Options = {
                k: float(v) if isinstance(v, np.generic) else v for k, v in group.items()
            }
            updates = []
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state.setdefault(index, {"step": 0})
                    updates.append(self._prepare(parameter, state, options))
                index += 1
            if JIT_DISABLED or reference.forced():
                self._run_rule(updates, options)
            else:
                self._run_kernel(updates, options)
            for update in updates:
                wrote(update.parameter)

    def _prepare(self, parameter: Tensor, state: dict[str, Any], options: Options) -> Update:
        """Check a parameter's gradient, make what its rule keeps, and count the step."""
        value, gradient = parameter._data, np.asarray(parameter.grad)
        if gradient.shape != value.shape or gradient.dtype != value.dtype:
            raise ValueError(
                f"{type(self).__name__}: a gradient must have its parameter's shape and dtype, "
                f"{value.shape} {value.dtype}, got {gradient.shape} {gradient.dtype}"
            )
        kept = {}
        for name, first in self._slots(options).items():
            if name not in state:
                state[name] = np.full_like(value, first)
            elif state[name].dtype != value.dtype:  # the model was cast with to() meanwhile
                state[name] = state[name].astype(value.dtype)
            kept[name] = state[name]
        state["step"] += 1
        g = gradient if gradient.flags.c_contiguous else np.ascontiguousarray(gradient)
        return Update(parameter, value, g, kept, state["step"])

    def _run_rule(self, updates: list[Update], options: Options) -> None:
        """Update by the formula."""
        # An exploded gradient makes parameters infinite or NaN, silently as in PyTorch; clipping
        # and the diagnostics are there to see it.
        with np.errstate(over="ignore", invalid="ignore"):
            for u in updates:
                downhill = -u.g if options["maximize"] else u.g
                self._rule(u.p, downhill, u.kept, u.t, options)

    def _run_kernel(self, updates: list[Update], options: Options) -> None:
        """Update by the kernel, all parameters of a dtype in one call."""
        run, sign = type(self)._kernel, -1.0 if options["maximize"] else 1.0
        for dtype, places in by_dtype([u.p for u in updates]):
            chosen = [updates[i] for i in places]
            arrays = [(u.p, u.g, *(u.kept.get(name) for name in self._kept)) for u in chosen]
            table, entries = table_of(arrays)
            with np.errstate(over="ignore"):  # a rate beyond float32 is infinite, as by the formula
                numbers = np.array([(sign, *self._numbers(u.t, options)) for u in chosen], dtype)
            spread(run, (table, numbers), entries, _COST)

    def _slots(self, o: Options) -> dict[str, float]:
        """Return names and first values of the arrays kept for each parameter."""
        raise NotImplementedError

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        """Update p in place by the formula."""
        raise NotImplementedError

    def _numbers(self, t: int, o: Options) -> tuple[float, ...]:
        """Return what the kernel reads behind the sign of the gradient."""
        raise NotImplementedError

    def _check(self, options: Options) -> None:
        """Raise ValueError for an option outside its range."""
        at_least_zero(type(self).__name__, options, "lr", "weight_decay")

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    # ------------------------------------------------------------------ saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all that is kept: ``state`` by parameter number, ``param_groups``."""
        state = {
            index: {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in kept.items()}
            for index, kept in self.state.items()
        }
        groups, first = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append({**group, "params": list(range(first, first + count))})
            first += count
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave. Nothing is changed when an error is raised."""
        self.apply_load(self.plan_load(state_dict))

    def plan_load(
        self, state_dict: Mapping[str, Any]
    ) -> tuple[dict[int, dict[str, Any]], list[Options]]:
        """Check and convert all that ``load_state_dict`` would take over, and change nothing."""
        place = f"{type(self).__name__}.load_state_dict"
        try:
            saved_state, saved_groups = state_dict["state"], list(state_dict["param_groups"])
            sizes = [len(group["params"]) for group in saved_groups]
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{place}: must have 'state' and 'param_groups' as state_dict() gives them"
            ) from error
        own_sizes = [len(group["params"]) for group in self.param_groups]
        if sizes != own_sizes:
            raise ValueError(
                f"{place}: the parameter groups must have {own_sizes} parameters, got {sizes}"
            )
        groups = []
        for own, saved in zip(self.param_groups, saved_groups, strict=True):
            options = {k: saved.get(k, own[k]) for k in own if k != "params"}
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            self._check(options)
            groups.append(options)
        parameters = self._parameters()
        state = {}
        for key, kept in saved_state.items():
            index = int(key)
            if not 0 <= index < len(parameters):
                raise ValueError(
                    f"{place}: state of parameter {index}, but there are {len(parameters)}"
                )
            state[index] = _loaded_state(f"{place}: parameter {index}", kept, parameters[index])
        return state, groups

    def apply_load(self, plan: tuple[dict[int, dict[str, Any]], list[Options]]) -> None:
        """Take over what ``plan_load`` has checked."""
        self.state, groups = plan
        for own, options in zip(self.param_groups, groups, strict=True):
            own.update(options)


def at_least_zero(place: str, options: Options, *names: str) -> None:
    """Raise ValueError for the first of these options that is negative or NaN."""
    for name in names:
        if not options[name] >= 0:
            raise ValueError(f"{place}: {name} must be 0 or more, got {options[name]}")


def _listed(place: str, params: Any) -> list[Any]:
    if isinstance(params, Tensor):
        raise TypeError(f"{place}: params must be an iterable of Tensors, got one; pass [tensor]")
    try:
        listed = list(params)
    except TypeError as error:
        raise TypeError(
            f"{place}: params must be an iterable of Tensors, got {type(params).__name__}; "
            "pass model.parameters()"
        ) from error
    if not listed:
        raise ValueError(f"{place}: params is empty; a generator can be used up only once")
    return listed


def _loaded_state(place: str, kept: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Convert what was kept for one parameter to its dtype, or say what does not fit."""
    # PyTorch's SGD keeps no count; what has a buffer has taken a step.
    state: dict[str, Any] = {"step": 1}
    for name, value in kept.items():
        if value is None:
            continue
        array = np.asarray(value)
        if name == "step":
            state["step"] = int(array)
        elif array.shape != parameter.shape:
            raise ValueError(
                f"{place}: {name} must have the parameter's shape {parameter.shape}, "
                f"got {array.shape}"
            )
        else:
            state[name] = np.array(array, dtype=parameter.dtype, order="C")
    return state
