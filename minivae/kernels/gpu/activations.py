"""Elementwise nonlinearities and softmax on the GPU.  Equations: minivae/ops/activations.py; kernels: elementwise.cu, rows.cu."""

from collections.abc import Callable
from typing import Any

from ...backend import Array, xp
from .arrays import plain
from .launcher import Kernel, empty

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def elementwise(name: str, value: str, option: str | None = None, default: float = 0.0, keeps_value: bool = False) -> Pair:
    """(forward, vjp) of y = f(x): kernels `value` and `name`_gradient; what is kept for the vjp is y or x."""
    forward_kernel = Kernel(value, "elementwise.cu", "float32[n] xs, float32[n] ys, float32 parameter, int64 n", grid="spread(n)")
    gradient_kernel = Kernel(
        f"{name}_gradient",
        "elementwise.cu",
        "float32[n] gs, float32[n] saved, float32[n] gx, float32 parameter, int64 n",
        grid="spread(n)",
    )

    def forward(x: Array, *given: float, **options: float) -> tuple[Array, tuple]:
        parameter = given[0] if given else options.get(option, default) if option else 0.0
        x = plain(x)
        y = empty(x.shape)
        forward_kernel(x, y, parameter, x.size)
        return y, (y if keeps_value else x, parameter)

    def vjp(g: Array, saved: Array, parameter: float) -> tuple[Array]:
        g = plain(g)
        gx = empty(saved.shape)
        gradient_kernel(g, saved, gx, parameter, saved.size)
        return (gx,)

    return forward, vjp


relu = elementwise("relu", "relu", keeps_value=True)
leaky_relu = elementwise("leaky_relu", "leaky_relu", "slope", 0.01)
elu = elementwise("elu", "elu", "alpha", 1.0)
silu = elementwise("silu", "silu")
tanh = elementwise("tanh", "tanh_value", keeps_value=True)
sigmoid = elementwise("sigmoid", "sigmoid", keeps_value=True)
softplus = elementwise("softplus", "softplus")

ROWS = "divide_up(rows, team(rows, columns)[1]),"


def row_kernel(name: str, arrays: str) -> Kernel:
    declared = ", ".join(f"float32[rows * columns] {array}" for array in arrays.split())
    return Kernel(name, "rows.cu", f"{declared}, int64 rows, int64 columns", grid=ROWS, block="team(rows, columns)")


LOGSUMEXP = Kernel(
    "logsumexp",
    "rows.cu",
    "float32[rows * columns] x, float32[rows] y, float32[rows] largest, float32[rows] total, int64 rows, int64 columns",
    grid=ROWS,
    block="team(rows, columns)",
)
LOGSUMEXP_GRADIENT = Kernel(
    "logsumexp_gradient",
    "rows.cu",
    "float32[rows] g, float32[rows * columns] x, float32[rows] largest, float32[rows] total, float32[rows * columns] gx, int64 rows, "
    "int64 columns",
    grid="spread(rows * columns)",
)


def as_rows(x: Array, axes: tuple[int, ...]) -> tuple[Array, int, int]:
    """x with the axes moved to the end, plain: each row is what a reduction over the axes adds up; rows, columns."""
    moved = plain(xp(x).moveaxis(x, axes, range(x.ndim - len(axes), x.ndim)))
    columns = 1
    for n in moved.shape[x.ndim - len(axes) :]:
        columns *= n
    rows = 1
    for n in moved.shape[: x.ndim - len(axes)]:
        rows *= n
    return moved, rows, columns


def normalized_rows(name: str) -> Pair:
    """(forward, vjp) of a function of each row along an axis whose gradient can be read off its value: softmax, log_softmax."""
    value_kernel, gradient_kernel = row_kernel(name, "x y"), row_kernel(f"{name}_gradient", "g y gx")

    def forward(x: Array, axis: int = -1) -> tuple[Array, tuple]:
        rows, n, columns = as_rows(x, (axis,))
        y = empty(rows.shape)
        value_kernel(rows, y, n, columns)
        return xp(y).moveaxis(y, -1, axis), (y, axis)

    def vjp(g: Array, y: Array, axis: int) -> tuple[Array]:
        rows, n, columns = as_rows(g, (axis,))
        gx = empty(rows.shape)
        gradient_kernel(rows, y, gx, n, columns)
        return (xp(gx).moveaxis(gx, -1, axis),)

    return forward, vjp


def logsumexp_forward(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> tuple[Array, tuple]:
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    rows, n, columns = as_rows(x, axes)
    y, largest, total = (empty(tuple(m for i, m in enumerate(x.shape) if i not in axes)) for _ in range(3))
    LOGSUMEXP(rows, y, largest, total, n, columns)
    kept = tuple(1 if i in axes else m for i, m in enumerate(x.shape))
    return (y.reshape(kept) if keepdims else y), (rows, largest, total, axes)


def logsumexp_vjp(g: Array, rows: Array, largest: Array, total: Array, axes: tuple[int, ...]) -> tuple[Array]:
    gx = empty(rows.shape)
    LOGSUMEXP_GRADIENT(plain(g), rows, largest, total, gx, total.size, rows.size // max(total.size, 1))
    return (xp(gx).moveaxis(gx, range(gx.ndim - len(axes), gx.ndim), axes),)


softmax = normalized_rows("softmax")
log_softmax = normalized_rows("log_softmax")
logsumexp = (logsumexp_forward, logsumexp_vjp)
