"""Adam over all parameters of a model in one call, though every gradient is an array of its own.

D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1; I. Loshchilov, F. Hutter, "Decoupled weight
decay regularization", ICLR 2019, algorithm 2.
"""

import functools
import operator
import weakref
from collections.abc import Sequence

import numba
import numpy as np

from ...errors import ShapeError
from .addresses import floats
from .elementwise import BLOCK, PARALLEL_FROM
from .jit import kernel
from .rows import FLOAT32
from .vecmath import F


def adam(
    p: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    gradients: Sequence[np.ndarray],
    offsets: "Sequence[int] | Places",
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    step: int = 1,
) -> None:
    """Step number `step` (from 1), in place:  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,
    p = (1 - lr weight_decay) p - lr (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps).

    p, m, v: (P,) float32, the parameters laid end to end; gradients[j], of any shape, belongs to p[offsets[j]:][:gradients[j].size].
    Who steps often passes the offsets as Places.
    """
    size = p.size
    for flat in (p, m, v):
        if flat.shape != (size,) or flat.dtype != F or not flat.flags.c_contiguous:
            raise ShapeError(f"adam: p, m, v are {p.shape}, {m.shape}, {v.shape}; need flat contiguous float32 arrays of one size")
    places = offsets if isinstance(offsets, Places) else Places(offsets)
    _copies, addresses, layout, tasks, numbers = places.of(gradients, size)
    rate, root = lr / (1 - beta1**step), (1 - beta2**step) ** -0.5
    run = _adam if numbers < PARALLEL_FROM else _adam_parallel
    run(addresses, layout, tasks, p, m, v, rate, beta1, beta2, root, eps, 1 - lr * weight_decay)


class Places:
    """Where gradients lie, and where what they move.  Arrays that come again, as a recording's do in every step, are looked at once."""

    def __init__(self, offsets: Sequence[int]):
        self.offsets = tuple(offsets)
        self.seen: list[weakref.ref] = []  # an array that is gone, though another may lie there now, was never the same
        self.found: tuple = ()

    def of(self, gradients: Sequence[np.ndarray], size: int) -> tuple:
        """(arrays that must live until the kernel has read them, addresses, and what `_layout` tells)"""
        seen = map(_living, self.seen)
        if self.found and len(self.seen) == len(gradients) and all(map(operator.is_, seen, gradients)):
            return (), *self.found
        plain = [type(g) is np.ndarray and g.dtype is FLOAT32 and g.flags.c_contiguous for g in gradients]
        held = [g if as_it_is else np.ascontiguousarray(g, F) for g, as_it_is in zip(gradients, plain, strict=True)]
        found = np.array([_address(g) for g in held], np.int64), *_layout(tuple([g.size for g in held]), self.offsets, size)
        self.seen, self.found = ([weakref.ref(g) for g in gradients], found) if all(plain) else ([], ())
        return held, *found


_living = operator.methodcaller("__call__")


@functools.lru_cache(maxsize=64)
def _layout(sizes: tuple[int, ...], offsets: tuple[int, ...], size: int) -> tuple[np.ndarray, int, int]:
    """(a row for every gradient: offset, size, number of its first task; the number of tasks; of numbers)."""
    table: list[tuple[int, int, int]] = []
    tasks = 0
    for n, offset in zip(sizes, offsets, strict=True):
        if offset < 0 or offset + n > size:
            raise ShapeError(f"adam: a gradient of {n} numbers at offset {offset} does not fit {size} parameters")
        table.append((offset, n, tasks))
        tasks += -(-n // BLOCK)
    return np.array(table, np.int64).reshape(-1, 3), tasks, sum(sizes)


def sum_of_squares(x: np.ndarray) -> float:
    """sum x^2 in float64, block by block in a fixed order, so that its bits do not depend on the number of threads."""
    x = np.ascontiguousarray(x, F).reshape(-1)
    if x.size < PARALLEL_FROM:
        return _sum_of_squares(x)
    return _sum_of_squares_parallel(x)


@kernel
def _address(g):
    return g.ctypes.data


TINY = np.float32(np.finfo(np.float32).tiny)  # 1.2e-38: numbers below it have fewer digits, and many processors are slow with them


@kernel
def _update(g, p, m, v, rate, beta1, beta2, root, eps, decay):
    """What would be less than TINY is 0.  The m of a unit that gets no gradient any more shrinks to 1e-45 in 900 steps and rounds to itself
    from then on: after 1,000 steps of a dense VAE one m in eighty is such a number."""
    rate, root, eps, decay = F(rate), F(root), F(eps), F(decay)
    b1, c1, b2, c2 = F(beta1), F(1 - beta1), F(beta2), F(1 - beta2)
    least = np.sqrt(TINY / max(c2, TINY))  # |g| whose c2 g^2 is TINY
    for i in range(g.size):
        mean = b1 * m[i] + c1 * g[i]
        square = F(0) if abs(g[i]) < least else g[i]
        mean_square = b2 * v[i] + c2 * (square * square)
        m[i] = F(0) if abs(mean) < TINY else mean
        v[i] = F(0) if mean_square < TINY else mean_square
        p[i] = decay * p[i] - rate * m[i] / (np.sqrt(v[i]) * root + eps)


@kernel
def _task(addresses, layout, t, p, m, v, rate, beta1, beta2, root, eps, decay):
    """Update the t-th block of numbers."""
    j = len(layout) - 1
    while layout[j, 2] > t:
        j -= 1
    offset, size, first = layout[j, 0], layout[j, 1], layout[j, 2]
    start = (t - first) * BLOCK
    stop = min(start + BLOCK, size)
    g = floats(addresses[j], size)
    a, b = offset + start, offset + stop
    _update(g[start:stop], p[a:b], m[a:b], v[a:b], rate, beta1, beta2, root, eps, decay)


@kernel
def _adam(addresses, layout, tasks, p, m, v, rate, beta1, beta2, root, eps, decay):
    for t in range(tasks):
        _task(addresses, layout, t, p, m, v, rate, beta1, beta2, root, eps, decay)


@kernel(parallel=True)
def _adam_parallel(addresses, layout, tasks, p, m, v, rate, beta1, beta2, root, eps, decay):
    for t in numba.prange(tasks):
        _task(addresses, layout, t, p, m, v, rate, beta1, beta2, root, eps, decay)


@kernel
def _block_sum(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@kernel
def _sum_of_squares(x):
    total = 0.0
    for t in range((x.size + BLOCK - 1) // BLOCK):
        total += _block_sum(x[t * BLOCK : (t + 1) * BLOCK])
    return total


@kernel(parallel=True)
def _sum_of_squares_parallel(x):
    parts = np.empty((x.size + BLOCK - 1) // BLOCK)
    for t in numba.prange(parts.size):
        parts[t] = _block_sum(x[t * BLOCK : (t + 1) * BLOCK])
    total = 0.0
    for t in range(parts.size):
        total += parts[t]
    return total
