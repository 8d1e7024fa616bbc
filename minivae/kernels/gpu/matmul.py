"""The general matrix product on the GPU, vectors and batches too.  Equations: minivae/ops/dense.py; kernels: gemm.cu."""

import math

import numpy as np

from ...backend import PRECISIONS, Array, precision, xp
from ..checks import check_matmul
from .arrays import plain
from .dense import gemm, matrix
from .launcher import Kernel, empty

AXES = 8  # of gemm.cu
RECORD = np.dtype([("axes", np.int32), ("size", np.int32, AXES), ("of_a", np.int64, AXES), ("of_b", np.int64, AXES)], align=True)
Shape = tuple[int, ...]


class Batch:
    """What gemm.cu calls Batch: how the leading axes of a and b run together.  Neighbouring axes that both go on in step are one."""

    def __init__(self, leading: Shape, a_shape: Shape, b_shape: Shape):
        axes: list[tuple[int, int, int]] = []
        for n, of_a, of_b in zip(leading, steps(leading, a_shape), steps(leading, b_shape), strict=True):
            if axes and axes[-1][1:] == (n * of_a, n * of_b):
                axes[-1] = axes[-1][0] * n, of_a, of_b
            elif n > 1:
                axes.append((n, of_a, of_b))
        self.axes, self.count = len(axes), math.prod(leading)
        self.reach_a, self.reach_b = (sum((axis[0] - 1) * axis[i] for axis in axes) for i in (1, 2))  # where the last matrix begins
        self.record = np.zeros(1, RECORD)
        self.record["axes"] = self.axes
        for i, axis in enumerate(axes[:AXES]):
            for field, value in zip(("size", "of_a", "of_b"), axis, strict=True):
                self.record[field][0, i] = value


def steps(leading: Shape, shape: Shape) -> list[int]:
    """Numbers from one place along each leading axis to the next in a contiguous array; 0 where it is broadcast."""
    axes = (1,) * (len(leading) - len(shape) + 2) + shape[:-2]
    sizes = [math.prod(axes[i + 1 :]) * math.prod(shape[-2:]) for i in range(len(axes))]
    return [0 if n == 1 else size for n, size in zip(axes, sizes, strict=True)]


BATCHES = {
    (kind, precision): Kernel(
        f"gemm_batch_{kind}_{precision}",
        "gemm.cu",
        "float32[batch.reach_a + M * K] a, float32[batch.reach_b + K * N] b, float32[batch.count * M * N] c, Batch batch, int32 M, "
        "int32 N, int32 K",
        grid="(batch.count * divide_up(M, 64), divide_up(N, 64))",
        defines=(precision.upper(),),
        structures={"Batch": RECORD},
    )
    for kind in ("nn", "nt", "tn")
    for precision in PRECISIONS
}


def product(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """op(a) @ op(b) over the last two axes, the leading ones broadcast; one launch (two where a sum is cut into parts)."""
    if b.ndim == 2 and (a.ndim == 2 or not transpose_a):
        rows = a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        y = gemm(rows, b, transpose_a, transpose_b)
        return y if a.ndim == 2 else y.reshape(*a.shape[:-1], y.shape[1])
    a, transpose_a = matrix(a, transpose_a)
    b, transpose_b = matrix(b, transpose_b)
    if transpose_a and transpose_b:
        a, transpose_a = plain(a.swapaxes(-1, -2)), False
    K, M = a.shape[-2:] if transpose_a else a.shape[:-3:-1]
    N = b.shape[-2] if transpose_b else b.shape[-1]
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = empty((*leading, M, N))
    if c.size:
        batch = Batch(leading, a.shape, b.shape)
        if batch.axes > AXES:  # more alternations of broadcast axes than anybody has
            a, b = (plain(xp(x).broadcast_to(x, leading + x.shape[-2:])) for x in (a, b))
            batch = Batch(leading, a.shape, b.shape)
        BATCHES["nt"[transpose_a] + "nt"[transpose_b], precision()](a, b, c, batch, M, N, K)
    return c


def matmul_forward(a: Array, b: Array) -> tuple[Array, tuple]:
    check_matmul(a, b)
    rows, columns = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    y = product(rows, columns)
    y = y[..., 0] if b.ndim == 1 else y
    return (y[..., 0] if b.ndim == 1 else y[..., 0, :]) if a.ndim == 1 else y, (a, b)


def matmul_vjp(g: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> tuple[Array | None, Array | None]:
    rows, columns = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    g = g[..., None] if b.ndim == 1 else g  # (..., M) -> (..., M, 1)
    g = g[..., None, :] if a.ndim == 1 else g  # (..., N) -> (..., 1, N)
    ga = gb = None
    if needs[0]:
        ga = product(g, columns, transpose_b=True)
        ga = ga[..., 0, :] if a.ndim == 1 else ga
    if needs[1]:
        if columns.ndim == 2:  # one matrix for the whole batch: its sum over the batch is part of the product
            n = math.prod(rows.shape[:-1])
            gb = gemm(rows.reshape(n, rows.shape[-1]), g.reshape(n, g.shape[-1]), transpose_a=True)
        else:
            gb = product(rows, g, transpose_a=True)
        gb = gb[..., 0] if b.ndim == 1 else gb
    return ga, gb


matmul = (matmul_forward, matmul_vjp)
