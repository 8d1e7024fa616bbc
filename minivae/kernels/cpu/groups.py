"""Group norm, an example at a time: its pixels, some 50 KB, stay in the cache from the first pass over them to the last.

Sums are taken channel by channel with several pixels side by side, so that few channels fill the vectors too, then over the channels of a
group.  What the passes multiply and add lies side by side as often.  The mean comes first, then the squares of what is left: no
cancellation.  An example is a task: the number of threads does not change a bit.
"""

import math

import numba
import numpy as np

from .elementwise import PARALLEL_FROM
from .jit import device, kernel
from .vecmath import F

WIDE = 64  # numbers side by side: eight vectors of AVX2, as many sums as hide how long an addition takes


def group_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y = scale (x - mean) inverse + shift, and of each example and group the mean and inverse = (var + eps)^(-1/2).

    (N, ..., C), two (C,) or (N, C) -> (N, ..., C), two (N, groups)"""
    flat, side = _flat(x), _side(x)
    y, mean, inverse = np.empty(x.shape, F), np.empty((len(x), groups), F), np.empty((len(x), groups), F)
    work = np.empty((len(x), 4, side * x.shape[-1]), F)
    arguments = (side, F(eps), flat, _rows(scale), _rows(shift), y.reshape(flat.shape), mean, inverse, work)
    _forward(0, len(x), *arguments) if x.size < PARALLEL_FROM else _forward_parallel(*arguments)
    return y, mean, inverse


def group_norm_vjp(
    g: np.ndarray, x: np.ndarray, scale: np.ndarray, mean: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gx, gscale, gshift), the last two for each example.   two (N, ..., C), (C,) or (N, C), two (N, groups) -> (N, ..., C), two (N, C)"""
    flat, side = _flat(x), _side(x)
    gx, gscale, gshift = np.empty(x.shape, F), np.empty((len(x), x.shape[-1]), F), np.empty((len(x), x.shape[-1]), F)
    work = np.empty((len(x), 5, side * x.shape[-1]), F)
    arguments = (side, _flat(g), flat, _rows(scale), mean, inverse, gx.reshape(flat.shape), gscale, gshift, work)
    _backward(0, len(x), *arguments) if x.size < PARALLEL_FROM else _backward_parallel(*arguments)
    return gx, gscale, gshift


def _flat(x):
    """(N, ..., C) -> (N, pixels C)"""
    return np.ascontiguousarray(x, F).reshape(len(x), math.prod(x.shape[1:]))


def _rows(a):
    """(C,) or (N, C) -> (1, C) or (N, C)"""
    return np.ascontiguousarray(a, F).reshape(-1, a.shape[-1])


def _side(x):
    """How many pixels lie side by side: as many as are WIDE together, and divide all."""
    pixels = math.prod(x.shape[1:-1])
    return next(k for k in range(max(1, WIDE // x.shape[-1]), 0, -1) if pixels % k == 0)


@device
def _fold(sums, channels):
    """Into the first channels, the sums of all pixels side by side."""
    for k in range(channels, sums.size, channels):
        for c in range(channels):
            sums[c] += sums[k + c]


@device
def _repeat(a, channels):
    """The first channels, side by side."""
    for k in range(channels, a.size, channels):
        for c in range(channels):
            a[k + c] = a[c]


@kernel
def _forward(start, stop, side, eps, x, scale, shift, y, mean, inverse, work):
    groups = mean.shape[1]
    channels = scale.shape[1]
    wide, size = side * channels, channels // groups
    n = F(x.shape[1] // groups)  # numbers of a group
    for i in range(start, stop):
        sums, middle, factor, added = work[i, 0], work[i, 1], work[i, 2], work[i, 3]
        scales, shifts = scale[i % len(scale)], shift[i % len(shift)]
        sums[:] = F(0)
        for p in range(0, x.shape[1], wide):
            pixels = x[i, p : p + wide]
            for k in range(wide):
                sums[k] += pixels[k]
        _fold(sums, channels)
        for j in range(groups):
            total = F(0)
            for c in range(j * size, (j + 1) * size):
                total += sums[c]
            mean[i, j] = total / n
            for c in range(j * size, (j + 1) * size):
                middle[c] = mean[i, j]
        _repeat(middle, channels)
        sums[:] = F(0)
        for p in range(0, x.shape[1], wide):
            pixels = x[i, p : p + wide]
            for k in range(wide):
                sums[k] += (pixels[k] - middle[k]) * (pixels[k] - middle[k])
        _fold(sums, channels)
        for j in range(groups):
            total = F(0)
            for c in range(j * size, (j + 1) * size):
                total += sums[c]
            inverse[i, j] = F(1) / np.sqrt(total / n + eps)
            for c in range(j * size, (j + 1) * size):
                factor[c] = inverse[i, j] * scales[c]
                added[c] = shifts[c]
        _repeat(factor, channels)
        _repeat(added, channels)
        for p in range(0, x.shape[1], wide):
            pixels, out = x[i, p : p + wide], y[i, p : p + wide]
            for k in range(wide):
                out[k] = (pixels[k] - middle[k]) * factor[k] + added[k]


@kernel
def _backward(start, stop, side, g, x, scale, mean, inverse, gx, gscale, gshift, work):
    """With u = g scale and the normalized x, n:  gx = inverse (u - mean of u - n (mean of u n)), means over the group."""
    groups = mean.shape[1]
    channels = scale.shape[1]
    wide, size = side * channels, channels // groups
    n = F(x.shape[1] // groups)
    for i in range(start, stop):
        of_g, of_x, middle, factor, slope = work[i, 0], work[i, 1], work[i, 2], work[i, 3], work[i, 4]
        scales = scale[i % len(scale)]
        for c in range(channels):
            middle[c] = mean[i, c // size]
        _repeat(middle, channels)
        of_g[:] = F(0)
        of_x[:] = F(0)
        for p in range(0, x.shape[1], wide):
            pixels, slopes = x[i, p : p + wide], g[i, p : p + wide]
            for k in range(wide):
                of_g[k] += slopes[k]
                of_x[k] += slopes[k] * (pixels[k] - middle[k])
        _fold(of_g, channels)
        _fold(of_x, channels)
        for j in range(groups):
            u, un = F(0), F(0)
            for c in range(j * size, (j + 1) * size):
                gshift[i, c] = of_g[c]
                gscale[i, c] = of_x[c] * inverse[i, j]
                u += scales[c] * gshift[i, c]
                un += scales[c] * gscale[i, c]
            for c in range(j * size, (j + 1) * size):
                factor[c] = scales[c] * inverse[i, j]
                of_g[c] = -inverse[i, j] * u / n
                slope[c] = -inverse[i, j] * inverse[i, j] * un / n
        _repeat(of_g, channels)
        _repeat(factor, channels)
        _repeat(slope, channels)
        for p in range(0, x.shape[1], wide):
            pixels, slopes, out = x[i, p : p + wide], g[i, p : p + wide], gx[i, p : p + wide]
            for k in range(wide):
                out[k] = slopes[k] * factor[k] + of_g[k] + (pixels[k] - middle[k]) * slope[k]


@kernel(parallel=True)
def _forward_parallel(side, eps, x, scale, shift, y, mean, inverse, work):
    for i in numba.prange(len(x)):
        _forward(i, i + 1, side, eps, x, scale, shift, y, mean, inverse, work)


@kernel(parallel=True)
def _backward_parallel(side, g, x, scale, mean, inverse, gx, gscale, gshift, work):
    for i in numba.prange(len(x)):
        _backward(i, i + 1, side, g, x, scale, mean, inverse, gx, gscale, gshift, work)
