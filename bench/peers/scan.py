"""JAX: ``lax.scan`` over the equations, forward and all gradients compiled together by ``jit``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid

from bench.shapes import TWO_STAGE, USERS
from bench.work import Arrays, Run, Work

jax.config.update("jax_enable_x64", True)  # float64 at all; float32 arrays stay what they are


def set_threads(n: int) -> None:
    """Nothing to do: XLA makes a thread per processor of the process (bench/environment.py)."""


# One step. a: (B, G*H), what the input and its bias give; p: weights by name.


def _rnn(a: Array, p: Any, h: Array) -> tuple[Array, ...]:
    return (jnp.tanh(a + h @ p["weight_hh"].T + p["bias_hh"]),)


def _gru(a: Array, p: Any, h: Array) -> tuple[Array, ...]:
    a_r, a_z, a_n = jnp.split(a, 3, axis=1)
    u_r, u_z, u_n = jnp.split(h @ p["weight_hh"].T + p["bias_hh"], 3, axis=1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = jnp.tanh(a_n + r * u_n)
    return (n + z * (h - n),)


def _lstm(a: Array, p: Any, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = jnp.split(a + h @ p["weight_hh"].T + p["bias_hh"], 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(c), c


def _gru_before(a: Array, p: Any, h: Array) -> tuple[Array, ...]:
    units = h.shape[1]
    u, b = p["weight_hh"], p["bias_hh"]
    gates = a[:, : 2 * units] + h @ u[: 2 * units].T + b[: 2 * units]
    r, z = jnp.split(sigmoid(gates), 2, axis=1)
    n = jnp.tanh(a[:, 2 * units :] + (r * h) @ u[2 * units :].T + b[2 * units :])
    return (n + z * (h - n),)


def _peephole(a: Array, p: Any, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = jnp.split(a + h @ p["weight_hh"].T + p["bias_hh"], 4, axis=1)
    i, f = sigmoid(i + p["p_i"] * c), sigmoid(f + p["p_f"] * c)
    c = f * c + i * jnp.tanh(g)
    return sigmoid(o + p["p_o"] * c) * jnp.tanh(c), c


_EQUATIONS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "rnn": _rnn,
    "gru": _gru,
    "lstm": _lstm,
    TWO_STAGE: _gru_before,
    USERS: _peephole,
}


def _forward(work: Work) -> Callable[[Any], Array]:
    equations = _EQUATIONS[work.cell]

    def forward(p: Any) -> Array:
        # The input's products for all steps at once, before the scan: the faster way.
        a = p["x"] @ p["weight_ih"].T + p["bias_ih"]

        def step(state: Any, row: Array) -> Any:
            state = equations(row, p, *state)
            return state, state[0]

        output: Array = jax.lax.scan(step, tuple(p[n] for n in work.states), a)[1]
        return output

    return forward


def _arrays(work: Work) -> dict[str, Array]:
    return {name: jnp.asarray(array) for name, array in work.given.items()}


def training(work: Work) -> Run:
    """Forward and backward with the gradients of everything, compiled together."""
    forward = _forward(work)

    @jax.jit
    def both(p: Any, d_output: Array) -> Any:
        output, pull = jax.vjp(forward, p)
        return output, pull(d_output)[0]

    given, d_output = _arrays(work), jnp.asarray(work.d_output)
    last: list[Any] = []

    def step() -> None:
        last[:] = [jax.block_until_ready(both(given, d_output))]

    def results() -> Arrays:
        output, gradients = last[0]
        return {"output": np.asarray(output)} | {n: np.asarray(g) for n, g in gradients.items()}

    return Run(step, results)


def inference(work: Work) -> Run:
    """Forward, compiled."""
    forward, given = jax.jit(_forward(work)), _arrays(work)
    last: list[Array] = []

    def step() -> None:
        last[:] = [jax.block_until_ready(forward(given))]

    return Run(step, lambda: {"output": np.asarray(last[0])})
