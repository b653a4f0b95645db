"""Optimizers with PyTorch's arguments, defaults and update rules.

Every rule is a method ``_rule`` that reads like its formula and works in place on flat arrays:
p parameter, g gradient, s arrays kept between steps, t number of this step (from 1), o options.
It sees one block of each parameter at a time, small enough that all its passes stay in the cache.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.engine.tensor import Tensor

Array = NDArray[Any]
Options = dict[str, Any]

# Entries per block: p, g, two arrays of Adam and two temporaries in float64 fill 768 kB, most of
# a 1 MB second-level cache.
BLOCK = 16384


class Optimizer:
    """Base: parameter groups, kept arrays, ``step``, saving and loading.

    ``params`` are Tensors, or dicts with the key ``params`` and options for these alone.
    ``state_dict`` has PyTorch's layout and names, so that either library's can be loaded.
    """

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
            if not parameter.is_leaf:
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
        _at_least_zero(type(self).__name__, {"lr": value}, "lr")
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
            options = {k: float(v) if isinstance(v, np.generic) else v for k, v in group.items()}
            for parameter in options.pop("params"):
                if parameter.grad is not None:
                    state = self.state.setdefault(index, {"step": 0})
                    state["step"] += 1
                    self._update(parameter, state, options)
                index += 1

    def _update(self, parameter: Tensor, state: dict[str, Any], options: Options) -> None:
        """Apply the rule to one parameter, block by block."""
        value = np.array(parameter.numpy())
        for name, first in self._slots(options).items():
            if name not in state:
                state[name] = np.full_like(value, first)
        kept = {k: v.reshape(-1) for k, v in state.items() if isinstance(v, np.ndarray)}
        p = value.reshape(-1)
        g = np.ascontiguousarray(parameter.grad).reshape(-1)
        for begin in range(0, p.size, BLOCK):
            cut = slice(begin, begin + BLOCK)
            s = {k: v[cut] for k, v in kept.items()}
            gradient = -g[cut] if options["maximize"] else g[cut]
            self._rule(p[cut], gradient, s, state["step"], options)
        parameter.assign(value)

    def _slots(self, o: Options) -> dict[str, float]:
        """Return names and first values of the arrays kept for each parameter."""
        raise NotImplementedError

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        raise NotImplementedError

    def _check(self, options: Options) -> None:
        """Raise ValueError for an option outside its range."""
        _at_least_zero(type(self).__name__, options, "lr", "weight_decay")

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


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    buf = momentum * buf + (1 - dampening) * g, at the first step buf = g; p -= lr * buf,
    with nesterov p -= lr * (g + momentum * buf).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _given(locals()))

    def _check(self, options: Options) -> None:
        super()._check(options)
        _at_least_zero("SGD", options, "momentum")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs momentum above 0 and dampening 0, got "
                f"momentum={options['momentum']}, dampening={options['dampening']}"
            )

    def _slots(self, o: Options) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if o["momentum"] else {}

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        g = _decayed(g, p, o)
        if o["momentum"]:
            buf = s["momentum_buffer"]
            buf *= o["momentum"]
            buf += g if t == 1 else (1 - o["dampening"]) * g
            g = g + o["momentum"] * buf if o["nesterov"] else buf
        p -= o["lr"] * g


class RMSprop(Optimizer):
    """Gradient divided by a running root mean square (Tieleman, Hinton 2012; Graves 2013).

    v = alpha * v + (1 - alpha) * g^2; p -= lr * g / (sqrt(v) + eps). With centered the running
    mean's square is taken off v; with momentum the quotient is summed into a buffer first.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _given(locals()))

    def _check(self, options: Options) -> None:
        super()._check(options)
        _at_least_zero("RMSprop", options, "alpha", "eps", "momentum")

    def _slots(self, o: Options) -> dict[str, float]:
        used = {"square_avg": True, "momentum_buffer": o["momentum"], "grad_avg": o["centered"]}
        return {name: 0.0 for name, needed in used.items() if needed}

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        g = _decayed(g, p, o)
        v = s["square_avg"]
        v *= o["alpha"]
        v += (1 - o["alpha"]) * (g * g)
        if o["centered"]:
            mean = s["grad_avg"]
            mean += (1 - o["alpha"]) * (g - mean)
            # A constant gradient gives exactly 0, which rounding may turn negative.
            root = np.sqrt(np.maximum(v - mean * mean, 0.0))
        else:
            root = np.sqrt(v)
        root += o["eps"]
        change = g / root
        if o["momentum"]:
            buf = s["momentum_buffer"]
            buf *= o["momentum"]
            buf += change
            change = buf
        p -= o["lr"] * change


class Adagrad(Optimizer):
    """Gradient divided by the root of the sum of all squares so far (Duchi and others 2011).

    G += g^2; p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(G) + eps).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _given(locals()))

    def _check(self, options: Options) -> None:
        super()._check(options)
        _at_least_zero("Adagrad", options, "lr_decay", "initial_accumulator_value", "eps")

    def _slots(self, o: Options) -> dict[str, float]:
        return {"sum": o["initial_accumulator_value"]}

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        g = _decayed(g, p, o)
        s["sum"] += g * g
        lr = o["lr"] / (1 + (t - 1) * o["lr_decay"])
        p -= lr * (g / (np.sqrt(s["sum"]) + o["eps"]))


class Adam(Optimizer):
    """Running mean over root of running mean square, both corrected for their start at zero.

    m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2 (Kingma, Ba 2015);
    p -= lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps). amsgrad takes the largest v so far.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, _given(locals()))

    def _check(self, options: Options) -> None:
        place = type(self).__name__
        super()._check(options)
        _at_least_zero(place, options, "eps")
        betas = options["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{place}: betas must be two numbers in [0, 1), got {betas}")

    def _slots(self, o: Options) -> dict[str, float]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        return dict.fromkeys(names if o["amsgrad"] else names[:2], 0.0)

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        beta1, beta2 = (float(beta) for beta in o["betas"])
        if o["decoupled_weight_decay"]:
            p *= 1 - o["lr"] * o["weight_decay"]
        else:
            g = _decayed(g, p, o)
        m, v = s["exp_avg"], s["exp_avg_sq"]
        m += (1 - beta1) * (g - m)
        v *= beta2
        v += (1 - beta2) * (g * g)
        if o["amsgrad"]:
            v = np.maximum(s["max_exp_avg_sq"], v, out=s["max_exp_avg_sq"])
        root = np.sqrt(v)
        root /= math.sqrt(1 - beta2**t)
        root += o["eps"]
        p -= (o["lr"] / (1 - beta1**t)) * (m / root)


class AdamW(Adam):
    """Adam whose weight decay acts on the parameter itself (Loshchilov, Hutter 2019)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )


def _given(arguments: Options) -> Options:
    """Return the options among an ``__init__``'s local names."""
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}


def _decayed(g: Array, p: Array, o: Options) -> Array:
    return g + o["weight_decay"] * p if o["weight_decay"] else g


def _at_least_zero(place: str, options: Options, *names: str) -> None:
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
            state[name] = np.array(array, dtype=parameter.dtype)
    return state
