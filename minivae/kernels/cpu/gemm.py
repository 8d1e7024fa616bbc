"""Matrix products and the dense layer:  act(op(A) op(B) + bias)  for float32, in one pass over C.

Schedule.  C is cut into chunks of CHUNK rows, a chunk into panels of WIDTH columns, a panel into tiles of ROWS rows.  The tiles, counted in
that order, are fetched by the workers in runs (share.py), and a run takes K in equal parts of at most DEPTH, so that a panel stays in the
first-level cache and a chunk of A in the second-level one.  A panel that few tiles will pass by is read where it lies in B; else its first
tile leaves a packed copy for the others, and a transposed B is packed beforehand.  Every number of C is one sum over k in ascending order,
whoever computes it: the number of threads does not change a bit.
"""

import numba
import numpy as np

from ...errors import ShapeError
from ..checks import activation_code
from .addresses import floats, ints
from .epilogue import (
    FLOAT32,
    ONE,
    SUMS,
    ZEROS,
    add_parts,
    as_float32,
    partial_sums,
    scale_by_derivative,
    sum_part,
)
from .jit import device, inline, kernel, scratch, shared
from .panels import DEPTH, PRODUCT, SWEEP_BUFFER, _pack, _sweep
from .share import clear, counters, next_run, runs, take
from .tile import LANES, ROWS, WIDTH

CHUNK_TILES = 256 // ROWS
CHUNK = CHUNK_TILES * ROWS
BUFFER = WIDTH + SWEEP_BUFFER + 4 * CHUNK + 4 * DEPTH + DEPTH * WIDTH
FEW = 4  # tiles: a panel that few rows will pass by is not worth packing
PARALLEL_FROM = 1 << 19  # multiply-adds: 5 us or more on one core
NO_BIAS, NOTHING = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)


@shared(f"void({', '.join(['int64'] * 15)})", links=PRODUCT)
def _multiply(ends, count, counter, a, transpose_a, b, transpose_b, bias, bias_size, activation, c, M, N, K, buffer):
    ends, bias = ints(ends, count + 1), floats(bias, bias_size)
    a_row, a_column = (1, M) if transpose_a else (K, 1)
    b_row, b_column = (1, K) if transpose_b else (N, 1)
    shift_at, tables_at = buffer, buffer + WIDTH * 4
    panel = tables_at + (4 * CHUNK + 4 * DEPTH) * 4
    workspace = panel + DEPTH * WIDTH * 4
    rows_at, c_rows_at, columns_at = tables_at, tables_at + CHUNK * 8, tables_at + 2 * CHUNK * 8
    b_rows_at = columns_at + DEPTH * 8
    shift, rows, c_rows = floats(shift_at, WIDTH), ints(rows_at, CHUNK), ints(c_rows_at, CHUNK)
    a_columns, b_rows = ints(columns_at, DEPTH), ints(b_rows_at, DEPTH)
    for i in range(min(CHUNK, M)):
        rows[i], c_rows[i] = i * a_row, i * N
    for k in range(min(DEPTH, K)):
        a_columns[k], b_rows[k] = k * a_column, k * b_row

    parts = max(1, -(-K // DEPTH))
    tiles, panels = -(-M // ROWS), -(-N // WIDTH)
    run = take(counter)
    while run < count:
        unit, end = ends[run], ends[run + 1]
        while unit < end:
            chunk = unit // (CHUNK_TILES * panels)
            chunk_tiles = min(CHUNK_TILES, tiles - chunk * CHUNK_TILES)
            position = unit - chunk * CHUNK_TILES * panels
            j0 = position // chunk_tiles * WIDTH
            first = position % chunk_tiles
            last = min(chunk_tiles, first + end - unit)
            unit += last - first

            i0, width, skip = chunk * CHUNK, min(WIDTH, N - j0), 0
            vectors = -(-width // LANES) * LANES
            if vectors <= N:  # a last, narrow panel begins further left, so that it consists of whole vectors
                j0, width, skip = j0 - (vectors - width), vectors, vectors - width
            as_it_is = not transpose_b and width == vectors and last - first <= FEW
            packed_by_tile = not transpose_b and width == WIDTH and not as_it_is and N > WIDTH
            for j in range(WIDTH):
                shift[j] = bias[j0 + j] if j0 + j < bias_size else 0
            for part in range(parts):
                k0 = K * part // parts
                depth = K * (part + 1) // parts - k0
                b_at, b_stride = b + (k0 * N + j0) * 4, N
                if not as_it_is and not packed_by_tile:
                    _pack(b + (k0 * b_row + j0 * b_column) * 4, b_rows_at, b_column, depth, width, panel)
                    b_at, b_stride = panel, WIDTH
                a_at, c_at = a + (i0 * a_row + k0 * a_column) * 4, c + (i0 * N + j0) * 4
                packed_at = panel if packed_by_tile else 0
                now = activation if part == parts - 1 else 0
                _sweep(
                    a_at, rows_at, columns_at, depth, b_at, b_stride, width, skip, c_at, c_rows_at, min(CHUNK, M - i0), first, last,
                    shift_at, part > 0, now, packed_at, workspace,
                )  # fmt: skip
        run = take(counter)


@inline
def multiply(runs, counters, which, a, transpose_a, b, transpose_b, bias, activation, c, K, buffer):
    """c = act(op(a) op(b) + bias): this worker's part, in runs fetched from counter number `which`."""
    _multiply(
        runs.ctypes.data, runs.size - 1, counters.ctypes.data + which * 64, a.ctypes.data, transpose_a, b.ctypes.data, transpose_b,
        bias.ctypes.data, bias.size, activation, c.ctypes.data, c.shape[0], c.shape[1], K, buffer.ctypes.data,
    )  # fmt: skip


@kernel(parallel=True, links=[_multiply])
def _gemm(runs, counters, a, transpose_a, b, transpose_b, bias, activation, c, K, buffers, workers):
    clear(counters)
    if workers == 1:
        multiply(runs, counters, 0, a, transpose_a, b, transpose_b, bias, activation, c, K, buffers[0])
    else:
        for worker in numba.prange(workers):
            multiply(runs, counters, 0, a, transpose_a, b, transpose_b, bias, activation, c, K, buffers[worker])


_serial_gemm = _gemm.__wrapped__  # a call that stays on one thread needs no lock


def product_runs(M: int, N: int, K: int, workers: int) -> np.ndarray:
    """The runs of tiles of an (M, N) matrix of sums over K."""
    tiles = -(-M // ROWS)
    return runs(tiles * -(-N // WIDTH), workers, -(-PARALLEL_FROM // (ROWS * WIDTH * max(K, 1))), min(tiles, CHUNK_TILES))


def workers_for(multiply_adds: int) -> int:
    return 1 if multiply_adds < PARALLEL_FROM else numba.get_num_threads()


def _matrix(x: np.ndarray, transpose: bool) -> tuple[np.ndarray, bool]:
    """x as a kernel takes it; the transpose of a C-contiguous matrix is not copied, it is called a transposed matrix."""
    if x.dtype is FLOAT32 and x.flags.carray:  # the usual case
        return x, transpose
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
    """act(op(a) @ op(b) + bias), op(x) = x or x^T.   (M, K), (K, N), (N,) -> (M, N), float32; any size, zero too

    On x86, numbers below 1.2e-38 count as zero: see subnormals.py.
    """
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
        run = _serial_gemm if workers == 1 else _gemm
        code, buffers = activation_code(activation), scratch("gemm", workers, BUFFER)
        run(product_runs(M, N, K, workers), counters(), a, transpose_a, b, transpose_b, shift, code, c, K, buffers, workers)
    return c


def dense_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, activation: str | None) -> np.ndarray:
    """y = act(x @ w + b).   (N, I), (I, O), (O,) -> (N, O)"""
    return gemm(x, w, bias=b, activation=activation)


@device
def _dense_vjp_share(x_runs, w_runs, counters, gs, x, w, gx, gw, gb, partial, pitch, no_bias, one, zeros, buffer):
    if gx.size > 0:
        multiply(x_runs, counters, 0, gs, False, w, True, no_bias, np.int64(0), gx, gs.shape[1], buffer)
    if gw.size > 0:
        multiply(w_runs, counters, 1, x, True, gs, False, no_bias, np.int64(0), gw, gs.shape[0], buffer)
    if gb.size > 0:
        part = next_run(counters, 2)
        while part < len(partial):
            sum_part(part, gs.reshape(-1), pitch, partial, one, zeros)
            part = next_run(counters, 2)


@kernel(parallel=True, links=[_multiply, *SUMS])
def _dense_vjp(g, x, w, y, activation, gs, gx, gw, gb, x_runs, w_runs, counters, pitch, partial, no_bias, one, zeros, buffers, workers):
    clear(counters)
    if workers == 1:
        if activation != 0:
            scale_by_derivative(g.reshape(-1), y.reshape(-1), activation, gs.reshape(-1))
        _dense_vjp_share(x_runs, w_runs, counters, gs, x, w, gx, gw, gb, partial, pitch, no_bias, one, zeros, buffers[0])
    else:
        if activation != 0:
            for worker in numba.prange(workers):
                first, last = len(g) * worker // workers, len(g) * (worker + 1) // workers
                scale_by_derivative(g[first:last].reshape(-1), y[first:last].reshape(-1), activation, gs[first:last].reshape(-1))
        for worker in numba.prange(workers):
            _dense_vjp_share(x_runs, w_runs, counters, gs, x, w, gx, gw, gb, partial, pitch, no_bias, one, zeros, buffers[worker])
    if gb.size > 0:
        add_parts(gs.reshape(-1), pitch, partial, gb)


_serial_dense_vjp = _dense_vjp.__wrapped__


def dense_vjp(
    g: np.ndarray, x: np.ndarray, w: np.ndarray, y: np.ndarray, activation: str | None, needs: tuple[bool, bool, bool]
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """With s = x @ w + b and gs = g * act'(y):  gx = gs @ w^T,  gw = x^T @ gs,  gb = sum_n gs; None where not needed.   g: (N, O)

    One kernel for all: separate ones would cost more than the work of a small layer, and no worker waits between the products.
    """
    code = activation_code(activation)
    (N, O), I = g.shape, x.shape[1]
    if g.shape != (len(x), w.shape[1]) or w.shape[0] != I or y.shape != g.shape:
        raise ShapeError(f"dense_vjp: g is {g.shape}, y is {y.shape}, x is {x.shape}, w is {w.shape}; need g and y like x @ w")
    g, x, w, y = as_float32(g), as_float32(x), as_float32(w), as_float32(y)
    # an empty result is not asked for
    gx = np.empty((N, I), np.float32) if needs[0] else NOTHING
    gw = np.empty((I, O), np.float32) if needs[1] else NOTHING
    gb = np.empty(O, np.float32) if needs[2] else NO_BIAS
    gs = g if code == 0 else np.empty((N, O), np.float32)
    pitch, partial = partial_sums(N, O)
    workers = workers_for(N * I * O * (needs[0] + needs[1]))
    run = _serial_dense_vjp if workers == 1 else _dense_vjp
    x_runs, w_runs = product_runs(*gx.shape, O, workers), product_runs(*gw.shape, N, workers)
    buffers = scratch("gemm", workers, BUFFER)
    run(g, x, w, y, code, gs, gx, gw, gb, x_runs, w_runs, counters(), pitch, partial, NO_BIAS, ONE, ZEROS, buffers, workers)
    return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None
