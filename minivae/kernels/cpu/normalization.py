"""Batch norm over the rows of a matrix, one channel a column.

moments      rows are cut into blocks of a fixed size; each block sums its rows, and the sums of the blocks are added in order, so that
             the number of threads does not change a bit.  The mean comes first, then the squares of what is left: no cancellation.
y, gx        one pass over memory each, block by block, with two numbers a channel: y = x scale + shift.
"""

import numba
import numpy as np

from .elementwise import BLOCK, PARALLEL_FROM
from .jit import kernel
from .rows import row, rows
from .vecmath import F


def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y = gamma (x - mean) inverse + beta, mean, var, and inverse = (var + eps)^(-1/2).   (N, C), two (C,) -> (N, C), three (C,)"""
    x = rows(x)
    mean = _sums(_total, _total_parallel, x)[0] / F(len(x))
    var = _sums(_squares, _squares_parallel, x, mean)[0] / F(len(x))
    inverse = F(1) / np.sqrt(var + F(eps))
    y = np.empty(x.shape, F)
    _over_blocks(_normalize, _normalize_parallel, x, mean, inverse, np.ascontiguousarray(gamma, F), np.ascontiguousarray(beta, F), y)
    return y, mean, var, inverse


def batch_norm_vjp(
    gy: np.ndarray, gmean: np.ndarray, gvar: np.ndarray, x: np.ndarray, mean: np.ndarray, inverse: np.ndarray, gamma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gx, ggamma, gbeta), from the gradients of y and of both moments.   (N, C), two (C,), (N, C), three (C,) -> (N, C), two (C,)"""
    gy, x, n = rows(gy), rows(x), F(len(x))
    gbeta, ggamma = _sums(_products, _products_parallel, gy, x, mean, inverse)
    scale = np.ascontiguousarray(gamma * inverse, F)
    shift = np.ascontiguousarray((gmean - scale * gbeta) / n, F)
    slope = np.ascontiguousarray((F(2) * gvar - scale * inverse * ggamma) / n, F)
    gx = np.empty(x.shape, F)
    _over_blocks(_pull, _pull_parallel, gy, x, mean, scale, shift, slope, gx)
    return gx, ggamma, gbeta


def _rows_a_block(matrix):
    return max(1, BLOCK // max(1, matrix.shape[1]))


def _sums(serial, parallel, matrix, *others):
    """Two rows of sums over the rows of a matrix, (2, C): the blocks' sums, added in order."""
    task = _rows_a_block(matrix)
    blocks = -(-len(matrix) // task)
    partial = np.empty((blocks, 2, matrix.shape[1]), F)
    if matrix.size < PARALLEL_FROM:
        for t in range(blocks):
            serial(t * task, min((t + 1) * task, len(matrix)), partial[t], matrix, *others)
    else:
        parallel(task, partial, matrix, *others)
    return partial.sum(axis=0)


def _over_blocks(serial, parallel, matrix, *others):
    if matrix.size < PARALLEL_FROM:
        serial(0, len(matrix), matrix, *others)
    else:
        parallel(_rows_a_block(matrix), matrix, *others)


@kernel
def _total(start, stop, sums, x):
    sums[:] = F(0)
    first = row(sums, 0)
    for i in range(start, stop):
        x_row = row(x, i)
        for c in range(x_row.size):
            first[c] += x_row[c]


@kernel
def _squares(start, stop, sums, x, mean):
    sums[:] = F(0)
    first = row(sums, 0)
    for i in range(start, stop):
        x_row = row(x, i)
        for c in range(x_row.size):
            first[c] += (x_row[c] - mean[c]) * (x_row[c] - mean[c])


@kernel
def _products(start, stop, sums, gy, x, mean, inverse):
    """Of gy, and of gy times the normalized x."""
    sums[:] = F(0)
    first, second = row(sums, 0), row(sums, 1)
    for i in range(start, stop):
        gy_row, x_row = row(gy, i), row(x, i)
        for c in range(x_row.size):
            first[c] += gy_row[c]
            second[c] += gy_row[c] * ((x_row[c] - mean[c]) * inverse[c])


@kernel
def _normalize(start, stop, x, mean, inverse, gamma, beta, y):
    for i in range(start, stop):
        x_row, y_row = row(x, i), row(y, i)
        for c in range(x_row.size):
            y_row[c] = (x_row[c] - mean[c]) * inverse[c] * gamma[c] + beta[c]


@kernel
def _pull(start, stop, gy, x, mean, scale, shift, slope, gx):
    for i in range(start, stop):
        gy_row, x_row, gx_row = row(gy, i), row(x, i), row(gx, i)
        for c in range(x_row.size):
            gx_row[c] = scale[c] * gy_row[c] + shift[c] + slope[c] * (x_row[c] - mean[c])


@kernel(parallel=True)
def _total_parallel(task, partial, x):
    for t in numba.prange(len(partial)):
        _total(t * task, min((t + 1) * task, len(x)), partial[t], x)


@kernel(parallel=True)
def _squares_parallel(task, partial, x, mean):
    for t in numba.prange(len(partial)):
        _squares(t * task, min((t + 1) * task, len(x)), partial[t], x, mean)


@kernel(parallel=True)
def _products_parallel(task, partial, gy, x, mean, inverse):
    for t in numba.prange(len(partial)):
        _products(t * task, min((t + 1) * task, len(x)), partial[t], gy, x, mean, inverse)


@kernel(parallel=True)
def _normalize_parallel(task, x, mean, inverse, gamma, beta, y):
    for t in numba.prange((len(x) + task - 1) // task):
        _normalize(t * task, min((t + 1) * task, len(x)), x, mean, inverse, gamma, beta, y)


@kernel(parallel=True)
def _pull_parallel(task, gy, x, mean, scale, shift, slope, gx):
    for t in numba.prange((len(x) + task - 1) // task):
        _pull(t * task, min((t + 1) * task, len(x)), gy, x, mean, scale, shift, slope, gx)
