"""Philox4x32-10 in compiled code: the numbers of `minivae.random.Stream`, to the bit, and normal ones to a few ulp.

J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from typing import Any

import numba
import numpy as np

from ...errors import UsageError
from .elementwise import PARALLEL_FROM
from .jit import inline, kernel
from .vecmath import F, log_of_normal, plus, sincos2pi

U32, U64, I32 = np.uint32, np.uint64, np.int32
M0, M1 = U64(0xD2511F53), U64(0xCD9E8D57)
W0, W1 = U32(0x9E3779B9), U32(0xBB67AE85)
HALF = U64(32)
UNIT = F(2.0**-24)
TASK = 2_048  # blocks, or pairs of normal numbers, per parallel task


def words(key: int, counter: int, blocks: int) -> np.ndarray:
    """Words of the blocks counter ... counter + blocks - 1, modulo 2^64.   -> (4, blocks) uint32"""
    out = np.empty((4, _count(blocks)), U32)
    _run(_words, _words_parallel, blocks, _uint64(key), _uint64(counter), out)
    return out


def uniform(key: int, counter: int, n: int) -> np.ndarray:
    """n uniform numbers on [0, 1), multiples of 2^-24, from the blocks at `counter`, plane by plane.   -> (n,) float32"""
    blocks = -(-_count(n) // 4)
    out = np.empty((4, blocks), F)
    _run(_uniform, _uniform_parallel, blocks, _uint64(key), _uint64(counter), out)
    return out.reshape(-1)[:n]


def normal(key: int, counter: int, n: int) -> np.ndarray:
    """n standard normal numbers, sqrt(-2 log(1 - u)) (cos, sin)(2 pi v), first the cosines.   -> (n,) float32

    u and v are the halves of uniform(key, counter, 2 ceil(n / 2)); so the blocks at `counter` and the ceil(n / 4) - 1 that follow are used.
    """
    pairs = -(-_count(n) // 2)
    if n < PARALLEL_FROM:  # one call does both steps
        numbers = np.empty(4 * -(-pairs // 2), F)
        _normal(_uint64(key), _uint64(counter), pairs, numbers)
        return numbers[:n]
    numbers = uniform(key, counter, 2 * pairs)
    _run(_box_muller, _box_muller_parallel, pairs, numbers[:pairs], numbers[pairs:])
    return numbers[:n]


@inline
def philox(c0, c1, c2, c3, k0, k1):
    """Four random words, a function of a 128-bit counter and a 64-bit key, least significant words first."""
    for _ in range(10):
        p0, p1 = M0 * U64(c0), M1 * U64(c2)
        c0, c1, c2, c3 = U32(U32(p1 >> HALF) ^ c1 ^ k0), U32(p1), U32(U32(p0 >> HALF) ^ c3 ^ k1), U32(p0)
        k0, k1 = U32(k0 + W0), U32(k1 + W1)
    return c0, c1, c2, c3


@inline
def block(key, number):
    """The words of one block of a stream: the upper half of its 128-bit counter is zero."""
    return philox(U32(number), U32(number >> HALF), U32(0), U32(0), U32(key), U32(key >> HALF))


@inline
def to_unit(word):
    """The 24 upper bits as a number on [0, 1)."""
    return F(I32(word >> U32(8))) * UNIT


@kernel
def _words(start, stop, key, counter, out):
    w0, w1, w2, w3 = out[0, start:stop], out[1, start:stop], out[2, start:stop], out[3, start:stop]
    for i in range(w0.size):
        w0[i], w1[i], w2[i], w3[i] = block(key, counter + U64(start + i))


@kernel
def _uniform(start, stop, key, counter, out):
    u0, u1, u2, u3 = out[0, start:stop], out[1, start:stop], out[2, start:stop], out[3, start:stop]
    for i in range(u0.size):
        w0, w1, w2, w3 = block(key, counter + U64(start + i))
        u0[i], u1[i], u2[i], u3[i] = to_unit(w0), to_unit(w1), to_unit(w2), to_unit(w3)


@kernel
def _box_muller(start, stop, u, v):
    u, v = u[start:stop], v[start:stop]
    for i in range(u.size):
        radius = np.sqrt(F(-2) * log_of_normal(plus(F(1), -u[i])))  # 1 - u is exact, and 2^-24 or more
        sine, cosine = sincos2pi(v[i])
        u[i], v[i] = radius * cosine, radius * sine


@kernel
def _normal(key, counter, pairs, out):
    planes = out.reshape(4, out.size // 4)
    _uniform(0, planes.shape[1], key, counter, planes)
    _box_muller(0, pairs, out[:pairs], out[pairs : 2 * pairs])


@kernel(parallel=True)
def _words_parallel(n, key, counter, out):
    for t in numba.prange((n + TASK - 1) // TASK):
        _words(t * TASK, min((t + 1) * TASK, n), key, counter, out)


@kernel(parallel=True)
def _uniform_parallel(n, key, counter, out):
    for t in numba.prange((n + TASK - 1) // TASK):
        _uniform(t * TASK, min((t + 1) * TASK, n), key, counter, out)


@kernel(parallel=True)
def _box_muller_parallel(n, u, v):
    for t in numba.prange((n + TASK - 1) // TASK):
        _box_muller(t * TASK, min((t + 1) * TASK, n), u, v)


def _run(serial: Any, parallel: Any, n: int, *others: Any) -> None:
    if n < PARALLEL_FROM // 4:
        serial(0, n, *others)
    else:
        parallel(n, *others)


def _uint64(number: int) -> np.uint64:
    return U64(number & 0xFFFFFFFFFFFFFFFF)


def _count(n: int) -> int:
    if n < 0:
        raise UsageError(f"{n} random numbers were asked for; need 0 or more")
    return n
