"""How every CPU kernel is compiled."""

from typing import Any

import numba

FASTMATH = {"contract", "nsz", "arcp", "afn", "reassoc"}  # NaN and infinities keep their meaning


def inline(function: Any) -> Any:
    """A scalar function for use inside kernels."""
    return numba.njit(forceinline=True, error_model="numpy", fastmath=FASTMATH)(function)


def kernel(function: Any = None, *, parallel: bool = False) -> Any:
    """A loop over arrays, cached on disk."""
    if function is None:
        return lambda f: kernel(f, parallel=parallel)
    return numba.njit(cache=True, parallel=parallel, error_model="numpy", fastmath=FASTMATH)(function)
