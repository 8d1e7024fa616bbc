"""From tiles to products: B packed into panels one tile wide, and a sweep of tiles down the rows of C.

            B (depth, N)                          panels of WIDTH columns, each contiguous, the last one padded with zeros
    +------------------------+          +--------+   +--------+   +--------+
    |        |        |    | |   pack   |        |   |        |   |    : 0 |          the sweep keeps one panel in the cache
    |        |        |    | |  ----->  |        |   |        |   |    : 0 |          while the rows of A pass by
    |        |        |    | |          |        |   |        |   |    : 0 |
    +------------------------+          +--------+   +--------+   +--------+

What a matrix, its transpose, an image and its patches have in common is told by tables of offsets: see tile.py.
"""

import numpy as np
from llvmlite import ir
from numba import types

from .epilogue import RELU, apply_activation
from .jit import device, inline, intrinsic
from .tile import LANES, ROWS, WIDTH, tile_narrow, tile_wide

SWEEP_BUFFER = ROWS * WIDTH + 8 * ROWS  # floats: a tile of C, and four tables of ROWS int64


@intrinsic
def _transpose_block(typing_context, source, source_stride, target, target_stride):
    """target[k, j] = source[j, k] for a LANES x LANES block of floats, in registers: addresses, strides in floats.

    log2(LANES) rounds; each interleaves register i with register i + LANES / 2.
    """

    def generate(context, builder, signature, arguments):
        source, source_stride, target, target_stride = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        index = ir.IntType(64)

        def address(base, stride, i):
            bytes_on = builder.mul(builder.mul(stride, index(4)), index(i))
            return builder.inttoptr(builder.add(base, bytes_on), vector.as_pointer())

        def interleave(first):
            lanes = [lane for i in range(first, first + LANES // 2) for lane in (i, LANES + i)]
            return ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)

        low, high = interleave(0), interleave(LANES // 2)
        rows = [builder.load(address(source, source_stride, i), align=4) for i in range(LANES)]
        for _ in range(LANES.bit_length() - 1):
            pairs = list(zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True))
            rows = [builder.shuffle_vector(x, y, half) for x, y in pairs for half in (low, high)]
        for i in range(LANES):
            builder.store(rows[i], address(target, target_stride, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@device
def pack(b, offsets, stride, depth, width, panel):
    """panel[k, j] = b[offsets[k] + j * stride] for j < width, zero for width <= j < WIDTH.   panel: (depth, WIDTH), flat"""
    if stride == 1:
        for k in range(depth):
            target = panel[k * WIDTH : (k + 1) * WIDTH]
            source = b[offsets[k] : offsets[k] + width]
            if width == WIDTH:
                for j in range(WIDTH):
                    target[j] = source[j]
            else:
                for j in range(width):
                    target[j] = source[j]
                for j in range(width, WIDTH):
                    target[j] = 0
        return
    k = 0
    whole = width // LANES * LANES
    while k < depth:
        block = k + LANES <= depth and offsets[k + LANES - 1] - offsets[k] == LANES - 1  # LANES neighbours: a block to transpose
        if block:
            for j in range(0, whole, LANES):
                source_at = b.ctypes.data + (offsets[k] + j * stride) * 4
                _transpose_block(source_at, stride, panel.ctypes.data + (k * WIDTH + j) * 4, WIDTH)
        steps = LANES if block else 1
        for step in range(k, k + steps):
            target = panel[step * WIDTH : (step + 1) * WIDTH]
            for j in range(whole if block else 0, width):
                target[j] = b[offsets[step] + j * stride]
            for j in range(width, WIDTH):
                target[j] = 0
        k += steps


@inline
def _copy_columns(source, source_rows, target, target_rows, width):
    for r in range(source_rows.size):
        source_row, target_row = source[source_rows[r] : source_rows[r] + width], target[target_rows[r] : target_rows[r] + width]
        for j in range(width):
            target_row[j] = source_row[j]


@device
def sweep(A, B, C, first, last, bias, accumulate, activation, buffer):
    """Tiles first <= t < last of one panel:  C[i, :width] = act(S + sum_k A[i, k] B[k, :width])  for the rows ROWS t <= i < ROWS (t + 1).

    A = (address, rows, columns, depth), B = (address, stride, width), C = (flat array, rows, number of rows): see tile.py for the
    tables.  S is C if `accumulate`, else the bias (WIDTH long) in every row.
    """
    (a, rows, columns, depth), (b, b_stride, width), (c, c_rows, count) = A, B, C
    floor = np.float32(0) if activation == RELU else np.float32(-np.inf)
    edge = buffer[: ROWS * WIDTH]
    tables = buffer[ROWS * WIDTH : ROWS * WIDTH + 8 * ROWS].view(np.int64)
    last_rows, last_c_rows, edge_rows, same_row = tables[:ROWS], tables[ROWS : 2 * ROWS], tables[2 * ROWS : 3 * ROWS], tables[3 * ROWS :]
    for r in range(ROWS):
        edge_rows[r], same_row[r] = r * WIDTH, 0
    direct = width == WIDTH or width == LANES  # else a tile is wider than C: it goes to `edge`, and its columns from there
    columns_at = columns.ctypes.data
    for t in range(first, last):
        i0 = t * ROWS
        present = min(ROWS, count - i0)
        a_rows_at, c_at, c_rows_at = rows.ctypes.data + i0 * 8, c.ctypes.data, c_rows.ctypes.data + i0 * 8
        if present < ROWS:  # the last row stands in for those that are missing
            for r in range(ROWS):
                i = min(i0 + r, count - 1)
                last_rows[r], last_c_rows[r] = rows[i], c_rows[i]
            a_rows_at, c_rows_at = last_rows.ctypes.data, last_c_rows.ctypes.data
        if not direct:
            if accumulate:
                _copy_columns(c, c_rows[i0 : i0 + present], edge, edge_rows, width)
            c_at, c_rows_at = edge.ctypes.data, edge_rows.ctypes.data
        s_at, s_rows_at = (c_at, c_rows_at) if accumulate else (bias.ctypes.data, same_row.ctypes.data)
        if width <= LANES:
            tile_narrow(a, a_rows_at, columns_at, depth, b, b_stride, s_at, s_rows_at, c_at, c_rows_at, floor)
        else:
            tile_wide(a, a_rows_at, columns_at, depth, b, b_stride, s_at, s_rows_at, c_at, c_rows_at, floor)
        if not direct:
            if activation > RELU:
                apply_activation(edge[: present * WIDTH], activation)
            _copy_columns(edge, edge_rows[:present], c, c_rows[i0:], width)
        elif activation > RELU:
            for r in range(present):
                apply_activation(c[c_rows[i0 + r] : c_rows[i0 + r] + width], activation)
