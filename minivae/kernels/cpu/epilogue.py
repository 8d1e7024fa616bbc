"""What follows a product: y = act(s + bias), and the two gradients that lead back, g * act'(y) and the sum over rows.

An activation's derivative is told by its value: relu' = [y > 0], tanh' = 1 - y^2, sigmoid' = y (1 - y).
"""

import math

import numba
import numpy as np

from ...errors import ShapeError
from ..checks import ACTIVATIONS, activation_code
from .addresses import floats
from .jit import device, inline, kernel, shared
from .tile import HAS_FMA, LANES, WIDTH, make_tile
from .vecmath import sigmoid, tanh

RELU, TANH, SIGMOID = (ACTIVATIONS[name] for name in ("relu", "tanh", "sigmoid"))

row_wide, row_narrow = make_tile(1, 2, LANES, HAS_FMA), make_tile(1, 1, LANES, HAS_FMA)

FLOAT32 = np.dtype(np.float32)
ELEMENTS = 1 << 14  # a worker's least share of an elementwise pass: 3 us, the cost of waking a thread


def as_float32(x: np.ndarray) -> np.ndarray:
    """x itself if kernels can take it: float32, C order, aligned, writeable (each other kind would be compiled for anew); else a copy."""
    return x if (x.dtype is FLOAT32 or x.dtype == FLOAT32) and x.flags.carray else np.array(x, np.float32, order="C", ndmin=x.ndim)


@device
def apply_activation(values, activation):
    """values = act(values) in place."""
    if activation == RELU:
        for i in range(values.size):
            values[i] = np.float32(0) if values[i] < np.float32(0) else values[i]  # keeps NaN
    elif activation == TANH:
        for i in range(values.size):
            values[i] = tanh(values[i])
    elif activation == SIGMOID:
        for i in range(values.size):
            values[i] = sigmoid(values[i])


@inline
def scale_by_derivative(g, y, activation, out):
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
        scale_by_derivative(g, y, activation, out)
    else:
        for worker in numba.prange(workers):
            first, last = n * worker // workers, n * (worker + 1) // workers
            scale_by_derivative(g[first:last], y[first:last], activation, out[first:last])


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


@shared(f"void({', '.join(['int64'] * 8)})")
def _sum_columns(g, rows, pitch, total_at, columns, ones_at, table, most):
    """total[j] = sum_i g[i * pitch + j], all addresses: the product of a row of ones with a matrix.  `columns` is a multiple of LANES."""
    total, floor = floats(total_at, columns), np.float32(-np.inf)
    for j in range(columns):
        total[j] = 0
    for i0 in range(0, rows, most):
        depth = min(most, rows - i0)
        for j0 in range(0, columns, WIDTH):
            at, to = g + (i0 * pitch + j0) * 4, total_at + j0 * 4
            if columns - j0 >= WIDTH:
                row_wide(ones_at, table, table, depth, at, pitch, to, table, to, table, floor)
            else:
                row_narrow(ones_at, table, table, depth, at, pitch, to, table, to, table, floor)


SUMS = [_sum_columns]  # for the kernels that call sum_part


@inline
def sum_part(part, g, pitch, partial, one, zeros):
    parts, rows = partial.shape[0], g.size // pitch
    first, last = rows * part // parts, rows * (part + 1) // parts
    _sum_columns(
        g.ctypes.data + first * pitch * 4, last - first, pitch, partial[part].ctypes.data, partial.shape[1],
        one.ctypes.data, zeros.ctypes.data, zeros.size,
    )  # fmt: skip


@device
def add_parts(g, pitch, partial, total):
    """total[c] = the sums of all parts in order, then what they left: rows that filled no pitch, columns that filled no vector."""
    C, width = total.size, partial.shape[1]
    for c in range(C):
        s = np.float32(0)
        for part in range(partial.shape[0]):
            for j in range(c, width, C):
                s += partial[part, j]
        for i in range(g.size // pitch * pitch + c if c < width else c, g.size, C):
            s += g[i]
        total[c] = s


@kernel(parallel=True, links=SUMS)
def _bias_gradient(g, pitch, partial, total, one, zeros, workers):
    if workers == 1:
        for part in range(partial.shape[0]):
            sum_part(part, g, pitch, partial, one, zeros)
    else:
        for part in numba.prange(partial.shape[0]):
            sum_part(np.int64(part), g, pitch, partial, one, zeros)
    add_parts(g, pitch, partial, total)


ONE, ZEROS = np.ones(1, np.float32), np.zeros(1024, np.int64)


def partial_sums(rows: int, C: int) -> tuple[int, np.ndarray]:
    """(pitch, partial): how a sum over the rows of a (rows, C) matrix is divided, by shape alone.

    A pitch is what counts as one row: LANES rows side by side where C channels do not fill vectors.
    """
    pitch = math.lcm(C, LANES) if C < 256 else C
    size = rows * C
    parts = max(1, min(64, size // ELEMENTS, size // pitch if pitch else 1))
    return pitch, np.empty((parts, pitch // LANES * LANES), np.float32)


def bias_gradient(g: np.ndarray) -> np.ndarray:
    """sum of g over all axes but the last.   (..., C) -> (C,)

    The parts are summed on their own, then in order: any number of threads makes the same bits, and the rounding error grows with
    rows / parts + parts.
    """
    total = np.empty(g.shape[-1], np.float32)
    if g.size == 0:
        total[:] = 0
        return total
    pitch, partial = partial_sums(g.size // g.shape[-1], g.shape[-1])
    _bias_gradient(as_float32(g).reshape(-1), pitch, partial, total, ONE, ZEROS, 1 if len(partial) < 4 else numba.get_num_threads())
    return total
