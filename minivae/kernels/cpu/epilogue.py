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


@device
def _part(part, g, y, activation, gs, pitch, partial, gb, one, zeros):
    """One part of both gradients: its sum is taken while it lies in a cache."""
    parts, rows = partial.shape[0], g.size // pitch
    first, last = rows * part // parts * pitch, rows * (part + 1) // parts * pitch
    if activation != 0:
        end = g.size if part == parts - 1 else last  # with what fills no pitch
        scale_by_derivative(g[first:end], y[first:end], activation, gs[first:end])
    if gb.size > 0:
        sum_part(part, gs, pitch, partial, one, zeros)


@kernel(parallel=True, links=SUMS)
def _through_activation(g, y, activation, gs, pitch, partial, gb, one, zeros, workers):
    if workers == 1:
        for part in range(partial.shape[0]):
            _part(part, g, y, activation, gs, pitch, partial, gb, one, zeros)
    else:
        for part in numba.prange(partial.shape[0]):
            _part(np.int64(part), g, y, activation, gs, pitch, partial, gb, one, zeros)
    if gb.size > 0:
        add_parts(gs, pitch, partial, gb)


ONE, ZEROS = np.ones(1, np.float32), np.zeros(1024, np.int64)


def partial_sums(rows: int, C: int) -> tuple[int, np.ndarray]:
    """(pitch, partial): how a sum over the rows of a (rows, C) matrix is divided, by shape alone.

    A pitch is what counts as one row: LANES rows side by side where C channels do not fill vectors.
    """
    pitch = math.lcm(C, LANES) if C < 256 else C
    size = rows * C
    parts = max(1, min(64, size // ELEMENTS, size // pitch if pitch else 1))
    return pitch, np.empty((parts, pitch // LANES * LANES), np.float32)


def through_activation(g: np.ndarray, y: np.ndarray, activation: str | None, has_bias: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """(gs, gb) of y = act(s + b):  gs = g * act'(y), or g itself for activation None, and gb, the sum of gs over all axes but the last, or
    None without a bias.   two (..., C) -> (..., C), (C,)

    The parts are summed on their own, then in order: any number of threads makes the same bits, and the rounding error grows with
    rows / parts + parts.
    """
    code = activation_code(activation)
    if g.shape != y.shape:
        raise ShapeError(f"through_activation: g is {g.shape}, y is {y.shape}; need equal shapes")
    gb = np.empty(g.shape[-1] if has_bias else 0, np.float32)
    if g.size == 0:
        gb[:] = 0
    elif code != 0 or has_bias:
        g, y = as_float32(g), as_float32(y)
        gs = np.empty_like(g) if code != 0 else g
        pitch, partial = partial_sums(g.size // g.shape[-1], g.shape[-1])
        workers = 1 if len(partial) == 1 else numba.get_num_threads()
        _through_activation(g.reshape(-1), y.reshape(-1), code, gs.reshape(-1), pitch, partial, gb, ONE, ZEROS, workers)
        g = gs
    return g, gb if has_bias else None
