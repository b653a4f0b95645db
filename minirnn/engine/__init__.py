"""The autodiff engine: tensors, a tape, operations with their derivatives. NumPy only."""

from minirnn.engine.functional import grad, hvp, jvp
from minirnn.engine.gradcheck import GradcheckError, gradcheck
from minirnn.engine.linear import einsum, embedding, matmul
from minirnn.engine.movement import (
    concat,
    flip,
    pad,
    permute,
    reshape,
    split,
    stack,
    transpose,
    unbind,
)
from minirnn.engine.piecewise import abs, clip, maximum, minimum, relu, where
from minirnn.engine.pointwise import exp, log, rsqrt, sigmoid, sqrt, tanh
from minirnn.engine.random import manual_seed
from minirnn.engine.reductions import log_softmax, logsumexp, max, mean, min, softmax, sum
from minirnn.engine.tape import enable_grad, is_grad_enabled, no_grad, record
from minirnn.engine.tensor import Tensor

__all__ = [
    "GradcheckError",
    "Tensor",
    "abs",
    "clip",
    "concat",
    "einsum",
    "embedding",
    "enable_grad",
    "exp",
    "flip",
    "grad",
    "gradcheck",
    "hvp",
    "is_grad_enabled",
    "jvp",
    "log",
    "log_softmax",
    "logsumexp",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "no_grad",
    "pad",
    "permute",
    "record",
    "relu",
    "reshape",
    "rsqrt",
    "sigmoid",
    "softmax",
    "split",
    "sqrt",
    "stack",
    "sum",
    "tanh",
    "transpose",
    "unbind",
    "where",
]
