"""Matrices as kernels take them: rows of float32, contiguous each, but not necessarily next to each other.

The two halves mean, logvar of one (N, 2K) array are such matrices.  numba takes the rows of a column slice to be strided, and does not
vectorize loops over them: `row` tells it better.
"""

from typing import Any

import numpy as np
from numba import extending, types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from ...errors import ShapeError
from .elementwise import BLOCK, PARALLEL_FROM

intrinsic: Any = extending.intrinsic
FLOAT32 = np.dtype(np.float32)


@intrinsic
def row(typing, matrix, i):
    """matrix[i] as a contiguous array, for a matrix whose rows are contiguous."""
    vector = types.Array(matrix.dtype, 1, "C")

    def generate(context, builder, signature, args):
        source = context.make_array(matrix)(context, builder, args[0])
        view = context.make_array(vector)(context, builder)
        width, step = cgutils.unpack_tuple(builder, source.shape)[1], cgutils.unpack_tuple(builder, source.strides)[0]
        populate_array(
            view,
            data=cgutils.pointer_add(builder, source.data, builder.mul(args[1], step)),
            shape=[width],
            strides=[source.itemsize],
            itemsize=source.itemsize,
            meminfo=None,  # the view is not counted: the matrix outlives it
        )
        return view._getvalue()

    return vector(matrix, types.intp), generate


def rows(x: np.ndarray) -> np.ndarray:
    """x itself if it is a float32 matrix with contiguous rows, else a copy that is."""
    if x.dtype is FLOAT32 and x.ndim == 2 and (x.strides[1] == 4 or x.shape[1] == 1):  # the stride of a single column is any number
        return x
    if x.ndim != 2:
        raise ShapeError(f"a kernel over rows takes matrices, and got an array of shape {x.shape}; reshape it to (rows, columns)")
    return np.ascontiguousarray(x, np.float32)


def alike(name: str, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays as `rows`, if they have one shape."""
    shape = arrays[0].shape
    for a in arrays:
        if a.shape != shape:
            raise ShapeError(f"{name}: the arrays are {', '.join([str(b.shape) for b in arrays])}; need equal shapes")
    return [rows(a) for a in arrays]


def per_row(g: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """g, contiguous, if it has one number for each row of the matrix."""
    if g.shape != matrix.shape[:1]:
        raise ShapeError(f"the gradient is {g.shape}, the matrix {matrix.shape}; need one number a row")
    return g if g.dtype is FLOAT32 and g.flags.c_contiguous else np.ascontiguousarray(g, np.float32)


def run(serial: Any, parallel: Any, matrix: np.ndarray, *others: Any) -> None:
    """Call serial(start, stop, matrix, ...), or parallel(rows per task, matrix, ...) if the matrix is large."""
    if matrix.size < PARALLEL_FROM:
        serial(0, len(matrix), matrix, *others)
    else:
        parallel(max(1, BLOCK // matrix.shape[1]), matrix, *others)
