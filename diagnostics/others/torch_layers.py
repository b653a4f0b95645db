"""A layer of minirnn with the weights of a PyTorch LSTM, GRU or RNN."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

import minirnn
from diagnostics.others.halves import Array, widened
from diagnostics.others.tensor_files import read_tensors
from diagnostics.others.torch_names import (
    Structure,
    chosen_prefix,
    recurrent_names,
    some,
    structure_of,
    with_dot,
)

CELLS = {"lstm": minirnn.LSTM, "gru": minirnn.GRU, "rnn": minirnn.RNN}


class Network(minirnn.Module):
    """A recurrent layer with what was asked for around it: an embedding, a readout, lengths.

    lengths: (B,) of the sequences that the next calls are given, or None.
    """

    def __init__(self, recurrent: Any, embedding: Any = None, readout: Any = None) -> None:
        self.embedding, self.recurrent, self.readout = embedding, recurrent, readout
        self.lengths: Array | None = None

    def forward(self, x: Any) -> Any:
        """Map ids (T, B) or vectors (T, B, I) to the readout's (T, B, V), or to (T, B, D*H)."""
        vectors = x if self.embedding is None else self.embedding(x)
        hidden, _ = self.recurrent(vectors, lengths=self.lengths)
        return hidden if self.readout is None else self.readout(hidden)


def load_torch(
    source: str | os.PathLike[str] | Mapping[str, Any],
    cell: str | None = None,
    prefix: str | None = None,
    *,
    nonlinearity: str | None = None,
    batch_first: bool = False,
    embedding: str | None = None,
    readout: str | None = None,
) -> Any:
    """Return a layer with the weights of a PyTorch LSTM, GRU or RNN, to be diagnosed.

    Levels, directions and biases are read off the names of the tensors (``weight_ih_l0``,
    ``bias_hh_l1_reverse``), sizes off their shapes. LSTMCell, GRUCell and RNNCell are layers of
    one level. PyTorch itself is not needed.

    Parameters
    ----------
    source : a file of safetensors, .npz or .pt (``torch.save`` of a state dict), or a mapping from
        names to arrays
    cell : "lstm", "gru" or "rnn"; None takes the one whose shapes these are
    prefix : the module's name in a larger model, "encoder.rnn"; None where there is just one
    nonlinearity : of an RNN, "tanh" or "relu", default "tanh": its weights do not say which
    batch_first : whether x is (B, T, I)
    embedding : name of an Embedding whose ``weight`` (V, I) looks up ids first
    readout : name of a Linear whose ``weight`` (V, D*H), and ``bias`` (V,) if there is one, reads
        the output

    Returns
    -------
    minirnn.Recurrent, or with an embedding or a readout a Module of them
        In float64 if a weight is, else in float32. Numbers that are not finite are loaded as they
        are: the report says what they do.

    Raises
    ------
    ValueError
        A tensor is missing, misshapen or not of floats; the prefix is wrong or ambiguous; the file
        holds no tensors. The message names the tensor, or the prefixes that there are.
    """
    tensors = source if isinstance(source, Mapping) else read_tensors(source)
    place = "load_torch" if isinstance(source, Mapping) else f"load_torch: {os.fspath(source)}"
    chosen = chosen_prefix(place, tensors, prefix)
    place_of_layer = f"{place}: {chosen}"
    found = {
        name: _floats(f"{place_of_layer}{name}", tensors[chosen + name])
        for name in recurrent_names(tensors)[chosen]
    }
    around = {
        kind: _tensors_around(place, tensors, name, kind)
        for kind, name in (("embedding", embedding), ("readout", readout))
        if name is not None
    }
    given = [*found.values(), *(array for parts in around.values() for array in parts.values())]
    dtype = np.float64 if any(array.dtype == np.float64 for array in given) else np.float32
    # A seed, so that the numbers that are overwritten do not come from the global generator.
    options: dict[str, Any] = {"batch_first": batch_first, "dtype": dtype, "seed": 0}
    layer = _layer(place_of_layer, found, cell, nonlinearity, options)
    if not around:
        return layer
    modules = [
        _module_around(place, kind, around[kind], layer, dtype) if kind in around else None
        for kind in ("embedding", "readout")
    ]
    return Network(layer, *modules)


def _floats(place: str, value: Any) -> Array:
    """Return a tensor as floats of 32 or 64 bits, or say that it holds none."""
    array = widened(np.asarray(value))
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"{place} must hold floats of 16, 32 or 64 bits, got {array.dtype}")
    return array


def _layer(
    place: str, found: dict[str, Array], cell: str | None, nonlinearity: str | None,
    options: dict[str, Any],
) -> Any:  # fmt: skip
    """Make the layer whose parameters have these names and shapes, and fill it."""
    names = structure_of(found)
    if names.projected:
        raise ValueError(
            f"{place}weight_hr_l0 is a projection (proj_size), which minirnn's layers do not have; "
            "diagnose a network without one"
        )
    if names.bare:
        found = {f"{name}_l0": array for name, array in found.items()}
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in found:
            raise ValueError(f"{place}{names.torch_name(name)} is missing")
        if found[name].ndim != 2 or 0 in found[name].shape:
            raise ValueError(
                f"{place}{names.torch_name(name)} must be a matrix with entries, got shape "
                f"{found[name].shape}"
            )
    inputs, hidden = found["weight_ih_l0"].shape[1], found["weight_hh_l0"].shape[1]
    kind = _checked_cell(f"{place}{names.torch_name('weight_hh_l0')}", found["weight_hh_l0"], cell)
    if kind == "rnn":
        options = options | {"nonlinearity": nonlinearity or "tanh"}
    elif nonlinearity is not None:
        raise ValueError(
            f"load_torch: nonlinearity must be left out of {kind}, whose functions are fixed, got "
            f"{nonlinearity!r}"
        )
    layer = CELLS[kind](
        inputs, hidden, names.num_layers, bias=names.bias, bidirectional=names.bidirectional,
        **options,
    )  # fmt: skip
    _check_shapes(place, found, layer, names, kind)
    layer.load_state_dict(found)
    return layer


def _check_shapes(
    place: str, found: dict[str, Array], layer: Any, names: Structure, kind: str
) -> None:
    """Raise ValueError for the first tensor that is missing or does not fit the others."""
    for name, parameter in layer.named_parameters():
        shown = f"{place}{names.torch_name(name)}"
        if name not in found:
            raise ValueError(f"{shown} is missing; the names are those of {kind}, {names}")
        if found[name].shape != parameter.shape:
            raise ValueError(
                f"{shown} must have shape {parameter.shape}, got {found[name].shape}; the first "
                f"level is {kind} with input size {layer.input_size} and hidden size "
                f"{layer.hidden_size}"
            )


def _checked_cell(place: str, weight_hh: Array, cell: str | None) -> str:
    """Return the cell whose number of gates G weight_hh (G*H, H) has."""
    if cell is not None and cell not in CELLS:
        raise ValueError(f"load_torch: cell must be one of {', '.join(CELLS)}, got {cell!r}")
    gates = {name: len(minirnn.cells.get(name).gates) for name in CELLS}
    rows, hidden = weight_hh.shape
    fitting = [name for name, count in gates.items() if rows == count * hidden]
    if not fitting:
        blocks = ", ".join(f"{count} H for {name}" for name, count in gates.items())
        raise ValueError(f"{place} must have shape (G H, H), {blocks}, got {weight_hh.shape}")
    if cell is not None and cell not in fitting:
        raise ValueError(
            f"{place} must have shape ({gates[cell] * hidden}, {hidden}) for cell {cell}, got "
            f"{weight_hh.shape}, the shape of cell {fitting[0]}"
        )
    return fitting[0]


def _tensors_around(
    place: str, tensors: Mapping[str, Any], name: str, kind: str
) -> dict[str, Array]:
    """Return the weight of a module by its name, and the bias of a readout that has one."""
    head = with_dot(name)
    if f"{head}weight" not in tensors:
        there = sorted(n.removesuffix(".weight") for n in tensors if n.endswith(".weight"))
        raise ValueError(
            f"{place}: there is no {head}weight for the {kind}; modules with a weight: "
            f"{some(there) if there else 'none'}"
        )
    names = ["weight"] + ["bias"] * (kind == "readout" and f"{head}bias" in tensors)
    return {n: _floats(f"{place}: {head}{n}", tensors[head + n]) for n in names}


def _module_around(place: str, kind: str, parts: dict[str, Array], layer: Any, dtype: Any) -> Any:
    """Make the embedding or the readout of a layer, and fill it."""
    weight = parts["weight"]
    reads = layer.input_size if kind == "embedding" else layer.directions * layer.hidden_size
    if weight.ndim != 2 or weight.shape[1] != reads or not len(weight):
        raise ValueError(
            f"{place}: the {kind}'s weight must have shape (V, {reads}) beside this layer, got "
            f"{weight.shape}"
        )
    if "bias" in parts and parts["bias"].shape != (len(weight),):
        raise ValueError(
            f"{place}: the readout's bias must have shape ({len(weight)},), got "
            f"{parts['bias'].shape}"
        )
    module: Any
    if kind == "embedding":
        module = minirnn.Embedding(*weight.shape, dtype=dtype, seed=0)
    else:
        module = minirnn.Linear(reads, len(weight), bias="bias" in parts, dtype=dtype, seed=0)
    module.load_state_dict(parts)
    return module
