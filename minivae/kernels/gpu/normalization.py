"""Batch norm.  Equations: minivae/ops/normalization.py; kernels: columns.cu."""

from ...backend import Array
from ...errors import ShapeError
from .arrays import plain
from .launcher import Kernel, bias_span, divide_up, empty

PARTS = "(divide_up(columns, width(columns)), divide_up(rows, span))"
BLOCK = "(width(columns), THREADS // width(columns))"
MATRIX = "float32[rows * columns]"
ADD_PARTS = Kernel("add_parts", "columns.cu", "float32[parts * n] partial, float32[n] y, int64 parts, int64 n", grid="spread(n)")
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
    """How a column reduction is cut: parts, and rows of each."""
    span = bias_span(rows, columns)
    return divide_up(rows, span), span


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
    sums = partial[0] if parts == 1 else empty((2, columns))  # sum gy, sum gy normal: the gradients of beta and gamma
    if parts > 1:
        ADD_PARTS(partial, sums, parts, sums.size)
    gx = empty(x.shape)
    BATCH_NORM_GRADIENT(gy, x, mean, inverse, gamma, sums, gmean, gvar, gx, rows, columns)
    return gx, sums[1], sums[0]


batch_norm = (batch_norm_forward, batch_norm_vjp)
