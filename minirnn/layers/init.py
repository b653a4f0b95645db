"""Initialisers: each is made by a factory and called for one array.

``orthogonal()(shape, rng, dtype)`` draws one array. Recurrent layers call it per block, (H, I) or
(H, H), so that "orthogonal" means every block orthogonal. ``forget_bias`` and ``chrono`` know the
gates of a cell and fill its biases as a whole.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Initialiser = Callable[[tuple[int, ...], np.random.Generator, DTypeLike], Array]


def uniform(a: float | None = None, b: float | None = None) -> Initialiser:
    """Draw from U(a, b); with one number from U(-a, a); with none from U(-k, k), k = 1/sqrt(H).

    H is the length of the first axis. All of PyTorch's recurrent layers begin with the last one.
    """
    if a is not None and b is None:
        a, b = -abs(a), abs(a)
    if a is None and b is not None:
        raise ValueError("init.uniform: b needs a; uniform(b) draws from -b to b")

    def draw(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Array:
        bound = _unit_scale(shape)
        low, high = (-bound, bound) if a is None or b is None else (a, b)
        return rng.uniform(low, high, shape).astype(dtype)

    return draw


def normal(mean: float = 0.0, std: float | None = None) -> Initialiser:
    """Draw from N(mean, std^2); std is 1/sqrt(H) unless given, H the length of the first axis.

    With this std a square block has a spectral radius near 1.
    """

    def draw(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Array:
        scale = _unit_scale(shape) if std is None else std
        return rng.normal(mean, scale, shape).astype(dtype)

    return draw


def orthogonal(gain: float = 1.0) -> Initialiser:
    """Draw ``gain`` times a matrix with orthonormal rows or columns, whichever are fewer.

    Uniformly distributed: Q of a normal matrix with the signs of R's diagonal (Mezzadri 2007).
    """

    def draw(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Array:
        rows, cols = _matrix("orthogonal", shape)
        q, r = np.linalg.qr(rng.standard_normal((max(rows, cols), min(rows, cols))))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return np.ascontiguousarray(gain * (q if rows >= cols else q.T), dtype=dtype)

    return draw


def identity(gain: float = 1.0) -> Initialiser:
    """Return ``gain`` times the identity (Le, Jaitly, Hinton 2015); ones on the main diagonal."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Array:
        return (gain * np.eye(*_matrix("identity", shape))).astype(dtype)

    return draw


def sparse(spectral_radius: float | None = 0.95, nonzero: int = 15) -> Initialiser:
    """Draw ``nonzero`` normal entries into each unit's row, scaled to a spectral radius.

    Pascanu, Mikolov, Bengio 2013 ("smart tanh": 15 incoming weights per unit, radius 0.95).
    With ``spectral_radius=None`` the entries keep the standard deviation 1/sqrt(nonzero) and the
    matrix need not be square.
    """
    if nonzero < 1:
        raise ValueError(f"init.sparse: nonzero must be at least 1, got {nonzero}")

    def draw(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Array:
        rows, cols = _matrix("sparse", shape)
        count = min(nonzero, cols)
        weight = np.zeros((rows, cols))
        for row in weight:
            row[rng.permutation(cols)[:count]] = rng.standard_normal(count) / math.sqrt(count)
        if spectral_radius is not None:
            weight *= spectral_radius / _spectral_radius(weight)
        return weight.astype(dtype)

    return draw


def zeros() -> Initialiser:
    """Return zeros."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Array:
        return np.zeros(shape, dtype)

    return draw


@dataclass(frozen=True)
class ForgetBias:
    """``bias_ih`` of the forget gate (f, else z) is ``value``, all other biases are 0."""

    value: float

    def bias(
        self,
        gates: Sequence[str],
        blocks: Sequence[str],
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> tuple[Array, Array]:
        """Return bias_ih (G*H,) and bias_hh (len(blocks)*H,)."""
        bias_ih = np.zeros((len(gates), hidden_size), dtype)
        bias_ih[_forget_gate("forget_bias", gates)] = self.value
        return bias_ih.reshape(-1), np.zeros(len(blocks) * hidden_size, dtype)


@dataclass(frozen=True)
class Chrono:
    """b_f = log U(1, T_max - 1) and b_i = -b_f where there is an i, all other biases 0.

    Tallec and Ollivier 2018: memory times up to T_max, spread over the units.
    """

    T_max: float

    def bias(
        self,
        gates: Sequence[str],
        blocks: Sequence[str],
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> tuple[Array, Array]:
        """Return bias_ih (G*H,) and bias_hh (len(blocks)*H,)."""
        bias_ih = np.zeros((len(gates), hidden_size), dtype)
        drawn = np.log(rng.uniform(1.0, self.T_max - 1.0, hidden_size))
        bias_ih[_forget_gate("chrono", gates)] = drawn
        if "i" in gates:
            bias_ih[list(gates).index("i")] = -drawn
        return bias_ih.reshape(-1), np.zeros(len(blocks) * hidden_size, dtype)


def forget_bias(v: float = 1.0) -> ForgetBias:
    """Set the forget gate's bias to ``v``, all other biases to 0."""
    return ForgetBias(float(v))


def chrono(T_max: float) -> Chrono:
    """Spread the forget gate's bias so that units remember up to ``T_max`` steps."""
    if not T_max > 2:
        raise ValueError(
            f"init.chrono: T_max must be above 2, got {T_max}; give the longest lag to remember"
        )
    return Chrono(float(T_max))


_FACTORIES: dict[str, Callable[..., Any]] = {
    factory.__name__: factory
    for factory in (uniform, normal, orthogonal, identity, sparse, zeros, forget_bias, chrono)
}


def resolve(given: Any) -> Any:
    """Return the initialiser that a user meant: a factory or its name is called without arguments.

    ``orthogonal()``, ``orthogonal`` and ``"orthogonal"`` are the same.
    """
    if isinstance(given, str):
        if given not in _FACTORIES:
            raise ValueError(f"init: {given!r} is no initialiser; there are {sorted(_FACTORIES)}")
        given = _FACTORIES[given]
    if given is chrono:
        raise ValueError("init.chrono: needs T_max, the longest lag to remember; call it")
    if any(given is factory for factory in _FACTORIES.values()):
        return given()
    if not callable(given) and not hasattr(given, "bias"):
        raise TypeError(
            f"init: an initialiser must be made by one of minirnn.init's {sorted(_FACTORIES)} "
            f"or be a callable (shape, rng, dtype) -> array, got {type(given).__name__}"
        )
    return given


def _unit_scale(shape: tuple[int, ...]) -> float:
    """Return 1/sqrt(H) for the first axis of length H (1 for an empty or 0-d array)."""
    return 1.0 / math.sqrt(max(shape[0], 1)) if shape else 1.0


def _matrix(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(
            f"init.{name}: needs a matrix, got shape {shape}; use it for weight_ih or weight_hh"
        )
    return shape[0], shape[1]


def _spectral_radius(weight: Array) -> float:
    if weight.shape[0] != weight.shape[1]:
        raise ValueError(
            f"init.sparse: only a square matrix has a spectral radius, got shape {weight.shape}; "
            "pass spectral_radius=None"
        )
    radius = float(np.abs(np.linalg.eigvals(weight)).max())
    if radius < 1e-8:  # a nilpotent draw, possible with one or two entries per row
        raise ValueError(
            "init.sparse: the matrix drawn has spectral radius 0 and cannot be scaled; "
            "take a larger nonzero"
        )
    return radius


def _forget_gate(name: str, gates: Sequence[str]) -> int:
    for gate in ("f", "z"):
        if gate in gates:
            return list(gates).index(gate)
    raise ValueError(
        f"init.{name}: the cell must have a gate f or z, got gates {tuple(gates)}; "
        "use zeros or uniform for its biases"
    )
