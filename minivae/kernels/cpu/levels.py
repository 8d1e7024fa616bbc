"""The mean and the variance of a pixel's value, of which a noisy version is known: sums over the levels near it.

The levels farther from z / a than REACH s / a count e^(-REACH^2 / 2) at most, and are left out.
"""

import math

import numba
import numpy as np

from .densities import _largest
from .elementwise import PARALLEL_FROM
from .jit import kernel
from .vecmath import F, exp

REACH = F(9)


def level_moments(z: np.ndarray, a: np.ndarray, s: np.ndarray, log_frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E and Var of y = 2 k / (L - 1) - 1 given z = a y + s noise, p(k) = e^log_frequency.   (N, D), two (N,), (L,) -> two (N, D)"""
    arrays = [np.ascontiguousarray(b, F) for b in (z, a, s, log_frequency)]
    mean, variance = np.empty(z.shape, F), np.empty(z.shape, F)
    if z.size * len(log_frequency) < PARALLEL_FROM:
        _moments(0, len(z), *arrays, mean, variance)
    else:
        _moments_parallel(*arrays, mean, variance)
    return mean, variance


@kernel
def _moments(start, stop, z, a, s, log_frequency, mean, variance):
    """Offsets from z / a, not values: the variance may be a millionth of a square."""
    n = log_frequency.size - 1
    step = F(2) / F(n)
    values, weights = np.empty(n + 1, F), np.empty(n + 1, F)
    for k in range(n + 1):
        values[k] = F(k) * step - F(1)
    for i in range(start, stop):
        r = s[i] / a[i]
        curve = F(-0.5) / (r * r)
        near = int(min(math.ceil(REACH * r / step), F(n))) + 1
        for d in range(z.shape[1]):
            y = z[i, d] / a[i]
            middle = int(min(max((y + F(1)) / step + F(0.5), F(0)), F(n)))
            low, high = max(middle - near, 0), min(middle + near, n) + 1
            for k in range(low, high):
                off = values[k] - y
                weights[k] = log_frequency[k] + curve * off * off
            largest = _largest(weights[low:high])
            total, first, second = F(0), F(0), F(0)
            for k in range(low, high):
                w = exp(weights[k] - largest)
                off = values[k] - values[middle]
                total += w
                first += w * off
                second += w * off * off
            first, second = first / total, second / total
            mean[i, d] = values[middle] + first
            variance[i, d] = max(second - first * first, F(0))


@kernel(parallel=True)
def _moments_parallel(z, a, s, log_frequency, mean, variance):
    for i in numba.prange(len(z)):
        _moments(i, i + 1, z, a, s, log_frequency, mean, variance)
