"""Numbers at an address, as an array: what a kernel that was compiled once for all its callers is given (jit.shared)."""

import numba
import numpy as np
from numba import types

from .jit import inline, intrinsic


@intrinsic
def _pointer(typing_context, address, like):
    """The pointer to numbers like `like` at an address."""
    pointer = types.CPointer(like)
    return pointer(types.int64, like), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], context.get_value_type(pointer)
    )


@inline
def floats(address, n):
    """The n float32 that lie there."""
    return numba.carray(_pointer(address, np.float32(0)), (n,))


@inline
def ints(address, n):
    """The n int64 that lie there."""
    return numba.carray(_pointer(address, np.int64(0)), (n,))
