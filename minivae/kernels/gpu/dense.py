"""Matrix products and the dense layer on the GPU.  Equations: minivae/ops/dense.py; kernels: gemm.cu."""

import math

from ...backend import PRECISIONS, Array, precision
from ..checks import ACTIVATIONS, activation_code, check_dense
from .activations import sigmoid, tanh
from .arrays import plain
from .launcher import Kernel, arrived, bias_parts, bias_span, divide_up, empty, shared

DEPTH = 16  # of tile.cu
BLOCKS = 128  # that a product is cut into, if it can be: a round number near the processors of a large GPU, the same on every GPU

GEMMS = {
    (tile, kind, precision): Kernel(
        f"gemm{tile}_{kind}_{precision}",
        "gemm.cu",
        "float32[M * K] a, float32[K * N] b, float32?[N] bias, float32[M * N] c, "
        f"float32?[shared(divide_up(M, {tile}) * divide_up(N, {tile}) * divide_up(K, span), divide_up(K, span), {tile**2})] partial, "
        "uint32[ARRIVALS] arrived, int32 M, int32 N, int32 K, int32 span, int32 activation",
        grid=f"(divide_up(M, {tile}), divide_up(N, {tile}), max(1, divide_up(K, span)))",
        defines=(precision.upper(),),
    )
    for tile in (64, 128)
    for kind in ("nn", "nt", "tn")
    for precision in PRECISIONS
}

DENSE = {
    (tile, precision): Kernel(
        f"dense{tile}_gradients_{precision}",
        "gemm.cu",
        "float32[N * O] g, float32?[N * O] y, float32[N * I] x, float32[I * O] w, float32?[N * I] gx, float32?[I * O] gw, "
        f"float32?[O] gb, float32?[shared(blocks_x, divide_up(O, span_x), {tile**2}) + shared(blocks_w, divide_up(N, span_w), {tile**2})"
        " + bias_parts(N, O, span_b)] partial, uint32[ARRIVALS] arrived, int32 N, int32 I, int32 O, int32 span_x, int32 span_w, "
        "int32 span_b, int32 blocks_x, int32 blocks_w",
        grid="(blocks_x + blocks_w + (bias_blocks(N, O, span_b) if gb is not None else 0),)",
        defines=(precision.upper(),),
    )
    for tile in (64, 128)
    for precision in PRECISIONS
}


def cut(tiles: int, K: int, depth: int = DEPTH, least: int = 4 * DEPTH) -> tuple[int, int]:
    """(parts, span): the sum over K cut into parts of `span`, a multiple of `depth`, if there are too few tiles to fill a GPU."""
    parts = max(1, min(BLOCKS // max(1, tiles), K // least))
    span = max(depth, divide_up(divide_up(K, parts), depth) * depth)
    return max(1, divide_up(K, span)), span


def workspace(tiles: int, parts: int, tile: int) -> Array | None:
    """Where the parts of a sum lie until they are joined: `tile` numbers each.  None for one part."""
    return empty((tiles * parts * tile,)) if parts > 1 else None


def tile_of(M: int, N: int) -> int:
    """The side of the tiles: large if there are enough of them to fill a GPU."""
    return 128 if min(M, N) > 64 and divide_up(M, 128) * divide_up(N, 128) >= BLOCKS else 64


def matrix(x: Array, transpose: bool) -> tuple[Array, bool]:
    """x (..., rows, columns) as a kernel takes it; the transpose of a contiguous matrix is not copied, it is called a transposed one."""
    if not x.flags.c_contiguous and x.swapaxes(-1, -2).flags.c_contiguous:
        return plain(x.swapaxes(-1, -2)), not transpose
    return plain(x), transpose


def gemm(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, bias: Array | None = None, activation: int = 0) -> Array:
    """act(op(a) @ op(b) + bias), op(x) = x or x^T.   (M, K), (K, N), (N,) -> (M, N), float32; any size, zero too"""
    a, transpose_a = matrix(a, transpose_a)
    b, transpose_b = matrix(b, transpose_b)
    if transpose_a and transpose_b:  # too rare for a kernel of its own
        a, transpose_a = plain(a.T), False
    K, M = a.shape if transpose_a else a.shape[::-1]
    N = b.shape[0] if transpose_b else b.shape[1]
    tile = tile_of(M, N)
    tiles = divide_up(M, tile) * divide_up(N, tile)
    parts, span = cut(tiles, K)
    c, partial = empty((M, N)), workspace(tiles, parts, tile * tile)
    GEMMS[tile, "nt"[transpose_a] + "nt"[transpose_b], precision()](a, b, bias, c, partial, arrived(), M, N, K, span, activation)
    return c


def dense_forward(x: Array, w: Array, b: Array | None = None, activation: str | None = None) -> tuple[Array, tuple]:
    check_dense(x, w, b)
    code = activation_code(activation)
    rows = x.reshape(math.prod(x.shape[:-1]), w.shape[0])
    y = gemm(rows, w, bias=None if b is None else plain(b), activation=code)
    y = y.reshape((*x.shape[:-1], w.shape[1]))
    return y, (x, w, y, code)


def through(g: Array, y: Array, activation: int) -> tuple[Array, Array | None]:
    """g act'(y): where that is a relu's it is left to the kernels that read g, which take y then; else it is a launch of its own."""
    curved = {ACTIVATIONS["tanh"]: tanh, ACTIVATIONS["sigmoid"]: sigmoid}.get(activation)
    if curved is None:
        return plain(g), y if activation else None
    return curved[1](g, y, 0.0)[0], None


def dense_vjp(g: Array, x: Array, w: Array, y: Array, activation: int, needs: tuple[bool, ...]) -> tuple:
    n, (inputs, outputs) = math.prod(x.shape[:-1]), w.shape
    gx, gw = empty(x.shape) if needs[0] else None, empty(w.shape) if needs[1] else None
    gb = empty((outputs,)) if len(needs) > 2 and needs[2] else None
    tile = max(tile_of(n, inputs), tile_of(inputs, outputs))
    tiles_x, tiles_w = (divide_up(m, tile) * divide_up(inputs, tile) for m in (n, outputs))
    (parts_x, span_x), (parts_w, span_w), span_b = cut(tiles_x, outputs), cut(tiles_w, n), bias_span(n, outputs)
    blocks_x, blocks_w = (0 if a is None else blocks for a, blocks in ((gx, tiles_x * parts_x), (gw, tiles_w * parts_w)))
    size = shared(blocks_x, parts_x, tile**2) + shared(blocks_w, parts_w, tile**2) + bias_parts(n, outputs, span_b)
    partial = empty((size,)) if size else None
    arrays = *through(g, y, activation), plain(x), plain(w), gx, gw, gb, partial, arrived()
    DENSE[tile, precision()](*arrays, n, inputs, outputs, span_x, span_w, span_b, blocks_x, blocks_w)
    return gx, gw, gb


dense = (dense_forward, dense_vjp)
