"""Reverse-mode autodiff for recurrent networks: cells are equations, kernels are derived.

Every public name is listed in ``_HOME`` with the module that holds it, and is imported when it is
first used (PEP 562), so that ``import minirnn`` and ``--help`` of the tools stay instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_HOME = {
    "minirnn.engine": (
        "Tensor grad no_grad jvp hvp gradcheck GradcheckError manual_seed "
        "softmax log_softmax logsumexp matmul einsum concat stack split pad embedding flip"
    ),
    "minirnn.equations": (
        "cell Cell CellError sigmoid tanh relu exp log sqrt rsqrt abs maximum minimum clip stop "
        "where mean layer_norm"
    ),
    "minirnn.kernels": "set_num_threads get_num_threads",
    "minirnn.layers": (
        "Module Recurrent RNN LSTM GRU SpatialLSTM Linear Embedding Dropout LayerNorm Sequential "
        "watch use_reference cross_entropy mse_loss SGD RMSprop Adagrad Adam AdamW "
        "clip_grad_norm clip_grad_value ClipInfo"
    ),
    "minirnn.training": "generate tbptt",
    "minirnn.checkpoint": "save_checkpoint load_checkpoint CheckpointError",
}
_MODULES = {
    "cells": "minirnn.cells",
    "data": "minirnn.data",
    "init": "minirnn.layers.init",
    "regularise": "minirnn.regularise",
}
_NAMES = {name: home for home, names in _HOME.items() for name in names.split()}

__all__ = sorted([*_NAMES, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used."""
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    else:
        raise AttributeError(f"module 'minirnn' has no public name {name!r}; see minirnn.__all__")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
