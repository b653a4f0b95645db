"""Norm of the gradient of every single sequence and step, without forming those gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.arguments import check_layer, gradient_of_output
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.example_norms import OuterProducts, joined
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.watching import evaluating, record_of, sweep_flops


@dataclass(frozen=True)
class ParameterNorms:
    """Norms of the gradient by one parameter.

    value: (B,), of each sequence; per_step: (T, B), of each step of each sequence;
    batch_per_step: (T,), of each step of the whole batch.
    """

    value: Floats
    per_step: Floats
    batch_per_step: Floats


@dataclass(frozen=True, kw_only=True)
class ExampleGradNorms(Quantity):
    """Gradient norms of the single sequences of a batch, over all parameters of a layer.

    value: (B,), of each sequence; per_step: (T, B), of each step's share; batch_per_step: (T,),
    of each step's share summed over the batch; parameters: the same for each parameter by name.
    Steps are in processing order: those of a reverse direction count from the sequence's end.
    """

    per_step: Floats
    batch_per_step: Floats
    parameters: dict[str, ParameterNorms] = field(default_factory=dict)

    @property
    def coherence(self) -> Floats:
        """How much of the steps' shares adds up, |sum| / sum of norms in 0 to 1, (B,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.value / self.per_step.sum(axis=0)


def example_grad_norms(layer: Any, x: Any, d_output: Any, lengths: Any = None) -> ExampleGradNorms:
    """Measure the gradient that each sequence of a batch sends to the parameters of a layer.

    Sequence b's loss is the one whose derivative by the output is d_output at b. No gradient of a
    parameter is formed: one backward pass gives its factors, Gram matrices the norm.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    lengths : (B,), as the layer takes them

    Returns
    -------
    ExampleGradNorms
        ``value`` (B,), ``per_step`` (T, B), ``batch_per_step`` (T,), ``parameters[name]``
    """
    check_layer("example_grad_norms", layer)
    seen = _backward("example_grad_norms", layer, x, d_output, lengths)
    factors: dict[str, list[OuterProducts]] = {}
    flops = 0
    for level in range(layer.num_layers):
        for direction in range(2 if layer.bidirectional else 1):
            suffix = f"_l{level}" + ("_reverse" if direction else "")
            record = seen[level, direction]
            found = factors_of_record(layer.cell, record, layer.bias)
            factors |= {kind + suffix: parts for kind, parts in found.items()}
            flops += 3 * sweep_flops(layer, record, level, direction)
    return summarise(factors, flops)


def backward_record(
    place: str, layer: Any, x: Any, d_output: Any, lengths: Any, level: int, direction: int
) -> Any:
    """Run forward and backward, and return the record of one level and direction."""
    check_layer(place, layer, level, direction)
    return record_of(layer, _backward(place, layer, x, d_output, lengths), level, direction)


def _backward(place: str, layer: Any, x: Any, d_output: Any, lengths: Any) -> Any:
    """Run forward and backward under `minirnn.watch`, down to the input."""
    x = minirnn.Tensor(x.numpy() if isinstance(x, minirnn.Tensor) else x, requires_grad=True)
    with evaluating(layer), frozen(layer), minirnn.watch(layer) as seen:
        output, _ = layer(x, lengths=lengths)
        array = gradient_of_output(place, d_output, output.shape, output.dtype)
        if 0 in array.shape:
            raise ValueError(
                f"{place}: x must hold at least one step of one sequence, got shape {x.shape}"
            )
        minirnn.grad(output, x, array)
    return seen


@contextmanager
def frozen(layer: Any) -> Iterator[None]:
    """Tell the backward pass that no gradient of a parameter is wanted, and take it back after."""
    wanted = [p for p in layer.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad = False
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad = True


def factors_of_record(cell: Any, record: Any, bias: bool) -> dict[str, list[OuterProducts]]:
    """Return the factors of each parameter's gradient by kind, from a record after backward."""
    by_gate, by_block = record.gate_grads, record.recurrent_gate_grads
    dwx = np.concatenate([by_gate[k] for k in cell.gates], axis=2)
    factors = {"weight_ih": [OuterProducts(dwx, record.inputs)]}
    factors["weight_hh"] = recurrent_factors(cell, by_block, record.operands)
    if bias:
        factors["bias_ih"] = [OuterProducts(dwx)]
        biased = [k for k in cell.products if k not in cell.unbiased]
        factors["bias_hh"] = [OuterProducts(by_block[k]) for k in biased]
    for name, d in record.vector_grads.items() if cell.vectors else ():
        factors[f"vector_{name}"] = [OuterProducts(d)]
    return factors


def recurrent_factors(cell: Any, du: Any, operands: Any) -> list[OuterProducts]:
    """Return the factors of dU: blocks that share their operand share its Gram matrix."""
    groups: dict[int, list[str]] = {}
    found = []
    for k, v in operands.items():
        if k in cell.upper:  # module a of the units reads modules b >= a only
            (count,) = {len(numbers) for numbers in cell.constants.values()}
            module = np.arange(v.shape[2]) * count // v.shape[2]
            found += [
                OuterProducts(du[k][..., module == a], v[..., module >= a])
                for a in np.unique(module)
            ]
        else:
            groups.setdefault(id(v), []).append(k)
    for blocks in groups.values():
        d = np.concatenate([du[k] for k in blocks], axis=2)
        found.append(OuterProducts(d, operands[blocks[0]]))
    return found


def summarise(factors: dict[str, list[OuterProducts]], flops: int = 0) -> ExampleGradNorms:
    """Make the norms from the factors of every parameter's gradient, by name."""
    parameters = {
        name: ParameterNorms(
            joined([p.of_sequences() for p in parts]),
            joined([p.of_steps() for p in parts]),
            joined([p.of_steps_of_batch() for p in parts]),
        )
        for name, parts in factors.items()
        if parts
    }
    every = [p for parts in factors.values() for p in parts]
    held = sum(p.d.nbytes + (0 if p.v is None else p.v.nbytes) for p in every)
    return ExampleGradNorms(
        value=joined([n.value for n in parameters.values()]),
        per_step=joined([n.per_step for n in parameters.values()]),
        batch_per_step=joined([n.batch_per_step for n in parameters.values()]),
        how=(
            "one backward pass without gradients of parameters; a step's share is an outer "
            "product, the norm of a sum of them comes from the Gram matrices of their factors"
        ),
        cost=Cost(sweeps=2, flops=flops + sum(p.flops for p in every), bytes=held),
        parameters=parameters,
    )
