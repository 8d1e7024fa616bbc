"""rANS on a few states in turns: compress/rans.py has the equations.  Unsigned 64-bit arithmetic, exact."""

import numpy as np

from .jit import kernel

U = np.uint64


@kernel
def push(heads, words, size, starts, frequencies, precision):
    """All symbols in order; symbol i on state i % lanes.  Returns the number of words."""
    lanes, r = heads.size, U(precision)
    for i in range(starts.size):
        lane = i % lanes
        h, f = heads[lane], U(frequencies[i])
        if h >> (U(64) - r) >= f:  # h >= f 2^(64 - r), which may be 2^64
            words[size] = np.uint32(h & U(0xFFFFFFFF))
            size += 1
            h >>= U(32)
        heads[lane] = (h // f << r) + h % f + U(starts[i])
    return size


@kernel
def pop(heads, words, size, cumulative, precision, symbols):
    """The inverse, from the last symbol to the first.  Returns the number of words, -1 if there were too few."""
    lanes, r = heads.size, U(precision)
    n, last = cumulative.shape[0], cumulative.shape[1] - 1
    for i in range(n - 1, -1, -1):
        lane = i % lanes
        h = heads[lane]
        slot = np.int64(h & ((U(1) << r) - U(1)))
        row = cumulative[i]
        low, high = 0, last  # row[low] <= slot < row[high]
        while high - low > 1:
            middle = (low + high) // 2
            if row[middle] <= slot:
                low = middle
            else:
                high = middle
        symbols[i] = low
        h = U(row[low + 1] - row[low]) * (h >> r) + U(slot - row[low])
        if h < U(0x100000000):
            if size == 0:
                return -1
            size -= 1
            h = (h << U(32)) | U(words[size])
        heads[lane] = h
    return size
