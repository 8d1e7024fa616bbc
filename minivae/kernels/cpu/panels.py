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

from .addresses import floats, ints
from .epilogue import RELU, apply_activation
from .jit import inline, intrinsic, shared
from .subnormals import flush, restore
from .tile import LANES, ROWS, WIDTH, tile_low, tile_narrow, tile_packing, tile_wide

DEPTH = 6144 // WIDTH  # rows of a panel, 24 KB: it and the rows of A beside it stay in a first-level cache of 32 or 48 KB
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


@intrinsic
def _copy_lanes(typing_context, source, target):
    """target[0:LANES] = source[0:LANES], addresses of floats."""

    def generate(context, builder, signature, arguments):
        source, target = (builder.inttoptr(address, ir.VectorType(ir.FloatType(), LANES).as_pointer()) for address in arguments)
        builder.store(builder.load(source, align=4), target, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _copy_float(typing_context, source, target):
    """*target = *source, addresses of floats."""

    def generate(context, builder, signature, arguments):
        source, target = (builder.inttoptr(address, ir.FloatType().as_pointer()) for address in arguments)
        builder.store(builder.load(source), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@inline
def _copy(source, target, width):
    """Copy `width` floats between two addresses: a slice would count its references, which takes longer than a row of a tile."""
    whole = width // LANES * LANES
    for j in range(0, whole, LANES):
        _copy_lanes(source + j * 4, target + j * 4)
    for j in range(whole, width):
        _copy_float(source + j * 4, target + j * 4)


@shared("void(int64, int64, int64, int64, int64, int64)")
def _pack(b_at, offsets, stride, depth, width, panel_at):
    offsets = ints(offsets, depth)
    if width < WIDTH:
        panel = floats(panel_at, depth * WIDTH)
        for i in range(depth * WIDTH):
            panel[i] = 0
    if stride == 1:
        for k in range(depth):
            _copy(b_at + offsets[k] * 4, panel_at + k * WIDTH * 4, width)
        return
    k = 0
    while k < depth:
        if k + LANES > depth >= LANES and offsets[depth - 1] - offsets[depth - LANES] == LANES - 1:
            k = depth - LANES  # a last block that overlaps with the one before
        first = 0
        steps = 1
        if k + LANES <= depth and offsets[k + LANES - 1] - offsets[k] == LANES - 1:  # LANES neighbours: blocks to transpose
            first, steps = width // LANES * LANES, LANES
            for j in range(0, first, LANES):
                _transpose_block(b_at + (offsets[k] + j * stride) * 4, stride, panel_at + (k * WIDTH + j) * 4, WIDTH)
        for j in range(first, width):
            for step in range(k, k + steps):
                _copy_float(b_at + (offsets[step] + j * stride) * 4, panel_at + (step * WIDTH + j) * 4)
        k += steps


@inline
def pack(b, offsets, stride, depth, width, panel):
    """panel[k, j] = b[offsets[k] + j * stride] for j < width, zero for width <= j < WIDTH.   panel: (depth, WIDTH), flat"""
    _pack(b.ctypes.data, offsets.ctypes.data, stride, depth, width, panel.ctypes.data)


@shared(f"void({', '.join(['int64'] * 18)})")
def _sweep(
    a, rows, columns, depth, b, b_stride, width, skip, c, c_rows, count, first, last, bias, accumulate, activation, panel, edge
):  # fmt: skip
    rows_of_a, rows_of_c = ints(rows, count), ints(c_rows, count)
    floor = np.float32(0) if activation == RELU else np.float32(-np.inf)
    tables_at = edge + ROWS * WIDTH * 4
    tables = ints(tables_at, 4 * ROWS)  # last rows, last rows of C, rows of `edge`, one row for all
    for r in range(ROWS):
        tables[2 * ROWS + r], tables[3 * ROWS + r] = r * WIDTH, 0
    # a tile wider than C goes to `edge`, and its columns from there; so does one that awaits an activation, in one long loop
    direct = (width in (WIDTH, LANES)) and skip == 0 and activation <= RELU
    mode = flush()
    for t in range(first, last):
        i0 = t * ROWS
        present = min(ROWS, count - i0)
        a_rows_at, c_at, c_rows_at = rows + i0 * 8, c, c_rows + i0 * 8
        if present < ROWS:  # the last row stands in for those that are missing
            for r in range(ROWS):
                i = min(i0 + r, count - 1)
                tables[r], tables[ROWS + r] = rows_of_a[i], rows_of_c[i]
            a_rows_at, c_rows_at = tables_at, tables_at + ROWS * 8
        if not direct:
            if accumulate:
                for r in range(present):
                    _copy(c + (rows_of_c[i0 + r] + skip) * 4, edge + (r * WIDTH + skip) * 4, width - skip)
            c_at, c_rows_at = edge, tables_at + 2 * ROWS * 8
        s_at, s_rows_at = (c_at, c_rows_at) if accumulate else (bias, tables_at + 3 * ROWS * 8)
        if t == first and panel != 0 and present == ROWS:
            tile_packing(a, a_rows_at, columns, depth, b, b_stride, s_at, s_rows_at, c_at, c_rows_at, floor, panel)
            b, b_stride = panel, WIDTH
        elif width <= LANES:
            tile_narrow(a, a_rows_at, columns, depth, b, b_stride, s_at, s_rows_at, c_at, c_rows_at, floor)
        elif present <= ROWS // 2:
            tile_low(a, a_rows_at, columns, depth, b, b_stride, s_at, s_rows_at, c_at, c_rows_at, floor)
        else:
            tile_wide(a, a_rows_at, columns, depth, b, b_stride, s_at, s_rows_at, c_at, c_rows_at, floor)
        if not direct:
            if activation > RELU:
                apply_activation(floats(edge, present * WIDTH), activation)
            for r in range(present):
                _copy(edge + (r * WIDTH + skip) * 4, c + (rows_of_c[i0 + r] + skip) * 4, width - skip)
    restore(mode)


@inline
def sweep(A, B, C, start, first, last, bias, accumulate, activation, panel, buffer):
    """Tiles first <= t < last of one panel:  C[i, :width] = act(S + sum_k A[i, k] B[k, :width])  for the rows ROWS t <= i < ROWS (t + 1).

    A = (address, rows, address of columns, depth), B = (address, stride, width, skip), C = (address, rows, number of rows): see tile.py for
    the tables; those of rows are arrays, read from entry `start` on.  S is C if `accumulate`, else the bias (WIDTH floats at an address) in
    every row.  The first `skip` of `width` columns are not stored: that they are read lets a last, narrow panel be made of whole vectors.
    Unless `panel`, an address, is zero, the first tile packs B there, and the others read it from there: width must be WIDTH.
    Addresses instead of slices: numba counts the references of every slice, a few nanoseconds each.
    """
    (a, rows, columns, depth), (b, b_stride, width, skip), (c, c_rows, count) = A, B, C
    rows_at, c_rows_at = rows.ctypes.data + start * 8, c_rows.ctypes.data + start * 8
    _sweep(
        a, rows_at, columns, depth, b, b_stride, width, skip, c, c_rows_at, count, first, last, bias, accumulate, activation, panel,
        buffer.ctypes.data,
    )  # fmt: skip


PRODUCT = [_pack, _sweep]  # what a kernel links that packs and sweeps
