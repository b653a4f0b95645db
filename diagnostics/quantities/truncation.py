"""What truncated backpropagation through time leaves out of the gradient, chunk by chunk.

Exact: the gradient of the graph whose states are detached at the chunks' borders, with every
value as in the whole sequence. Compare Williams and Peng (1990).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.arguments import layers_of_model
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.chunked import chunked_forward
from diagnostics.quantities.losses import loss_of_model
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.watching import Tap, evaluating, sweep_flops


@dataclass(frozen=True, kw_only=True)
class TbpttError(Quantity):
    """Error of the gradient by chunk length.

    value: (K,), ||g_k - g|| / ||g|| over all parameters of the model, g with the whole history.
    chunks: (K,), steps per chunk.  cosine: (K,), of the angle between g_k and g.
    parameters[name]: (K,), the same error of one parameter.  norms[name]: ||g|| of it.
    """

    chunks: NDArray[np.int64]
    cosine: Floats
    parameters: dict[str, Floats]
    norms: dict[str, float]


def tbptt_error(
    model: Any,
    x: Any,
    y: Any,
    chunks: Iterable[int] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
) -> TbpttError:
    """Measure the error of truncated backpropagation against the chunk's length.

    Parameters
    ----------
    model : a Recurrent, or a Module that returns ``out`` or ``(out, ...)``
    x, y : its input and the targets
    chunks : steps per chunk, default 1, 2, 4, ... and T
    loss : callable (out, y); None is cross-entropy for integer y, mean squared error for floats
    """
    layers = layers_of_model("tbptt_error", model)
    if y is None:
        raise ValueError("tbptt_error: the error is that of a loss's gradient and needs y")
    return error_of_layers(model, layers, x, y, chunks, loss)


def error_of_layers(
    model: Any,
    layers: dict[str, Any],
    x: Any,
    y: Any,
    chunks: Iterable[int] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
) -> TbpttError:
    """Measure the error when the history of some of a model's recurrent layers is truncated."""
    with evaluating(model):
        whole, steps, flops = _whole_gradient(model, layers, x, y, loss)
        lengths = _checked(chunks, steps)
        found = []
        for length in lengths:
            with truncated(layers, int(length)):
                found.append(_gradient(model, x, y, loss))
    return _summarise(whole, found, lengths, Cost(2 * (1 + len(lengths)), flops))


@contextmanager
def truncated(layers: dict[str, Any], length: int) -> Iterator[None]:
    """Let recurrent layers run in chunks of so many steps, detached from each other."""
    chunked = [(m, chunked_forward(m, m.forward, length)) for m in layers.values()]
    taps = [_tap(layer, forward) for layer, forward in chunked]
    try:
        yield
    finally:
        for tap in taps:
            tap.remove()


def _tap(layer: Any, forward: Any) -> Tap:
    return Tap(layer, lambda _, *given, **named: forward(*given, **named))


def _whole_gradient(
    model: Any, layers: dict[str, Any], x: Any, y: Any, loss: Any
) -> tuple[dict[str, Floats], int, int]:
    """Gradient with the whole history, the number of steps, and the flops of one pass."""
    with ExitStack() as stack:
        watched = {n: stack.enter_context(minirnn.watch(m)) for n, m in layers.items()}
        whole = _gradient(model, x, y, loss)
    steps = flops = 0
    for name, layer in layers.items():
        for record in watched[name].calls:
            steps = max(steps, len(next(iter(record[0, 0].states.values()))) - 1)
            for level in range(layer.num_layers):
                for direction in range(layer.directions):
                    flops += sweep_flops(layer, record[level, direction], level, direction)
    return whole, steps, flops


def _gradient(model: Any, x: Any, y: Any, loss: Any) -> dict[str, Floats]:
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    value = loss_of_model("tbptt_error", model, x, y, loss)
    grads = minirnn.grad(value, list(named.values()), allow_unused=True)
    return {
        k: np.zeros(named[k].shape) if g is None else g.numpy().astype(np.float64)
        for k, g in zip(named, grads, strict=True)
    }


def _summarise(
    whole: dict[str, Floats],
    found: list[dict[str, Floats]],
    lengths: NDArray[np.int64],
    cost: Cost,
) -> TbpttError:
    norms = {k: float(np.linalg.norm(g)) for k, g in whole.items()}
    flat = _flat(whole)
    rest = [{k: g[k] - whole[k] for k in whole} for g in found]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.array([np.linalg.norm(_flat(r)) for r in rest]) / np.linalg.norm(flat)
        each = {k: np.array([_ratio(r[k], norms[k]) for r in rest]) for k in whole}
        cosine = np.array(
            [_flat(g) @ flat / (np.linalg.norm(_flat(g)) * np.linalg.norm(flat)) for g in found]
        )
    # Forward once, backward about twice.
    flops, held = 3 * cost.flops * (1 + len(lengths)), sum(g.nbytes for g in whole.values())
    return TbpttError(
        value=errors,
        how=(
            "gradient of the graph whose states are detached every k steps, against the whole "
            "gradient; all parameters; values of the forward pass are those of the whole sequence"
        ),
        cost=Cost(cost.sweeps, flops, held),
        chunks=lengths,
        cosine=cosine,
        parameters=each,
        norms=norms,
    )


def _ratio(rest: Floats, norm: float) -> float:
    """Relative size of an error; a parameter without any gradient has none."""
    error = float(np.linalg.norm(rest))
    return error / norm if norm else (0.0 if error == 0 else float("inf"))


def _flat(grads: dict[str, Floats]) -> Floats:
    return np.concatenate([g.ravel() for g in grads.values()]) if grads else np.zeros(0)


def _checked(chunks: Iterable[int] | None, steps: int) -> NDArray[np.int64]:
    if steps == 0:
        raise ValueError("tbptt_error: x must have at least one step, got T = 0")
    if chunks is None:
        powers = [2**i for i in range(steps.bit_length()) if 2**i < steps]
        return np.array([*powers, steps], np.int64)
    if not isinstance(chunks, Iterable):
        raise TypeError(
            "tbptt_error: chunks must be whole numbers of steps, 1 or more, in a list, got "
            f"{chunks!r}; pass [{chunks!r}]"
        )
    given = np.asarray(list(chunks))
    if given.dtype.kind not in "iu" or given.ndim != 1 or not len(given) or given.min() < 1:
        raise ValueError(
            f"tbptt_error: chunks must be whole numbers of steps, 1 or more, got {given.tolist()}"
        )
    return given.astype(np.int64)
