"""Steps of optimizers, in one pass over the arrays that they change."""

from __future__ import annotations

from functools import cache

from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import flat

_sqrt = _d.sqrt


def sgd(weight, gradient, velocity, rate, momentum, nesterov):
    """A step of gradient descent in place; arrays in C order. ``velocity`` may be None."""
    real = weight.dtype.type
    arrays = weight, gradient, weight if velocity is None else velocity
    numbers = real(rate), real(momentum)
    _d.spread(_sgd(velocity is not None, nesterov), weight.size, *map(flat, arrays), numbers)


@cache
def _sgd(heavy, nesterov):
    def apply(count, weight, gradient, velocity, numbers):
        rate, momentum = numbers
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            change = -rate * gradient[i]
            if heavy:
                v = momentum * velocity[i] + change
                velocity[i] = v
                change = momentum * v + change if nesterov else v
            weight[i] += change

    return _d.kernel(apply)


def adam(weight, gradient, momentum, velocity, largest, share_m, share_v, alpha, epsilon):
    """A step of Adam in place; arrays in C order. ``largest`` may be None."""
    real = weight.dtype.type
    arrays = weight, gradient, momentum, velocity, velocity if largest is None else largest
    numbers = tuple(map(real, (share_m, share_v, alpha, epsilon)))
    _d.spread(_adam(largest is not None), weight.size, *map(flat, arrays), numbers)


@cache
def _adam(amsgrad):
    def apply(count, weight, gradient, momentum, velocity, largest, numbers):
        share_m, share_v, alpha, epsilon = numbers
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            g, m, v = gradient[i], momentum[i], velocity[i]
            m += (g - m) * share_m
            v += (g * g - v) * share_v
            momentum[i] = m
            velocity[i] = v
            if amsgrad:
                v = _d.maximum(largest[i], v)
                largest[i] = v
            weight[i] -= alpha * (m / (_sqrt(v) + epsilon))

    return _d.kernel(apply)
