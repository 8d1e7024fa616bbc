"""Who does what: work is not dealt out, it is fetched.

The units of a kernel's work (tiles, images) are cut into runs, long ones first; each worker takes the next run from a counter that all
share, until none is left.  So a core that is slower, or that another program has taken for a while, does less, and nobody waits for it
longer than for one short run:

    dealt out    fast  ########............        fetched    fast  #### ## # # # #
                 slow  ################                       slow  ####### ### #

Which worker computes a number does not change how it is computed: the bits are the same for any number of threads.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import types

from .jit import inline, intrinsic, scratch

COUNTERS = 3  # as many as one kernel call needs at most, a cache line each


@functools.lru_cache(maxsize=1024)
def runs(units: int, workers: int, least: int = 1, group: int = 1) -> np.ndarray:
    """Where each run begins, and where the last one ends: [0, ..., units].

    Rounds of one equal run for every worker, each of three quarters of what is left, so that cores of one speed end together; where a
    round would make runs shorter than `least` units, what is left is dealt out equally.  Units of a group share what a run makes first, a
    packed panel: runs that are longer than a group are whole groups.

    S. F. Hummel, E. Schonberg and L. E. Flynn, "Factoring: a method for scheduling parallel loops", 1992.
    """
    ends = [0]
    while ends[-1] < units:
        start, left = ends[-1], units - ends[-1]
        now = left * 3 // 4 if left >= 4 * workers * least else left
        if now < left and now >= workers * group:
            now = (now + workers * group // 2) // (workers * group) * workers * group
        ends += [start + min(now, left) * (worker + 1) // workers for worker in range(workers)]
    return np.unique(ends) if units else np.array([0])


@intrinsic
def take(typing_context, address):
    """The int64 at the address, a counter: one more is left there, and no other thread gets the same."""

    def generate(context, builder, signature, arguments):
        counter = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), generate


@inline
def next_run(counters, which):
    """The number of the next run that nobody has taken."""
    return take(counters.ctypes.data + which * 64)


def counters() -> np.ndarray:
    """COUNTERS counters; a kernel clears them before its workers start."""
    return scratch("counters", 1, 16 * COUNTERS)[0, : 16 * COUNTERS].view(np.int64)


@inline
def clear(counters):
    for i in range(counters.size):
        counters[i] = 0
