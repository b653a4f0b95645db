"""The functions of the cell language, answering in kind.

Given a Symbol they extend the graph, given a Tensor they are recorded on the tape, given an array
or a number they compute (complex arrays too). Each calls the method of its operand, so that the
three need not know each other; NumPy is imported only when an array or a number comes.
"""

from typing import Any


def sigmoid(x: Any) -> Any:
    """Logistic function ``1 / (1 + exp(-x))``."""
    if hasattr(x, "sigmoid"):
        return x.sigmoid()
    import numpy as np

    x = np.asarray(x)
    if np.iscomplexobj(x):
        return 1 / (1 + np.exp(-x))
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, e, 1) / (1 + e)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return _unary(x, "tanh")


def relu(x: Any) -> Any:
    """``max(x, 0)``; its derivative at 0 is 0."""
    if hasattr(x, "relu"):
        return x.relu()
    import numpy as np

    return np.where(np.real(x) <= 0, np.zeros_like(x), x)  # NaN stays NaN


def exp(x: Any) -> Any:
    """Exponential function."""
    return _unary(x, "exp")


def log(x: Any) -> Any:
    """Natural logarithm."""
    return _unary(x, "log")


def sqrt(x: Any) -> Any:
    """Square root."""
    return _unary(x, "sqrt")


def rsqrt(x: Any) -> Any:
    """``1 / sqrt(x)``."""
    if hasattr(x, "rsqrt"):
        return x.rsqrt()
    import numpy as np

    return 1 / np.sqrt(x)


def abs(x: Any) -> Any:
    """Absolute value; its derivative at 0 is 0."""
    if hasattr(x, "unit_mean"):
        return x.abs()
    import numpy as np

    return np.where(np.real(x) < 0, -x, x) if np.iscomplexobj(x) else np.abs(x)


def maximum(a: Any, b: Any) -> Any:
    """Greater of two, unit by unit; where they are equal each gets half of the derivative."""
    for x, other in ((a, b), (b, a)):
        if hasattr(x, "unit_mean"):
            return x.maximum(other)
    import numpy as np

    return np.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    """Smaller of two, unit by unit; where they are equal each gets half of the derivative."""
    for x, other in ((a, b), (b, a)):
        if hasattr(x, "unit_mean"):
            return x.minimum(other)
    import numpy as np

    return np.minimum(a, b)


def clip(x: Any, low: float, high: float) -> Any:
    """``min(max(x, low), high)``; the derivative is 1 on the bounds, as in PyTorch's ``clamp``."""
    if hasattr(x, "unit_mean"):
        return x.clip(low, high)
    import numpy as np

    return np.clip(x, low, high)


def stop(x: Any) -> Any:
    """Return the value itself; no gradient passes."""
    return x.stop() if hasattr(x, "unit_mean") else x


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the condition holds, else ``b``; the condition passes no derivative."""
    for x in (condition, a, b):
        if hasattr(x, "unit_mean"):
            return x.where_(condition, a, b)
    import numpy as np

    return np.where(condition, a, b)


def mean(v: Any) -> Any:
    """Mean over the hidden units (the last axis), kept as an axis of length 1."""
    if hasattr(v, "unit_mean"):
        return v.unit_mean()
    import numpy as np

    return np.mean(v, axis=-1, keepdims=True)


def layer_norm(v: Any, eps: float = 1e-5) -> Any:
    """Normalise over the hidden units (Ba, Kiros and Hinton 2016), without gain and shift.

    Two passes, never ``mean(v * v) - mean(v)**2``, which loses all digits when the mean is large.
    """
    d = v - mean(v)
    return d * rsqrt(mean(d * d) + eps)


def _unary(x: Any, name: str) -> Any:
    if hasattr(x, "unit_mean"):
        return getattr(x, name)()
    import numpy as np

    return getattr(np, name)(x)
