"""Matrix products: the general matmul, and the dense layer with bias and activation in one op."""

import math

from ..backend import xp
from ..engine import Op
from ..errors import ShapeError, UsageError
from ..kernels.checks import check_dense, check_matmul
from ..kernels.cpu import gemm
from ..kernels.gpu import KERNELS as GPU
from ..kernels.lazy import kernels_only
from .activations import sigmoid_of


def matmul_reference(a, b):
    """y = a b over the last two axes, the leading ones broadcast; a vector is a row on the left, a column on the right."""
    check_matmul(a, b)
    return a @ b, (a, b)


def matmul_vjp(g, a, b, needs):
    rows = a[None] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    g = g[..., None] if b.ndim == 1 else g  # (..., M) -> (..., M, 1)
    g = g[..., None, :] if a.ndim == 1 else g  # (..., N) -> (..., 1, N)
    ga = gb = None
    if needs[0]:
        ga = g @ columns.swapaxes(-1, -2)
        ga = ga[..., 0, :] if a.ndim == 1 else ga
    if needs[1]:
        gb = rows.swapaxes(-1, -2) @ g
        gb = gb[..., 0] if b.ndim == 1 else gb
    return ga, gb


def fused_activation(h, name):
    """act(h) for the activations whose derivative can be read off their value: None, relu, tanh, sigmoid."""
    if name is None:
        return h
    if name == "relu":
        return xp(h).where(h.real <= 0, 0, h)
    if name == "tanh":
        return xp(h).tanh(h)
    if name == "sigmoid":
        return sigmoid_of(h)
    raise UsageError(f"activation {name!r} cannot be fused into a layer; choose None, 'relu', 'tanh' or 'sigmoid'")


def fused_activation_gradient(g, y, name):
    """g act'(h), with act' read off y = act(h)."""
    if name is None:
        return g
    if name == "relu":
        return xp(g).where(y.real > 0, g, 0)
    return g * (1 - y * y) if name == "tanh" else g * y * (1 - y)


def dense_reference(x, w, b=None, activation=None):
    """y = act(x w + b).     x (..., I), w (I, O), b (O,) or None -> (..., O)"""
    check_dense(x, w, b)
    h = x @ w if b is None else x @ w + b
    y = fused_activation(h, activation)
    return y, (x, w, y, activation)


def dense_vjp(g, x, w, y, activation, needs):
    g = fused_activation_gradient(g, y, activation)
    n = math.prod(x.shape[:-1])  # not reshape(-1, O): where O or I is 0, it cannot tell N
    rows = g.reshape(n, w.shape[1])  # (..., O) -> (N, O)
    gx = g @ w.T if needs[0] else None
    gw = x.reshape(n, w.shape[0]).T @ rows if needs[1] else None
    gb = rows.sum(axis=0) if len(needs) > 2 and needs[2] else None
    return gx, gw, gb


@kernels_only
def matmul_numba(a, b):
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        return matmul_reference(a, b)
    return gemm.gemm(a, b), (a, b)


@kernels_only
def matmul_numba_vjp(g, a, b, needs):
    if a.ndim != 2 or b.ndim != 2:
        return matmul_vjp(g, a, b, needs)
    return gemm.gemm(g, b, transpose_b=True) if needs[0] else None, gemm.gemm(a, g, transpose_a=True) if needs[1] else None


@kernels_only
def dense_numba(x, w, b=None, activation=None):
    if x.ndim == 2 and w.ndim == 2:
        try:
            y = gemm.dense_forward(x, w, b, activation)
        except ShapeError:
            check_dense(x, w, b)
            raise
        return y, (x, w, y, activation, None)
    check_dense(x, w, b)
    rows = x.reshape(math.prod(x.shape[:-1]), w.shape[0])
    y = gemm.dense_forward(rows, w, b, activation)
    return y.reshape(*x.shape[:-1], w.shape[1]), (rows, w, y, activation, x.shape)


@kernels_only
def dense_numba_vjp(g, rows, w, y, activation, x_shape, needs):
    needs = needs if len(needs) > 2 else (*needs, False)
    if x_shape is None:
        return gemm.dense_vjp(g, rows, w, y, activation, needs)
    gx, gw, gb = gemm.dense_vjp(g.reshape(y.shape), rows, w, y, activation, needs)
    return gx if gx is None else gx.reshape(x_shape), gw, gb


matmul = Op("matmul", numpy=(matmul_reference, matmul_vjp), numba=(matmul_numba, matmul_numba_vjp), cupy=GPU["matmul"])
dense = Op("dense", numpy=(dense_reference, dense_vjp), numba=(dense_numba, dense_numba_vjp), cupy=GPU["dense"])
