"""How many weights the networks of Hochreiter and Schmidhuber (1997) have."""

_BIASES = ("all", "hidden", "gates", "none")


def hs97_count(
    n_in: int,
    n_out: int,
    blocks: int,
    cells: int,
    out_gates: bool = True,
    biases: str = "all",
) -> int:
    """Count the weights of a network of memory blocks, as the paper's tables do.

    Every hidden unit (cell inputs, and one input and one output gate per block) sees all inputs
    and the whole hidden layer, gates included; the output units see the cells.

    Parameters
    ----------
    n_in, n_out
        Input and output units.
    blocks, cells
        Memory blocks, and cells in each of them.
    out_gates
        Whether the blocks have output gates.
    biases
        Which units have one: "all" (hidden and output units: experiments 4, 5 and 6), "hidden"
        (experiment 3), "gates" (experiment 1) or "none" (experiment 2c).

    Examples
    --------
    >>> hs97_count(2, 1, blocks=2, cells=2)  # experiment 4, adding
    93
    """
    for name, value in {"n_in": n_in, "n_out": n_out, "blocks": blocks, "cells": cells}.items():
        if value < 1:
            raise ValueError(f"hs97_count: {name} must be at least 1, got {value}")
    if biases not in _BIASES:
        raise ValueError(f"hs97_count: biases must be one of {', '.join(_BIASES)}, got {biases!r}")
    gates = blocks * (2 if out_gates else 1)
    hidden = blocks * cells + gates
    biased = {"all": hidden + n_out, "hidden": hidden, "gates": gates, "none": 0}[biases]
    return hidden * (n_in + hidden) + n_out * blocks * cells + biased
