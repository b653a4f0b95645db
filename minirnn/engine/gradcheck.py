"""gradcheck: derivatives by the tape against central differences."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minirnn.engine import tape, walk
from minirnn.engine.functional import as_tuple, call, flatten, grad, requiring
from minirnn.engine.tensor import Tensor

# A central difference of step h errs by h^2 f'''/6 (truncation) and by u |f| / h (rounding, u the
# machine epsilon), least for h near u^(1/3): both are then near 1e-11 for values near 1.
STEP = float(np.finfo(np.float64).eps ** (1 / 3))
# Room of 1e4 over that, for long sums and large third derivatives; a wrong rule misses by more.
RTOL = 1e-6
ATOL = 1e-7


class GradcheckError(RuntimeError):
    """A derivative that central differences do not confirm.

    ``input`` is the position of the input and ``index`` the entry in it, ``output`` and
    ``output_index`` the same of the output (tensors in nested tuples are counted in order);
    ``analytic`` is the tape's derivative there, ``numeric`` that of the differences.
    """

    def __init__(
        self,
        input: int,
        index: tuple[int, ...],
        output: int,
        output_index: tuple[int, ...],
        analytic: float,
        numeric: float,
        order: int,
    ) -> None:
        self.input, self.index = input, index
        self.output, self.output_index = output, output_index
        self.analytic, self.numeric = analytic, numeric
        what = "derivative" if order == 1 else "second derivative (of the gradient)"
        super().__init__(
            f"gradcheck: the {what} of output {output}{list(output_index)} by input "
            f"{input}{list(index)} is {analytic:.9g} on the tape, but {numeric:.9g} by central "
            f"differences; check the vjp of the operations between them, or pass eps, rtol, atol "
            f"if the function is not smooth there"
        )


@dataclass(frozen=True)
class _Check:
    """What is compared: a function of leaves, which have ``numbers`` among the inputs, and how."""

    function: Callable[[], Any]
    leaves: list[Tensor]
    numbers: list[int]
    eps: float | None
    rtol: float | None
    atol: float | None
    order: int = 1


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    eps: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    order: int = 1,
    forward: bool = False,
) -> bool:
    """Compare every derivative of ``fn`` with central differences; True, or a `GradcheckError`.

    Parameters
    ----------
    fn
        Takes the inputs and returns a Tensor, or nested tuples of them.
    inputs
        float64 arrays and Tensors. Tensors are used by identity, so that a parameter that ``fn``
        closes over can be checked. Tensors without ``requires_grad`` beside others that have it
        are constants, and so is what is no array of floats.
    eps
        The step (None: 6e-6 for entries up to 1, larger in proportion above).
    rtol, atol
        Allowed is ``atol + rtol |numeric|`` (None: 1e-6, and 1e-7 times the largest output if that
        exceeds 1).
    order
        2 checks the derivatives of the gradient too.
    forward
        Check the forward derivatives too: the jvp rules of `record`.
    """
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, got {order}; 2 is the highest there is")
    arguments = list(as_tuple(inputs))
    numbers = _checked(arguments)
    with requiring([arguments[i] for i in numbers]) as leaves:
        for i, leaf in zip(numbers, leaves, strict=True):
            arguments[i] = leaf
        check = _Check(lambda: call(fn, arguments), leaves, numbers, eps, rtol, atol)
        _compare(check, _backward_jacobians)
        if forward:
            _compare(check, _forward_jacobians)
        if order == 2:
            _compare(_of_gradient(check), _backward_jacobians)
    return True


def _checked(arguments: list[Any]) -> list[int]:
    """Return which arguments are to be checked."""
    floats = []
    for i, value in enumerate(arguments):
        dtype = getattr(value, "dtype", np.dtype(np.float64) if isinstance(value, float) else None)
        if dtype is None or dtype.kind != "f":
            continue
        if dtype != np.float64:
            raise TypeError(
                f"gradcheck: inputs[{i}] must be float64, got {dtype}; float32 leaves "
                f"differences no digits to compare"
            )
        if isinstance(value, Tensor) and value._vjp is not None:
            raise ValueError(
                f"gradcheck: inputs[{i}] must be a leaf, got the result of an operation; pass "
                f"inputs[{i}].detach()"
            )
        floats.append(i)
    required = [
        i for i in floats if not isinstance(arguments[i], Tensor) or arguments[i].requires_grad
    ]
    if not floats:
        raise ValueError("gradcheck: inputs must hold a float64 array or Tensor, got none")
    return required or floats


def _compare(check: _Check, jacobians: Callable[..., list[list[np.ndarray]]]) -> None:
    """Compare the Jacobian of the function by each leaf, entry by entry."""
    with tape.enable_grad():
        outputs = flatten(check.function())
    largest = max([1.0, *(float(np.abs(o._data).max(initial=0.0)) for o in outputs)])
    atol = ATOL * largest if check.atol is None else check.atol
    rtol = RTOL if check.rtol is None else check.rtol
    analytic = jacobians(outputs, check.leaves)
    worst, error = 0.0, None
    for k, leaf in enumerate(check.leaves):
        for index in np.ndindex(leaf.shape):
            for j, numeric in enumerate(_differences(check, leaf, index)):
                exact = analytic[j][k][(..., *index)]
                excess = np.asarray(np.abs(exact - numeric) - (atol + rtol * np.abs(numeric)))
                excess[np.isnan(excess)] = np.inf  # a NaN confirms nothing
                if excess.max(initial=0.0) > worst:
                    at = tuple(int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
                    worst = float(excess[at])
                    found = float(exact[at]), float(numeric[at])
                    error = GradcheckError(check.numbers[k], index, j, at, *found, check.order)
    if error is not None:
        raise error


def _backward_jacobians(outputs: list[Tensor], leaves: list[Tensor]) -> list[list[np.ndarray]]:
    """Return the Jacobians by vjps: [output][leaf] of shape (output's, leaf's)."""
    jacobians = []
    for output in outputs:
        rows = [np.zeros((*output.shape, *leaf.shape)) for leaf in leaves]
        for at in np.ndindex(output.shape) if output.requires_grad else ():
            seed = np.zeros(output.shape)
            seed[at] = 1.0
            found = walk.pull((output,), (seed,), leaves, retain_graph=True)
            for row, leaf in zip(rows, leaves, strict=True):
                if leaf in found:
                    row[at] = found[leaf]
        jacobians.append(rows)
    return jacobians


def _forward_jacobians(outputs: list[Tensor], leaves: list[Tensor]) -> list[list[np.ndarray]]:
    """Return the Jacobians by jvps: [output][leaf] of shape (output's, leaf's)."""
    jacobians = [[np.zeros((*o.shape, *leaf.shape)) for leaf in leaves] for o in outputs]
    for k, leaf in enumerate(leaves):
        for index in np.ndindex(leaf.shape):
            move = np.zeros(leaf.shape)
            move[index] = 1.0
            for rows, found in zip(jacobians, walk.push(outputs, [leaf], [move]), strict=True):
                rows[k][(..., *index)] = 0.0 if found is None else found
    return jacobians


def _differences(check: _Check, leaf: Tensor, index: tuple[int, ...]) -> list[np.ndarray]:
    """Return the derivative of every output by one entry of a leaf."""
    before = leaf._data.copy()
    step = STEP * max(1.0, abs(float(before[index]))) if check.eps is None else check.eps
    high, low = before.copy(), before.copy()
    high[index] += step
    low[index] -= step
    try:
        with tape.no_grad():
            leaf.assign(high)
            above = [output._data.copy() for output in flatten(check.function())]
            leaf.assign(low)
            below = [output._data.copy() for output in flatten(check.function())]
    finally:
        leaf.assign(before)
    taken = high[index] - low[index]  # the step after rounding
    return [np.asarray((a - b) / taken) for a, b in zip(above, below, strict=True)]


def _of_gradient(check: _Check) -> _Check:
    """Return the check of the gradient, as a function of leaves and gradients of the outputs."""
    rng = np.random.default_rng(0)
    with tape.enable_grad():
        outputs = flatten(check.function())
    kept = [i for i, output in enumerate(outputs) if output.requires_grad]
    douts = [Tensor(rng.standard_normal(outputs[i].shape), requires_grad=True) for i in kept]

    def gradient() -> Any:
        with tape.enable_grad():
            again = flatten(check.function())
            used = [again[i] for i in kept]
            found = grad(used, check.leaves, douts, create_graph=True, allow_unused=True)
        return tuple(d for d in found if d is not None)

    # The gradients of the outputs are numbered after the inputs.
    after = [max(check.numbers) + 1 + i for i in range(len(douts))]
    return replace(
        check,
        function=gradient,
        leaves=[*check.leaves, *douts],
        numbers=[*check.numbers, *after],
        order=2,
    )
