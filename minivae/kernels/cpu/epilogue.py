"""What follows a product: y = act(s + bias), and the two gradients that lead back, g * act'(y) and the sum over rows.

An activation's derivative is told by its value: relu' = [y > 0], tanh' = 1 - y^2, sigmoid' = y (1 - y).
"""

import numba
import numpy as np

from ...errors import ShapeError
from .jit import device, inline, kernel
from .tile import LANES, WIDTH
from .vecmath import sigmoid, tanh

ACTIVATIONS = {None: 0, "relu": 1, "tanh": 2, "sigmoid": 3}
RELU, TANH, SIGMOID = 1, 2, 3

ELEMENTS = 1 << 14  # a worker's least share of an elementwise pass: 3 us, the cost of waking a thread


def activation_code(activation: str | None) -> int:
    try:
        return ACTIVATIONS[activation]
    except KeyError:
        raise ShapeError(f"activation {activation!r} is unknown; choose None, relu, tanh or sigmoid") from None


def as_float32(x: np.ndarray) -> np.ndarray:
    """x itself if kernels can take it: float32, C order, aligned, writeable (each other kind would be compiled for anew); else a copy."""
    return x if x.flags.carray and x.dtype == np.float32 else np.array(x, np.float32, order="C", ndmin=x.ndim)


@device
def apply_activation(values, activation):
    """values = act(values) in place, for the two that a tile does not do by itself; a multiple of LANES numbers.

    A constant trip count is what LLVM makes vector code of.
    """
    for start in range(0, values.size, LANES):
        lanes = values[start : start + LANES]
        if activation == TANH:
            for j in range(LANES):
                lanes[j] = tanh(lanes[j])
        else:
            for j in range(LANES):
                lanes[j] = sigmoid(lanes[j])


@inline
def _scale_by_derivative(g, y, activation, out):
    if activation == RELU:
        for i in range(out.size):
            slope = np.float32(1) if y[i] > np.float32(0) else np.float32(0)
            out[i] = g[i] * slope
    elif activation == TANH:
        for i in range(out.size):
            out[i] = g[i] * (np.float32(1) - y[i] * y[i])
    else:
        for i in range(out.size):
            out[i] = g[i] * (y[i] * (np.float32(1) - y[i]))


@kernel(parallel=True)
def _activation_gradient(g, y, activation, out, workers):
    n = out.size
    if workers == 1:
        _scale_by_derivative(g, y, activation, out)
    else:
        for worker in numba.prange(workers):
            first, last = n * worker // workers, n * (worker + 1) // workers
            _scale_by_derivative(g[first:last], y[first:last], activation, out[first:last])


def activation_gradient(g: np.ndarray, y: np.ndarray, activation: str | None) -> np.ndarray:
    """g * act'(y), elementwise.   any shape -> same shape; a new array, or g itself for activation None"""
    code = activation_code(activation)
    if code == 0:
        return g
    if g.shape != y.shape:
        raise ShapeError(f"activation_gradient: g is {g.shape}, y is {y.shape}; need equal shapes")
    g, y = as_float32(g), as_float32(y)
    out = np.empty_like(g)
    workers = 1 if out.size < 2 * ELEMENTS else min(numba.get_num_threads(), out.size // ELEMENTS)
    _activation_gradient(g.reshape(-1), y.reshape(-1), code, out.reshape(-1), workers)
    return out


@device
def _sum_rows(rows, total):
    """total[j] = sum_i rows[i, j], top to bottom, WIDTH columns at a time."""
    channels = rows.shape[1]
    if channels == 1:
        column = rows.reshape(-1)
        s = np.float32(0)
        for i in range(column.size):
            s += column[i]
        total[0] = s
    else:
        total[:] = 0
        whole = channels // WIDTH * WIDTH
        for i in range(rows.shape[0]):
            row = rows[i]
            for j0 in range(0, whole, WIDTH):
                source, target = row[j0 : j0 + WIDTH], total[j0 : j0 + WIDTH]
                for j in range(WIDTH):
                    target[j] += source[j]
            for j in range(whole, channels):
                total[j] += row[j]


@kernel(parallel=True)
def _bias_gradient(g, partial, total, workers):
    parts = partial.shape[0]
    N = g.shape[0]
    if workers == 1:
        for part in range(parts):
            _sum_rows(g[N * part // parts : N * (part + 1) // parts], partial[part])
    else:
        for part in numba.prange(parts):
            _sum_rows(g[N * part // parts : N * (part + 1) // parts], partial[part])
    _sum_rows(partial, total)


def bias_gradient(g: np.ndarray) -> np.ndarray:
    """sum of g over all axes but the last.   (..., C) -> (C,)

    The rows are summed in a number of parts that depends on the shape alone, then the parts in order: any number of threads makes
    the same bits, and the rounding error grows with rows / parts + parts instead of with rows.
    """
    C = g.shape[-1]
    total = np.empty(C, np.float32)
    if g.size == 0:
        total[:] = 0
        return total
    g = as_float32(g).reshape(-1, C)
    parts = max(1, min(64, g.size // ELEMENTS, len(g)))
    _bias_gradient(g, np.empty((parts, C), np.float32), total, 1 if parts == 1 else numba.get_num_threads())
    return total
