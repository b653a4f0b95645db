"""SGD, RMSprop, Adagrad, Adam, AdamW with PyTorch's arguments, defaults and update rules.

Every rule is a method ``_rule`` that reads like its formula and works in place on arrays:
p parameter, g gradient, s arrays kept between steps, t number of this step (from 1), o options.
Steps run its twin in `minirnn.kernels.optim`.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.kernels import optim as kernels
from minirnn.layers.optimizer import Array, Optimizer, Options, at_least_zero


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    buf = momentum * buf + (1 - dampening) * g, at the first step buf = g; p -= lr * buf,
    with nesterov p -= lr * (g + momentum * buf).
    """

    _kernel = staticmethod(kernels.sgd)
    _kept = ("momentum_buffer",)

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
        at_least_zero("SGD", options, "momentum")
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

    def _numbers(self, t: int, o: Options) -> tuple[float, ...]:
        part = 1 if t == 1 else 1 - o["dampening"]
        return o["weight_decay"], o["lr"], o["momentum"], part, o["nesterov"]


class RMSprop(Optimizer):
    """Gradient divided by a running root mean square (Tieleman, Hinton 2012; Graves 2013).

    v = alpha * v + (1 - alpha) * g^2; p -= lr * g / (sqrt(v) + eps). With centered the running
    mean's square is taken off v; with momentum the quotient is summed into a buffer first.
    """

    _kernel = staticmethod(kernels.rmsprop)
    _kept = ("square_avg", "momentum_buffer", "grad_avg")

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
        at_least_zero("RMSprop", options, "alpha", "eps", "momentum")

    def _slots(self, o: Options) -> dict[str, float]:
        used = (True, o["momentum"], o["centered"])
        return {name: 0.0 for name, needed in zip(self._kept, used, strict=True) if needed}

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

    def _numbers(self, t: int, o: Options) -> tuple[float, ...]:
        alpha = o["alpha"]
        last = o["eps"], o["momentum"], o["centered"]
        return (o["weight_decay"], o["lr"], alpha, 1 - alpha, *last)


class Adagrad(Optimizer):
    """Gradient divided by the root of the sum of all squares so far (Duchi and others 2011).

    G += g^2; p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(G) + eps).
    """

    _kernel = staticmethod(kernels.adagrad)
    _kept = ("sum",)

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
        at_least_zero("Adagrad", options, "lr_decay", "initial_accumulator_value", "eps")

    def _slots(self, o: Options) -> dict[str, float]:
        return {"sum": o["initial_accumulator_value"]}

    def _rule(self, p: Array, g: Array, s: dict[str, Array], t: int, o: Options) -> None:
        g = _decayed(g, p, o)
        s["sum"] += g * g
        lr = o["lr"] / (1 + (t - 1) * o["lr_decay"])
        p -= lr * (g / (np.sqrt(s["sum"]) + o["eps"]))

    def _numbers(self, t: int, o: Options) -> tuple[float, ...]:
        return o["weight_decay"], o["lr"] / (1 + (t - 1) * o["lr_decay"]), o["eps"]


class Adam(Optimizer):
    """Running mean over root of running mean square, both corrected for their start at zero.

    m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2 (Kingma, Ba 2015);
    p -= lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps). amsgrad takes the largest v so far.
    """

    _kernel = staticmethod(kernels.adam)
    _kept = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

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
        at_least_zero(place, options, "eps")
        betas = options["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{place}: betas must be two numbers in [0, 1), got {betas}")

    def _slots(self, o: Options) -> dict[str, float]:
        return dict.fromkeys(self._kept if o["amsgrad"] else self._kept[:2], 0.0)

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

    def _numbers(self, t: int, o: Options) -> tuple[float, ...]:
        beta1, beta2 = (float(beta) for beta in o["betas"])
        decay, keep = o["weight_decay"], 1.0
        if o["decoupled_weight_decay"]:
            decay, keep = 0.0, 1 - o["lr"] * decay
        correction, lr = math.sqrt(1 - beta2**t), o["lr"] / (1 - beta1**t)
        return (decay, keep, 1 - beta1, beta2, 1 - beta2, correction, o["eps"], lr, o["amsgrad"])


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
