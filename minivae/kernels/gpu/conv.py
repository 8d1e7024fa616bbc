"""Convolution, its transpose and their gradients on the GPU.  Equations: minivae/ops/conv.py; kernels: conv.cu, fold.cu, few.cu."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import PRECISIONS, Array, precision
from ...errors import ShapeError
from ..checks import Padding, Pair, activation_code, check_conv, output_size, transposed_size
from .arrays import plain
from .dense import cut, through, workspace
from .launcher import Kernel, arrived, bias_parts, bias_span, divide_up, empty, shared

FIELDS = ("N", "H", "W", "C", "OH", "OW", "O", "KH", "KW", "sh", "sw", "top", "left", "strip", "own", "halo")
DIVISORS = ("by_C", "by_KW", "by_OH", "by_OW", "by_O", "by_narrow", "by_wide", "by_strip")
ROWS = {64: 64, 32: 128, 16: 256}  # of a tile of conv.cu, by its columns
FOLD_ROWS, FOLD_TAPS = 256, 16  # of a block of fold.cu
FEW_TAPS, FEW_CHANNELS, FEW_PIXELS = 16, 32, 256  # of a block of few.cu


class Geometry:
    """What geometry.cu calls Geometry, and the sizes that follow from it."""

    def __init__(self, N: int, H: int, W: int, C: int, KH: int, KW: int, O: int, stride: Pair, padding: Padding):
        OH, OW = output_size(H, KH, stride[0], padding[0]), output_size(W, KW, stride[1], padding[1])
        self.x_shape, self.w_shape, self.y_shape = (N, H, W, C), (KH, KW, C, O), (N, OH, OW, O)
        self.x, self.w, self.y = math.prod(self.x_shape), math.prod(self.w_shape), math.prod(self.y_shape)
        self.C, self.O, self.taps, self.outputs = C, O, KH * KW * C, N * OH * OW
        self.phases = stride[0] * stride[1]
        self.pixels = N * divide_up(H, stride[0]) * divide_up(W, stride[1])  # of the largest phase
        if max(N * H * W, self.outputs, self.taps) >= 2**31:
            raise ShapeError(f"a convolution of {self.x_shape} to {self.y_shape}: need fewer than 2^31 pixels; use a smaller batch")
        if max(KH * W * C, KH * OW * O, C, O) >= 2**29:
            raise ShapeError(
                f"a convolution of {self.x_shape} to {self.y_shape}: need windows whose {KH} rows have fewer than 2^29 numbers"
            )
        strip, own, self.halo = strip_of(OW, divide_up(KH, stride[0]), divide_up(KW, stride[1]))
        self.strips, self.fold_blocks = divide_up(OW, own), divide_up(N * OH * strip, max(FOLD_ROWS - self.halo, 1))
        narrow = max(KW // stride[1], 1)
        divisors = [divisor(d) for d in (C, KW, OH, OW, O, narrow, narrow + 1, strip)]
        numbers = N, H, W, C, OH, OW, O, KH, KW, *stride, padding[0][0], padding[1][0], strip, own, self.halo
        self.record = np.array([(*numbers, *divisors)], RECORD)
        # fewer products than the tiles of conv.cu, which padding fills up?  A fold repeats its halo.
        columns = tile_for_input(C)
        of_tiles = round_up(self.pixels, ROWS[columns]) * round_up(C, columns) * KH * KW
        of_fold = self.fold_blocks * FOLD_ROWS * self.strips * round_up(self.taps, FOLD_TAPS)
        self.folds = C <= 16 and self.halo < FOLD_ROWS and self.strips < 65536 and of_fold < of_tiles
        columns = columns_of(O)
        of_tiles = round_up(self.taps, ROWS[columns]) * round_up(O, columns)
        self.few = round_up(self.taps, FEW_TAPS) * round_up(O, FEW_CHANNELS) < of_tiles

    def biased(self, swapped: int) -> tuple[int, int]:
        """Pixels and channels of y, or of x if swapped: of the one that a bias was added to."""
        return (math.prod(self.x_shape[:3]), self.C) if swapped else (self.outputs, self.O)


def divisor(d: int) -> tuple[int, int]:
    """(m, shift) by which geometry.cu divides by d, at least 1:  n // d = (n + 1) m >> (32 + shift)  for 0 <= n < 2^31"""
    shift = max(d, 1).bit_length() - 1
    return min((1 << (32 + shift)) // max(d, 1), 2**32 - 1), shift


DIVISOR = np.dtype([("m", np.uint32), ("shift", np.int32)])
RECORD = np.dtype([(name, np.int32) for name in FIELDS] + [(name, DIVISOR) for name in DIVISORS])
geometry_of = functools.lru_cache(maxsize=256)(Geometry)


def round_up(n: int, to: int) -> int:
    return divide_up(n, to) * to


def columns_of(channels: int) -> int:
    """Of a tile: no more than the channels call for."""
    return 16 if channels <= 16 else 32 if channels <= 32 else 64


def tile_for_input(channels: int) -> int:
    return max(32, columns_of(channels))  # where 16 would do, fold.cu does


@functools.lru_cache(maxsize=256)
def strip_of(columns: int, rows_met: int, columns_met: int) -> tuple[int, int, int]:
    """(strip, own, halo) of fold.cu for outputs of so many columns, of which so many rows and columns meet a pixel: what repeats least."""

    def layout(own: int) -> tuple[int, int, int]:
        strip = columns if own == columns else own + columns_met - 1
        return strip, own, (rows_met - 1) * strip + columns_met - 1

    def repeated(own: int) -> float:
        strip, _, halo = layout(own)
        return divide_up(columns, own) * strip / (FOLD_ROWS - halo) if halo < FOLD_ROWS else math.inf

    return layout(min((max(columns, 1), *range(1, min(columns, FOLD_ROWS))), key=repeated))


def kernels(role: str, arguments: str, grid: str, of_columns: Sequence[int] = tuple(ROWS)) -> dict[tuple[int, str], Kernel]:
    """A role's kernels by (columns, precision)."""
    return {
        (columns, precision): Kernel(
            f"conv{columns}_{role}_{precision}",
            "conv.cu",
            arguments.replace("ROWS", str(ROWS[columns])).replace("COLUMNS", str(columns)),
            grid.replace("ROWS", str(ROWS[columns])).replace("COLUMNS", str(columns)),
            defines=(precision.upper(),),
            structures={"Geometry": RECORD},
        )
        for columns in of_columns
        for precision in PRECISIONS
    }


FORWARD = kernels(
    "forward",
    "float32[geometry.x] x, float32?[geometry.x] value, float32[geometry.w] w, float32?[geometry.O] bias, float32[geometry.y] y, "
    "float32?[shared(divide_up(geometry.outputs, ROWS) * divide_up(geometry.O, COLUMNS) * divide_up(geometry.taps, span), "
    "divide_up(geometry.taps, span), ROWS * COLUMNS)] partial, uint32[ARRIVALS] arrived, Geometry geometry, int32 span, int32 activation",
    "(divide_up(geometry.outputs, ROWS), divide_up(geometry.O, COLUMNS), max(1, divide_up(geometry.taps, span)))",
)
WEIGHTS_ARGUMENTS = (
    "float32[geometry.x] x, float32[geometry.y] g, float32?[geometry.x if swapped else geometry.y] value, float32?[geometry.w] gw, "
    "float32?[geometry.C if swapped else geometry.O] gb, float32?[shared(blocks, divide_up(geometry.outputs, span), ROWS * COLUMNS) + "
    "bias_parts(*geometry.biased(swapped), span_b)] partial, uint32[ARRIVALS] arrived, Geometry geometry, int32 span, int32 span_b, "
    "int32 blocks, int32 swapped"
)
WEIGHTS_GRID = "(blocks + (bias_blocks(*geometry.biased(swapped), span_b) if gb is not None else 0),)"
WEIGHTS = kernels("weights", WEIGHTS_ARGUMENTS, WEIGHTS_GRID)
FEW_WEIGHTS = Kernel(
    "few_weights",
    "few.cu",
    WEIGHTS_ARGUMENTS.replace("ROWS", str(FEW_TAPS)).replace("COLUMNS", str(FEW_CHANNELS)),
    WEIGHTS_GRID,
    structures={"Geometry": RECORD},
)
INPUT_ARGUMENTS = (
    "float32[geometry.y] g, float32?[geometry.y] value, float32[geometry.w] w, float32?[geometry.C] bias, float32[geometry.x] gx, "
    "Geometry geometry, int32 activation"
)
INPUT_GRID = "(divide_up(geometry.pixels, ROWS), divide_up(geometry.C, COLUMNS), geometry.phases)"
INPUT = kernels("input", INPUT_ARGUMENTS, INPUT_GRID, (64, 32))
FOLD = {
    precision: Kernel(
        f"fold_input_{precision}",
        "fold.cu",
        INPUT_ARGUMENTS,
        "(geometry.fold_blocks, geometry.strips)",
        defines=(precision.upper(),),
        structures={"Geometry": RECORD},
    )
    for precision in PRECISIONS
}


def correlate(s: Geometry, x: Array, w: Array, b: Array | None = None, activation: int = 0, value: Array | None = None) -> Array:
    """act(correlate(x, w) + b).   (N, H, W, C), (KH, KW, C, O), (O,) -> (N, OH, OW, O)

    value    of a gradient x: where it is 0 or less, x is taken for 0; so it is below"""
    columns = columns_of(s.O)
    tiles = divide_up(s.outputs, ROWS[columns]) * divide_up(s.O, columns)
    parts, span = cut(tiles, s.taps)
    y, partial = empty(s.y_shape), workspace(tiles, parts, ROWS[columns] * columns)
    FORWARD[columns, precision()](x, value, w, b, y, partial, arrived(), s, span, activation)
    return y


def input_adjoint(s: Geometry, y: Array, w: Array, b: Array | None = None, activation: int = 0, value: Array | None = None) -> Array:
    """act(x of <correlate(x, w), y> + b).   (N, OH, OW, O), (KH, KW, C, O), (C,) -> (N, H, W, C)"""
    x = empty(s.x_shape)
    kernel = FOLD[precision()] if s.folds else INPUT[tile_for_input(s.C), precision()]
    kernel(y, value, w, b, x, s, activation)
    return x


def weight_adjoint(s: Geometry, x: Array, y: Array, swapped: bool, value: Array | None, needs: Sequence[bool]) -> list[Array | None]:
    """w of <correlate(x, w), y>, and the sum over all pixels of y, or of x if swapped: the one that is a gradient.
    (N, H, W, C), (N, OH, OW, O) -> (KH, KW, C, O), (O,) or (C,)"""
    columns, (pixels, channels) = columns_of(s.O), s.biased(swapped)
    rows, kernel = ROWS[columns], WEIGHTS[columns, precision()]
    if s.few:
        rows, columns, kernel = FEW_TAPS, FEW_CHANNELS, FEW_WEIGHTS
    tiles = divide_up(s.taps, rows) * divide_up(s.O, columns)
    parts, span = cut(tiles, round_up(s.outputs, FEW_PIXELS), FEW_PIXELS, FEW_PIXELS) if s.few else cut(tiles, s.outputs)
    span_b = bias_span(pixels, channels)
    gw, blocks = (empty(s.w_shape), tiles * parts) if needs[1] else (None, 0)
    gb = empty((channels,)) if len(needs) > 2 and needs[2] else None
    size = shared(blocks, parts, rows * columns) + bias_parts(pixels, channels, span_b)
    partial = empty((size,)) if size else None
    kernel(x, y, value, gw, gb, partial, arrived(), s, span, span_b, blocks, int(swapped))
    return [gw, gb]


def conv2d_forward(
    x: Array, w: Array, b: Array | None = None, stride: Any = 1, padding: Any = 0, activation: str | None = None
) -> tuple[Array, tuple]:
    stride, padding = check_conv("conv2d", x, w, b, 2, stride, padding)
    code = activation_code(activation)
    s = geometry_of(*x.shape, *w.shape[:2], w.shape[3], stride, padding)
    x, w = plain(x), plain(w)
    y = correlate(s, x, w, None if b is None else plain(b), code)
    return y, (s, x, w, y, code)


def conv2d_vjp(g: Array, s: Geometry, x: Array, w: Array, y: Array, activation: int, needs: tuple[bool, ...]) -> tuple:
    g, value = through(g, y, activation)
    gx = input_adjoint(s, g, w, value=value) if needs[0] else None
    return gx, *weight_adjoint(s, x, g, False, value, needs)


def conv_transpose2d_forward(
    x: Array, w: Array, b: Array | None = None, stride: Any = 1, padding: Any = 0, size: Any = None, activation: str | None = None
) -> tuple[Array, tuple]:
    stride, padding = check_conv("conv_transpose2d", x, w, b, 3, stride, padding)
    code = activation_code(activation)
    s = geometry_of(x.shape[0], *transposed_size(x, w, stride, padding, size), w.shape[2], *w.shape[:2], w.shape[3], stride, padding)
    x, w = plain(x), plain(w)
    y = input_adjoint(s, x, w, None if b is None else plain(b), code)
    return y, (s, x, w, y, code)


def conv_transpose2d_vjp(g: Array, s: Geometry, x: Array, w: Array, y: Array, activation: int, needs: tuple[bool, ...]) -> tuple:
    g, value = through(g, y, activation)
    gx = correlate(s, g, w, value=value) if needs[0] else None
    return gx, *weight_adjoint(s, g, x, True, value, needs)


conv2d = (conv2d_forward, conv2d_vjp)
conv_transpose2d = (conv_transpose2d_forward, conv_transpose2d_vjp)
