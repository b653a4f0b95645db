"""What a user does with a recurrent model: train it over long sequences, let it write."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.engine import Tensor, no_grad
from minirnn.engine.random import generator
from minirnn.layers.losses import cross_entropy
from minirnn.layers.module import Module
from minirnn.layers.sequential import takes


@dataclass(frozen=True)
class Chunk:
    """One step of truncated backpropagation through time.

    Attributes
    ----------
    loss : Tensor, to call ``backward`` on
    output : the model's output for the chunk
    state : the state after the chunk, detached: what the next chunk starts from
    start : index of the chunk's first step in the sequence
    steps : number of steps in the chunk, T
    """

    loss: Tensor
    output: Any
    state: Any
    start: int
    steps: int


def tbptt(
    model: Callable[..., Any],
    chunks: Iterable[tuple[Any, Any]],
    loss: Callable[[Any, Any], Tensor] = cross_entropy,
    state: Any = None,
    start: int = 0,
) -> Iterator[Chunk]:
    """Run a model over a long sequence in chunks, gradients cut between them.

    Each chunk starts from the state in which the chunk before ended, but as a constant: the
    forward pass is that of the whole sequence, backward ends at the chunk's first step. The update
    is the caller's::

        for chunk in tbptt(model, stream):
            optimizer.zero_grad()
            chunk.loss.backward()
            optimizer.step()

    The next chunk runs when it is asked for, with the parameters as they are by then.

    Parameters
    ----------
    model : called as ``model(x, state=state)``, returns (output, state)
    chunks : pairs (x, y), time on the first axis of x; consecutive pieces of one sequence
    loss : callable (output, y) -> Tensor
    state : what the first chunk starts from; None is zero
    start : index of the first step, for cells that use time; to go on after a checkpoint give
        ``chunk.state`` and ``chunk.start + chunk.steps`` of the last chunk
    """
    if not takes(model, "state"):
        raise TypeError(
            "tbptt: the model must take state= and return (output, state), as a Recurrent does "
            "and a Sequential with one inside"
        )
    timed = takes(model, "start")
    for x, y in chunks:
        output, state = _with_state(model, x, state, {"start": start} if timed else {})
        state = detached(state)
        steps = int(np.shape(x)[0] if not isinstance(x, Tensor) else x.shape[0])
        chunk = Chunk(loss(output, y), output, state, start, steps)
        del output  # a tape on which the caller runs no backward is freed with the chunk
        yield chunk
        del chunk
        start += steps


def detached(state: Any) -> Any:
    """Return a copy of a state, a Tensor or nested tuples of them, without its tape.

    A copy, where ``detach`` would keep the memory of all steps alive for that of the last.
    """
    if isinstance(state, (tuple, list)):
        return tuple(detached(part) for part in state)
    return Tensor(state) if isinstance(state, Tensor) else state


def generate(
    model: Callable[..., Any],
    prompt_ids: Sequence[int] | NDArray[Any],
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Let a model write: draw ``length`` ids, each from the scores after all ids before it.

    Parameters
    ----------
    model : maps ids (T, B) to logits (T, B, V), or to (logits, state) when called with ``state=``;
        one that does not take ``state=`` is given the whole text again for every new id
    prompt_ids : integers (P,), P >= 1
    length : how many ids to draw
    temperature : scores are divided by it; 0 takes the likeliest id every time
    top_k : draw from the k likeliest ids only; among equal scores the lower id counts as likelier
    rng : generator to draw from, by default the global one

    Returns
    -------
    ids : int64 (length,), without the prompt

    Dropout is off while it writes; afterwards every module is in the mode it was in.
    """
    prompt = _checked_prompt(prompt_ids, length, temperature, top_k)
    rng = generator() if rng is None else rng
    carries, timed = takes(model, "state"), takes(model, "start")
    written: list[int] = []
    given, seen, state = prompt, 0, None
    with no_grad(), _evaluating(model):
        while len(written) < length:
            if carries:
                when = {"start": seen} if timed else {}
                logits, state = _with_state(model, given[:, None], state, when)
                seen += len(given)
            else:
                logits = model(given[:, None])
            chosen = _draw(_last_row(logits), temperature, top_k, rng)
            written.append(chosen)
            new = np.array([chosen], np.int64)
            given = new if carries else np.concatenate([given, new])
    return np.array(written, np.int64)


def _with_state(model: Callable[..., Any], x: Any, state: Any, when: dict[str, int]) -> Any:
    result = model(x, state=state, **when)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            "the model was called with state= and must return (output, state), "
            f"got {type(result).__name__}"
        )
    return result


def _checked_prompt(
    prompt_ids: Any, length: int, temperature: float, top_k: int | None
) -> NDArray[np.int64]:
    prompt = np.asarray(prompt_ids)
    if prompt.ndim != 1 or prompt.size == 0 or prompt.dtype.kind not in "iu":
        raise ValueError(
            "generate: prompt_ids must be a non-empty row of integers, got shape "
            f"{prompt.shape} and dtype {prompt.dtype}"
        )
    if length < 0:
        raise ValueError(f"generate: length must be 0 or more, got {length}")
    if not temperature >= 0:
        raise ValueError(f"generate: temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"generate: top_k must be at least 1 or None, got {top_k}")
    return prompt.astype(np.int64)


def _last_row(logits: Any) -> NDArray[np.float64]:
    """Scores (V,) of the last step, from logits (T, 1, V)."""
    scores = np.asarray(logits.numpy() if isinstance(logits, Tensor) else logits)
    if scores.ndim != 3 or scores.shape[1] != 1:
        raise ValueError(
            "generate: the model must map ids (T, B) to logits (T, B, V), "
            f"with B = 1 it gave {scores.shape}"
        )
    row = scores[-1, 0].astype(np.float64)
    if np.isnan(row).any() or not row.size or row.max() in (np.inf, -np.inf):
        raise ValueError(
            "generate: the model's scores are NaN or infinite; its parameters may have diverged"
        )
    return row


def _draw(
    scores: NDArray[np.float64], temperature: float, top_k: int | None, rng: np.random.Generator
) -> int:
    """Draw one id from softmax(scores / temperature) over the top_k likeliest."""
    if temperature == 0.0:
        return int(scores.argmax())
    order = np.argsort(-scores, kind="stable")[:top_k]
    # Subtract first: a small temperature may then take far scores to -inf, never to NaN.
    with np.errstate(over="ignore"):
        weights = np.exp((scores[order] - scores[order[0]]) / temperature)
    cumulated = np.cumsum(weights)
    place = np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")
    return int(order[min(int(place), len(order) - 1)])


class _evaluating:
    """Within the block all modules of a model are in evaluation mode."""

    def __init__(self, model: Any) -> None:
        self.modules = [m for _, m in model.named_modules()] if isinstance(model, Module) else []

    def __enter__(self) -> None:
        self.modes = [module.training for module in self.modules]
        for module in self.modules:
            module.training = False

    def __exit__(self, *exception: object) -> None:
        for module, mode in zip(self.modules, self.modes, strict=True):
            module.training = mode
