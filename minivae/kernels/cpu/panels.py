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

from .epilogue import finish
from .jit import device, intrinsic
from .tile import LANES, ROWS, WIDTH, tile_narrow, tile_wide

SWEEP_BUFFER = ROWS * WIDTH + 4 * 2 * ROWS  # floats: a tile of C, and three tables of ROWS int64


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


@device
def sweep(a, rows, columns, depth, count, first, last, b, b_stride, width, c, c_rows, accumulate, finishing, bias, activation, buffer):
    """Tiles first <= t < last of one panel:  C[i, :width] (+)= sum_k A[i, k] B[k, :width]  for the rows ROWS t <= i < ROWS (t + 1).

    a, b are addresses; rows, columns, c_rows are tables and `count` is the number of rows they hold; c is a flat array.
    If `finishing`, C = act(C + bias) follows while the tile is in the cache; bias is WIDTH long.
    """
    edge = buffer[: ROWS * WIDTH]
    tables = buffer[ROWS * WIDTH : ROWS * WIDTH + 6 * ROWS].view(np.int64)
    last_rows, last_c_rows, edge_rows = tables[:ROWS], tables[ROWS : 2 * ROWS], tables[2 * ROWS : 3 * ROWS]
    for r in range(ROWS):
        edge_rows[r] = r * WIDTH
    narrow = width <= LANES
    direct = width == WIDTH or width == LANES  # else the tile is wider than C: it goes to `edge`, and its columns from there
    for t in range(first, last):
        i0 = t * ROWS
        present = min(ROWS, count - i0)
        a_rows_at, c_rows_at = rows.ctypes.data + i0 * 8, c_rows.ctypes.data + i0 * 8
        if present < ROWS:  # the last row stands in for those that are missing
            for r in range(ROWS):
                i = min(i0 + r, count - 1)
                last_rows[r], last_c_rows[r] = rows[i], c_rows[i]
            a_rows_at, c_rows_at = last_rows.ctypes.data, last_c_rows.ctypes.data
        c_at = c.ctypes.data
        if not direct:
            c_at, c_rows_at = edge.ctypes.data, edge_rows.ctypes.data
            if accumulate:
                for r in range(present):
                    for j in range(width):
                        edge[r * WIDTH + j] = c[c_rows[i0 + r] + j]
        if narrow:
            tile_narrow(a, a_rows_at, columns.ctypes.data, depth, b, b_stride, c_at, c_rows_at, accumulate)
        else:
            tile_wide(a, a_rows_at, columns.ctypes.data, depth, b, b_stride, c_at, c_rows_at, accumulate)
        if not direct or (finishing and narrow):
            for r in range(present):
                row, target = edge[r * WIDTH : (r + 1) * WIDTH], c[c_rows[i0 + r] : c_rows[i0 + r] + width]
                if direct:
                    for j in range(LANES):
                        row[j] = target[j]
                if finishing:
                    finish(row, bias, activation)
                for j in range(width):
                    target[j] = row[j]
        elif finishing:
            for r in range(present):
                finish(c[c_rows[i0 + r] : c_rows[i0 + r] + WIDTH], bias, activation)
