"""The input gradient for images of few channels: multiply first, then scatter.

Seen pixel by pixel of the result, an image of one channel would fill one lane of a vector.  Seen from g, a pixel (p, q) gives

    m[i, j, c] = sum_o g[p, q, o] w[i, j, c, o]        for all KH * KW * C taps at once: full vectors, and no sum over taps

which is added at pixel (sh p + i, sw q + j) of the padded result; a row i of taps is KW * C neighbouring floats, in m and in the image.

Schedule.  An image a worker; a block of rows of g at a time, so that m stays in the cache; additions in the order of p, i, j, q: the
number of threads does not change a bit.
"""

import functools

import numba
import numpy as np
from llvmlite import ir
from numba import types

from ..checks import Padding, Pair
from .epilogue import apply_activation
from .gemm import workers_for
from .jit import device, intrinsic, kernel, scratch
from .panels import PRODUCT, SWEEP_BUFFER, pack, sweep
from .share import clear, counters, next_run, runs
from .tile import LANES, ROWS, WIDTH

BLOCK = 512  # pixels of g


def is_faster(x_shape: tuple[int, ...], g_shape: tuple[int, ...], kernel_size: Pair, stride: Pair) -> bool:
    """Compare the multiply-adds, empty lanes included; an addition of the scatter costs as much as 32 of them."""
    (_, H, W, C), (_, OH, OW, O), (KH, KW), (sh, sw) = x_shape, g_shape, kernel_size, stride
    taps = KH * KW * C
    scattering = OH * OW * (O * _whole_vectors(taps) + 32 * taps)
    return scattering < H * W * -(-KH // sh) * -(-KW // sw) * O * _whole_vectors(C)


def _whole_vectors(n: int) -> int:
    return -(-n // LANES) * LANES


@intrinsic
def _add_float(typing_context, target, source):
    """*target += *source.  By address: numba's slices count references, which took three times as long as the additions."""

    def generate(context, builder, signature, arguments):
        target, source = (builder.inttoptr(address, ir.FloatType().as_pointer()) for address in arguments)
        builder.store(builder.fadd(builder.load(target), builder.load(source)), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@device
def _scatter(products, stride, OW, step, run, row):
    """row[step q + r] += products[q stride + r] for r < run; products and row are addresses.

    r is the outer loop although the products lie the other way: neighbouring q overlap in the row, and an addition would wait for the
    store just before it.
    """
    for r in range(run):
        for q in range(OW):
            _add_float(row + (q * step + r) * 4, products + (q * stride + r) * 4)


@device
def _image(g, packed, bias, activation, kernel_size, stride, corner, padded_size, gx, tables, buffer):
    OH, OW, O = g.shape
    H, _, C = gx.shape
    (KH, KW), (sh, sw), (top, left), (Hp, Wp) = kernel_size, stride, corner, padded_size
    taps = KH * KW * C
    lanes = -(-taps // LANES) * LANES
    block_rows = max(1, BLOCK // OW)
    workspace, buffer = buffer[:SWEEP_BUFFER], buffer[SWEEP_BUFFER:]
    zeros, buffer = buffer[:WIDTH], buffer[WIDTH:]
    products, buffer = buffer[: block_rows * OW * lanes], buffer[block_rows * OW * lanes :]
    padded = buffer[: Hp * Wp * C]
    for j in range(WIDTH):
        zeros[j] = 0
    if C == 1:
        for i in range(padded.size):
            padded[i] = bias[0]
    else:
        for pixel in range(Hp * Wp):
            for c in range(C):
                padded[pixel * C + c] = bias[c]
    flat_g = g.reshape(-1)
    g_rows, columns, product_rows = tables[0], tables[1], tables[2]
    for p0 in range(0, OH, block_rows):
        present = min(block_rows, OH - p0)
        for j0 in range(0, lanes, WIDTH):
            A = (flat_g.ctypes.data + p0 * OW * O * 4, g_rows, columns.ctypes.data, O)
            B = (packed.ctypes.data + O * j0 * 4, WIDTH, min(WIDTH, lanes - j0), 0)
            target = (products.ctypes.data + j0 * 4, product_rows, present * OW)
            sweep(A, B, target, 0, 0, -(-present * OW // ROWS), zeros.ctypes.data, False, 0, 0, workspace)
        for p in range(present):
            for i in range(KH):
                row = padded.ctypes.data + (sh * (p0 + p) + i) * Wp * C * 4
                _scatter(products.ctypes.data + (p * OW * lanes + i * KW * C) * 4, lanes, OW, sw * C, KW * C, row)
    for h in range(H):
        source, target = padded[((top + h) * Wp + left) * C :], gx[h].reshape(-1)
        for i in range(target.size):
            target[i] = source[i]
        apply_activation(target, activation)


@device
def _prepare(w, O, taps, OW, packed, tables):
    """Pack w as a matrix (O, taps), and fill the tables: rows of g, its channels, rows of products."""
    lanes = -(-taps // LANES) * LANES
    g_rows, columns, product_rows = tables[0], tables[1], tables[2]
    for o in range(O):
        columns[o] = o
    for j0 in range(0, taps, WIDTH):
        pack(w[j0 * O :], columns, O, O, min(WIDTH, taps - j0), packed[O * j0 :])
    for i in range(max(BLOCK, OW)):
        g_rows[i], product_rows[i] = i * O, i * lanes


@kernel(parallel=True, links=PRODUCT)
def _multiply_and_scatter(
    runs, counters, g, w, bias, activation, kernel_size, stride, corner, padded_size, gx, packed, tables, buffers, workers
):  # fmt: skip
    clear(counters)
    _prepare(w, g.shape[3], kernel_size[0] * kernel_size[1] * gx.shape[3], g.shape[2], packed, tables)
    N = g.shape[0]
    if workers == 1:
        for n in range(N):
            _image(g[n], packed, bias, activation, kernel_size, stride, corner, padded_size, gx[n], tables, buffers[0])
    else:
        for worker in numba.prange(workers):
            run = next_run(counters, 0)
            while run < runs.size - 1:
                for n in range(runs[run], runs[run + 1]):
                    _image(g[n], packed, bias, activation, kernel_size, stride, corner, padded_size, gx[n], tables, buffers[worker])
                run = next_run(counters, 0)


@functools.cache
def no_bias(channels: int) -> np.ndarray:
    """Zeros, kept: a recording lays out anew what nobody holds, and would find no zeros there."""
    return np.zeros(channels, np.float32)


def multiply_and_scatter(
    g: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding, bias: np.ndarray, activation: int, gx: np.ndarray
) -> None:
    """gx = act(bias + the adjoint of convolution, of g)."""
    (_, _, OW, O), (_, H, W, C), (KH, KW, _, _) = g.shape, gx.shape, w.shape
    (top, bottom), (left, right) = padding
    Hp, Wp = H + top + bottom, W + left + right
    lanes = _whole_vectors(KH * KW * C)
    workers = workers_for(g.size * lanes)
    packed = scratch("packed", 1, O * -(-lanes // WIDTH) * WIDTH)[0]
    tables = scratch("tables", 3, 2 * max(BLOCK, OW, O)).view(np.int64)
    buffers = scratch("images", workers, SWEEP_BUFFER + WIDTH + max(BLOCK, OW) * lanes + Hp * Wp * C)
    bias = bias if bias.size else no_bias(C)
    _multiply_and_scatter(
        runs(len(g), workers), counters(), g, w.reshape(-1), bias, activation, (KH, KW), stride, (top, left), (Hp, Wp), gx,
        packed, tables, buffers, workers,
    )  # fmt: skip
