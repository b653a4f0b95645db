"""The update rules of optimizers: one pass over memory for all parameters of a group.

``table`` has a row of integers per parameter: its first entry in the order of all, its size, and
the addresses of the parameter, its gradient and what the rule keeps. ``options`` has a row of
numbers per parameter, in the parameters' dtype, so that no product is formed in another one:
first the sign of the gradient and the weight decay, then those that each rule names.
A call updates entries first to last of all parameters one after the other.

No operation is fused with another: the bits are those of the formulas in `minirnn.layers.optim`.
"""

import numpy as np

from minirnn.kernels._jit import kernel
from minirnn.kernels.flat import part, share


@kernel
def _downhill(p, g, sign, decay):  # type: ignore[no-untyped-def]
    """Return the gradient with its sign, and with the weight decay if there is one."""
    g = sign * g
    return g + decay * p if decay != 0 else g


@kernel
def sgd(table, options, first, last):  # type: ignore[no-untyped-def]
    """Keep buf, with momentum.  Options: lr, momentum, the share of g in buf, nesterov."""
    for i in range(table.shape[0]):
        begin, end = share(table, i, first, last)
        p = part(table, options, i, 2, begin, end)
        grad = part(table, options, i, 3, begin, end)
        sign, decay, lr, momentum, fresh, nesterov = options[i, :6]
        if momentum == 0:
            for j in range(end - begin):
                p[j] -= lr * _downhill(p[j], grad[j], sign, decay)
            continue
        buf = part(table, options, i, 4, begin, end)
        for j in range(end - begin):
            g = _downhill(p[j], grad[j], sign, decay)
            b = buf[j] * momentum + fresh * g
            buf[j] = b
            p[j] -= lr * (g + momentum * b if nesterov != 0 else b)


@kernel
def rmsprop(table, options, first, last):  # type: ignore[no-untyped-def]
    """Keep v, with momentum buf, and centered the mean.

    Options: lr, alpha, 1 - alpha, eps, momentum, centered.
    """
    for i in range(table.shape[0]):
        begin, end = share(table, i, first, last)
        p = part(table, options, i, 2, begin, end)
        grad = part(table, options, i, 3, begin, end)
        v = part(table, options, i, 4, begin, end)
        sign, decay, lr, alpha, rest, eps, momentum, centered = options[i, :8]
        zero = options.dtype.type(0)
        if momentum == 0 and centered == 0:
            for j in range(end - begin):
                g = _downhill(p[j], grad[j], sign, decay)
                v[j] = v[j] * alpha + rest * (g * g)
                p[j] -= lr * (g / (np.sqrt(v[j]) + eps))
            continue
        buf = part(table, options, i, 5, begin, end)
        mean = part(table, options, i, 6, begin, end)
        for j in range(end - begin):
            g = _downhill(p[j], grad[j], sign, decay)
            v[j] = v[j] * alpha + rest * (g * g)
            square = v[j]
            if centered != 0:
                mean[j] += rest * (g - mean[j])
                square -= mean[j] * mean[j]
                square = zero if square < 0 else square  # rounding may turn 0 negative
            change = g / (np.sqrt(square) + eps)
            if momentum != 0:
                buf[j] = buf[j] * momentum + change
                change = buf[j]
            p[j] -= lr * change


@kernel
def adagrad(table, options, first, last):  # type: ignore[no-untyped-def]
    """Keep the sum of squares.  Options: lr with its decay, eps."""
    for i in range(table.shape[0]):
        begin, end = share(table, i, first, last)
        p = part(table, options, i, 2, begin, end)
        grad = part(table, options, i, 3, begin, end)
        total = part(table, options, i, 4, begin, end)
        sign, decay, lr, eps = options[i, :4]
        for j in range(end - begin):
            g = _downhill(p[j], grad[j], sign, decay)
            total[j] += g * g
            p[j] -= lr * (g / (np.sqrt(total[j]) + eps))


@kernel
def adam(table, options, first, last):  # type: ignore[no-untyped-def]
    """Keep m, v and with amsgrad the largest v.

    Options: factor on p, 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^t), eps, lr / (1 - beta1^t),
    amsgrad.
    """
    for i in range(table.shape[0]):
        begin, end = share(table, i, first, last)
        p = part(table, options, i, 2, begin, end)
        grad = part(table, options, i, 3, begin, end)
        m = part(table, options, i, 4, begin, end)
        v = part(table, options, i, 5, begin, end)
        sign, decay, keep, rest1, beta2, rest2, correction, eps, lr, amsgrad = options[i, :10]
        if amsgrad == 0:
            for j in range(end - begin):
                q = p[j] * keep
                g = _downhill(q, grad[j], sign, decay)
                m[j] += rest1 * (g - m[j])
                v[j] = v[j] * beta2 + rest2 * (g * g)
                p[j] = q - lr * (m[j] / (np.sqrt(v[j]) / correction + eps))
        else:
            largest = part(table, options, i, 6, begin, end)
            for j in range(end - begin):
                q = p[j] * keep
                g = _downhill(q, grad[j], sign, decay)
                m[j] += rest1 * (g - m[j])
                v[j] = v[j] * beta2 + rest2 * (g * g)
                if not v[j] <= largest[j] and largest[j] == largest[j]:
                    largest[j] = v[j]
                p[j] = q - lr * (m[j] / (np.sqrt(largest[j]) / correction + eps))
