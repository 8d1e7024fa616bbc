"""Batch norm, and every other reduction down columns.  Equations: minivae/ops/normalization.py; kernels: columns.cu."""

from ...backend import Array
from ...errors import ShapeError
from .arrays import plain
from .launcher import THREADS, Kernel, divide_up, empty, width

PARTS = "(divide_up(columns, width(columns)), divide_up(rows, span))"
BLOCK = "(width(columns), THREADS // width(columns))"
MATRIX = "float32[rows * columns]"
ADD_PARTS = Kernel(
    "add_parts",
    "columns.cu",
    "float32[parts * n] partial, float32?[columns] bias, float32[n] y, int64 parts, int64 n, int64 columns, int32 activation",
    grid="spread(n)",
)
ACTIVATION_GRADIENT = Kernel(
    "activation_gradient",
    "columns.cu",
    "float32[n] g, float32[n] y, float32[n] gs, int64 n, int32 activation",
    grid="spread(n)",
)
BIAS_GRADIENT = Kernel(
    "bias_gradient",
    "columns.cu",
    f"{MATRIX} g, float32?[rows * columns] y, float32?[rows * columns] gs, float32[divide_up(rows, span) * columns] partial, int64 rows, "
    "int64 columns, int64 span, int32 activation",
    grid=PARTS,
    block=BLOCK,
)
COLUMN_MOMENTS = Kernel(
    "column_moments",
    "columns.cu",
    f"{MATRIX} x, float32[divide_up(rows, span) * 3 * columns] partial, int64 rows, int64 columns, int64 span",
    grid=PARTS,
    block=BLOCK,
)
ADD_MOMENTS = Kernel(
    "add_moments",
    "columns.cu",
    "float32[parts * 3 * columns] partial, float32[columns] mean, float32[columns] var, float32[columns] inverse, float32 eps, "
    "int64 parts, int64 columns",
    grid="spread(columns)",
)
BATCH_NORM = Kernel(
    "batch_norm",
    "columns.cu",
    "float32[n] x, float32[columns] mean, float32[columns] inverse, float32[columns] gamma, float32[columns] beta, float32[n] y, int64 n, "
    "int64 columns",
    grid="spread(n)",
)
BATCH_NORM_SUMS = Kernel(
    "batch_norm_sums",
    "columns.cu",
    f"{MATRIX} gy, {MATRIX} x, float32[columns] mean, float32[columns] inverse, float32[divide_up(rows, span) * 2 * columns] partial, "
    "int64 rows, int64 columns, int64 span",
    grid=PARTS,
    block=BLOCK,
)
BATCH_NORM_GRADIENT = Kernel(
    "batch_norm_gradient",
    "columns.cu",
    f"{MATRIX} gy, {MATRIX} x, float32[columns] mean, float32[columns] inverse, float32[columns] gamma, float32[2 * columns] sums, "
    f"float32[columns] gmean, float32[columns] gvar, {MATRIX} gx, int64 rows, int64 columns",
    grid="spread(rows * columns)",
)


def row_parts(rows: int, columns: int) -> tuple[int, int]:
    """How a column reduction is cut: parts, and rows of each.  By the shape alone, so that the bits do not depend on the GPU."""
    height = THREADS // width(columns)
    beside = divide_up(columns, width(columns))
    span = max(32 * height, divide_up(rows, max(1, 256 // max(beside, 1))))
    return divide_up(rows, span), span


def _width(columns: int) -> int:
    return min(32, 1 << max(columns - 1, 0).bit_length())


def add_parts(partial: Array, parts: int, shape: tuple[int, ...], bias: Array | None = None, activation: int = 0) -> Array:
    """act(sum over parts + bias)        (parts, *shape) -> shape"""
    if parts == 1 and bias is None and not activation:
        return partial.reshape(shape)
    y = empty(shape)
    ADD_PARTS(partial, bias, y, parts, y.size, shape[-1], activation)
    return y


def activation_and_bias_gradient(g: Array, y: Array, activation: int, needs_bias: bool) -> tuple[Array, Array | None]:
    """gs = g act'(y) and its sum over all axes but the last, or None.   (..., O) -> (..., O), (O,)"""
    g = plain(g)
    gs = empty(g.shape) if activation else g
    if not needs_bias:
        if activation:
            ACTIVATION_GRADIENT(g, y, gs, g.size, activation)
        return gs, None
    columns = g.shape[-1]
    rows = g.size // max(columns, 1)
    parts, span = row_parts(rows, columns)
    partial = empty((parts, columns))
    BIAS_GRADIENT(g, y if activation else None, gs if activation else None, partial, rows, columns, span, activation)
    return gs, add_parts(partial, parts, (columns,))


def batch_norm_forward(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[tuple[Array, Array, Array], tuple]:
    x, gamma, beta = plain(x), plain(gamma), plain(beta)
    columns = x.shape[-1]
    rows = x.size // columns if x.size else 0
    if rows < 2:
        raise ShapeError(f"batch_norm: x is {x.shape}; need at least 2 values per channel to estimate a variance")
    parts, span = row_parts(rows, columns)
    partial, mean, var, inverse = empty((parts, 3, columns)), empty((columns,)), empty((columns,)), empty((columns,))
    COLUMN_MOMENTS(x, partial, rows, columns, span)
    ADD_MOMENTS(partial, mean, var, inverse, eps, parts, columns)
    y = empty(x.shape)
    BATCH_NORM(x, mean, inverse, gamma, beta, y, x.size, columns)
    return (y, mean, var), (x, mean, inverse, gamma, rows, columns)


def batch_norm_vjp(g: tuple, x: Array, mean: Array, inverse: Array, gamma: Array, rows: int, columns: int) -> tuple[Array, Array, Array]:
    gy, gmean, gvar = (plain(part) for part in g)
    parts, span = row_parts(rows, columns)
    partial = empty((parts, 2, columns))
    BATCH_NORM_SUMS(gy, x, mean, inverse, partial, rows, columns, span)
    sums = add_parts(partial, parts, (2, columns))  # sum gy, sum gy normal: the gradients of beta and gamma
    gx = empty(x.shape)
    BATCH_NORM_GRADIENT(gy, x, mean, inverse, gamma, sums, gmean, gvar, gx, rows, columns)
    return gx, sums[1], sums[0]


batch_norm = (batch_norm_forward, batch_norm_vjp)
