"""Matrix products and the dense layer:  act(op(A) op(B) + bias)  for float32, in one pass over C.

Schedule.  C is cut into chunks of CHUNK rows, a chunk into panels of WIDTH columns, a panel into tiles of ROWS rows.  The tiles, counted in
that order, are dealt out to the workers in equal runs; a worker packs the panels of B that its run meets, DEPTH rows of B at a time,
so that a panel (64 KB with AVX-512) and a chunk of A stay in the second-level cache.  Every number of C is one sum over k in ascending
order, whoever computes it: the number of threads does not change a bit.
"""

import numba
import numpy as np

from ...errors import ShapeError
from .epilogue import (
    ONE,
    ZEROS,
    activation_code,
    activation_gradient,
    as_float32,
    bias_gradient,
    partial_sums,
    scale_by_derivative,
    sum_rows,
)
from .jit import device, kernel, scratch
from .panels import SWEEP_BUFFER, pack, sweep
from .tile import LANES, ROWS, WIDTH

CHUNK_TILES = 256 // ROWS
CHUNK = CHUNK_TILES * ROWS
DEPTH = 512
BUFFER = WIDTH + SWEEP_BUFFER + 4 * CHUNK + 4 * DEPTH + DEPTH * WIDTH
PARALLEL_FROM = 1 << 20  # multiply-adds: 9 us on one core
NO_BIAS, NOTHING = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)


@device
def _multiply(worker, workers, a, transpose_a, b, transpose_b, bias, activation, c, K, buffer):
    M, N = c.shape
    flat_b = b.reshape(-1)
    a_row, a_column = (1, M) if transpose_a else (K, 1)
    b_row, b_column = (1, K) if transpose_b else (N, 1)
    shift, buffer = buffer[:WIDTH], buffer[WIDTH:]
    tables = buffer[: 4 * CHUNK + 4 * DEPTH].view(np.int64)
    rows, c_rows = tables[:CHUNK], tables[CHUNK : 2 * CHUNK]
    a_columns, b_rows = tables[2 * CHUNK : 2 * CHUNK + DEPTH], tables[2 * CHUNK + DEPTH : 2 * CHUNK + 2 * DEPTH]
    panel, workspace = buffer[4 * CHUNK + 4 * DEPTH :][: DEPTH * WIDTH], buffer[4 * CHUNK + 4 * DEPTH + DEPTH * WIDTH :]
    for i in range(min(CHUNK, M)):
        rows[i], c_rows[i] = i * a_row, i * N
    for k in range(min(DEPTH, K)):
        a_columns[k], b_rows[k] = k * a_column, k * b_row

    tiles, panels = -(-M // ROWS), -(-N // WIDTH)
    unit, end = tiles * panels * worker // workers, tiles * panels * (worker + 1) // workers
    while unit < end:
        chunk = unit // (CHUNK_TILES * panels)
        chunk_tiles = min(CHUNK_TILES, tiles - chunk * CHUNK_TILES)
        position = unit - chunk * CHUNK_TILES * panels
        j0 = position // chunk_tiles * WIDTH
        first = position % chunk_tiles
        last = min(chunk_tiles, first + end - unit)
        unit += last - first

        i0, width = chunk * CHUNK, min(WIDTH, N - j0)
        # a panel that few rows will pass by is not worth packing
        as_it_is = not transpose_b and (width in (WIDTH, LANES)) and (last - first <= 4 or N == WIDTH)
        for j in range(WIDTH):
            shift[j] = bias[j0 + j] if j0 + j < bias.size else 0
        for k0 in range(0, max(K, 1), DEPTH):
            depth = min(DEPTH, K - k0)
            b_at, b_stride = b.ctypes.data + (k0 * N + j0) * 4, N
            if not as_it_is:
                pack(flat_b[k0 * b_row + j0 * b_column :], b_rows, b_column, depth, width, panel)
                b_at, b_stride = panel.ctypes.data, WIDTH
            A = (a.ctypes.data + (i0 * a_row + k0 * a_column) * 4, rows, a_columns.ctypes.data, depth)
            C = (c.ctypes.data + (i0 * N + j0) * 4, c_rows, min(CHUNK, M - i0))
            now = activation if k0 + DEPTH >= K else 0
            sweep(A, (b_at, b_stride, width), C, 0, first, last, shift.ctypes.data, k0 > 0, now, workspace)


@kernel(parallel=True)
def _gemm(a, transpose_a, b, transpose_b, bias, activation, c, K, buffers, workers):
    if workers == 1:
        _multiply(np.int64(0), workers, a, transpose_a, b, transpose_b, bias, activation, c, K, buffers[0])
    else:
        for worker in numba.prange(workers):
            _multiply(np.int64(worker), workers, a, transpose_a, b, transpose_b, bias, activation, c, K, buffers[worker])


def workers_for(multiply_adds: int) -> int:
    return 1 if multiply_adds < PARALLEL_FROM else numba.get_num_threads()


def _matrix(x: np.ndarray, transpose: bool) -> tuple[np.ndarray, bool]:
    """x as a kernel takes it; the transpose of a C-contiguous matrix is not copied, it is called a transposed matrix."""
    if not x.flags.c_contiguous and x.flags.f_contiguous:
        return as_float32(x.T), not transpose
    return as_float32(x), transpose


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """act(op(a) @ op(b) + bias), op(x) = x or x^T.   (M, K), (K, N), (N,) -> (M, N), float32; any size, zero too"""
    a, transpose_a = _matrix(a, transpose_a)
    b, transpose_b = _matrix(b, transpose_b)
    K, M = a.shape if transpose_a else a.shape[::-1]
    N, depth = b.shape if transpose_b else b.shape[::-1]
    if depth != K:
        raise ShapeError(f"gemm: op(a) is {(M, K)}, op(b) is {(depth, N)}; need op(a).shape[1] == op(b).shape[0]")
    if bias is not None and bias.shape != (N,):
        raise ShapeError(f"gemm: bias is {bias.shape}, the product is {(M, N)}; need bias.shape == {(N,)}")
    c = np.empty((M, N), np.float32)
    if c.size:
        workers = workers_for(M * N * K)
        shift = NO_BIAS if bias is None else as_float32(bias)
        _gemm(a, transpose_a, b, transpose_b, shift, activation_code(activation), c, K, scratch("gemm", workers, BUFFER), workers)
    return c


def dense_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, activation: str | None) -> np.ndarray:
    """y = act(x @ w + b).   (N, I), (I, O), (O,) -> (N, O)"""
    return gemm(x, w, bias=b, activation=activation)


@kernel
def _small_dense_vjp(g, x, w, y, activation, gs, gx, gw, gb, pitch, partial, one, zeros, no_bias, buffer):
    if activation != 0:
        scale_by_derivative(g.reshape(-1), y.reshape(-1), activation, gs.reshape(-1))
    if gx.size > 0:
        _multiply(np.int64(0), np.int64(1), gs, False, w, True, no_bias, np.int64(0), gx, gs.shape[1], buffer)
    if gw.size > 0:
        _multiply(np.int64(0), np.int64(1), x, True, gs, False, no_bias, np.int64(0), gw, gs.shape[0], buffer)
    if gb.size > 0:
        sum_rows(gs.reshape(-1), pitch, partial, gb, one, zeros)


def dense_vjp(
    g: np.ndarray, x: np.ndarray, w: np.ndarray, y: np.ndarray, activation: str | None, needs: tuple[bool, bool, bool]
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """With s = x @ w + b and gs = g * act'(y):  gx = gs @ w^T,  gw = x^T @ gs,  gb = sum_n gs; None where not needed.   g: (N, O)"""
    code = activation_code(activation)
    (N, O), I = g.shape, x.shape[1]
    if g.shape != (len(x), w.shape[1]) or w.shape[0] != I or y.shape != g.shape:
        raise ShapeError(f"dense_vjp: g is {g.shape}, y is {y.shape}, x is {x.shape}, w is {w.shape}; need g and y like x @ w")
    if not 0 < N * I * O < PARALLEL_FROM:
        gs = activation_gradient(g, y, activation)
        gx = gemm(gs, w, transpose_b=True) if needs[0] else None
        gw = gemm(x, gs, transpose_a=True) if needs[1] else None
        gb = bias_gradient(gs) if needs[2] else None
        return gx, gw, gb
    # small: four calls of a kernel would cost more than the work, so one does it all; an empty result is not asked for
    g, x, w, y = as_float32(g), as_float32(x), as_float32(w), as_float32(y)
    gx = np.empty((N, I), np.float32) if needs[0] else NOTHING
    gw = np.empty((I, O), np.float32) if needs[1] else NOTHING
    gb = np.empty(O, np.float32) if needs[2] else NO_BIAS
    gs = g if code == 0 else np.empty((N, O), np.float32)
    pitch, partial = partial_sums(g.shape)
    _small_dense_vjp(g, x, w, y, code, gs, gx, gw, gb, pitch, partial, ONE, ZEROS, NO_BIAS, scratch("gemm", 1, BUFFER)[0])
    return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None
