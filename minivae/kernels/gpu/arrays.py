"""What the wrappers of this room do to arrays before a kernel may see them."""

import math
from typing import Any

import numpy as np

from ...backend import Array, xp


def plain(x: Array) -> Array:
    """x as a kernel takes it: float32 and contiguous.  No copy when it is so already."""
    ready = x.dtype == np.float32 and x.flags.c_contiguous and not isinstance(x, np.generic)
    return x if ready else xp(x).asarray(x, dtype=np.float32, order="C")


def alike(*values: Any) -> list[Array]:
    """The arrays (and numbers) brought to one shape, plain; the engine sums a gradient back over the axes that were stretched."""
    module = xp(next(x for x in values if hasattr(x, "dtype")))
    arrays = [x if hasattr(x, "dtype") else module.asarray(x, dtype=np.float32) for x in values]
    if len({x.shape for x in arrays}) > 1:
        arrays = module.broadcast_arrays(*arrays)
    return [plain(x) for x in arrays]


def event(shape: tuple[int, ...], event_ndim: int) -> tuple[tuple[int, ...], int, int]:
    """(*batch, *event) -> batch, rows, columns"""
    cut = len(shape) - event_ndim
    return shape[:cut], math.prod(shape[:cut]), math.prod(shape[cut:])
