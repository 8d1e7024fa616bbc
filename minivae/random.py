"""Philox4x32-10: random numbers as a pure function of (key, counter), the same uniforms on every backend and device.

A `Stream` is a key and a counter.  Block number c of a stream is four 32-bit words, philox(key, c); a draw of n float32 numbers
takes the next ceil(n / 4) blocks and lays their words out plane by plane: first word 0 of every block, then word 1, ...
Saving a stream is saving two integers; nothing is hidden, nothing is global.

J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import hashlib
import math
from contextvars import ContextVar
from typing import Any

import numpy as np

from .backend import Array, backend_of, cpu_backend, xp
from .errors import UsageError
from .kernels.cpu import philox
from .kernels.gpu import step

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
on_draw: ContextVar[Any] = ContextVar("on_draw", default=None)  # is told of every draw, while a step is captured
# stream -> (key, counter, step) as kernels/gpu/step.py takes them, while a step is captured on a GPU: there streams move on in its memory
place: ContextVar[Any] = ContextVar("place", default=None)


def philox_reference(counter: int, key: int, blocks: int) -> np.ndarray:
    """Words of the blocks counter ... counter + blocks - 1.   -> (4, blocks) uint32"""
    # 64-bit arithmetic modulo 2^64 carries the 32x32 -> 64 bit products; the 128-bit counter's upper half stays zero
    number = np.arange(blocks, dtype=np.uint64) + np.uint64(counter & (2**64 - 1))
    c0, c1 = number & MASK, number >> 32
    c2 = c3 = np.zeros_like(number)
    k0, k1 = key & MASK, key >> 32 & MASK
    for _ in range(10):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


class Stream:
    """A stream of random numbers: draws move `counter` on, and nothing else changes.

    `Stream(seed)` starts one; `split(name)` derives an independent one, so that e.g. the data order does not depend on how
    much noise the model drew.  Seeds and names of any length are hashed to the 64-bit key.
    """

    def __init__(self, seed: int):
        if seed < 0:
            raise UsageError(f"seed {seed} is negative; need an integer from 0 up")
        self.key = int.from_bytes(hashlib.sha256(f"minivae seed {seed}".encode()).digest()[:8], "little")
        self.counter = 0

    def split(self, name: str) -> "Stream":
        """An independent stream, a function of this stream's key and of the name alone."""
        child = Stream.__new__(Stream)
        child.key = int.from_bytes(hashlib.sha256(f"minivae split {self.key} {name}".encode()).digest()[:8], "little")
        child.counter = 0
        return child

    def state(self) -> dict[str, int]:
        return {"key": self.key, "counter": self.counter}

    def set_state(self, state: dict[str, int]) -> None:
        self.key, self.counter = int(state["key"]), int(state["counter"])

    def words(self, n: int, like: Array | None = None) -> Array:
        """The next n random 32-bit words, uint32.   -> (n,)"""
        blocks = -(-n // 4)
        if on_gpu := _is_on_gpu(like):
            key, counter, row = self._place()
            words = step.words(key, counter, n, row)
        else:
            _refuse_while_captured()
            words = philox_reference(self.counter, self.key, blocks)
        self.counter += blocks
        return words if on_gpu else words.reshape(-1)[:n]

    def uniform(self, shape: tuple[int, ...] | int, like: Array | None = None) -> Array:
        """Uniform on [0, 1), the multiples of 2^-24 (float32) or of 2^-53 (float64); dtype and device of `like`, default float32."""
        return self._drawn("_uniform", shape, like)

    def normal(self, shape: tuple[int, ...] | int, like: Array | None = None) -> Array:
        """Standard normal numbers by Box and Muller: sqrt(-2 log u) (cos, sin)(2 pi v); dtype and device of `like`, default float32."""
        return self._drawn("_normal", shape, like)

    def later(self, shape: tuple[int, ...], like: Array | None = None) -> Array:
        """`normal`, or on a GPU a promise of it, for an op whose kernel draws what it needs."""
        if not _is_on_gpu(like) or _is_double(like):
            return self.normal(shape, like)
        draw = step.Draw(*self._place()[:2], tuple(shape), self._place()[2])
        self.counter += step.normal_blocks(math.prod(shape))
        return draw

    def _drawn(self, method: str, shape: tuple[int, ...] | int, like: Array | None) -> Array:
        numbers = getattr(self, method)((shape,) if isinstance(shape, int) else tuple(shape), like)
        if (told := on_draw.get()) is not None:
            told(self, method, like, numbers)
        return numbers

    def _place(self) -> tuple[int, int, Array | None]:
        """Where the stream is, for the kernels of a GPU: key and counter, from its row in device memory on if it moves on there."""
        placed = place.get()
        return (self.key, self.counter, None) if placed is None else placed(self)

    def _uniform(self, shape: tuple[int, ...], like: Array | None) -> Array:
        n = math.prod(shape)
        if _is_on_gpu(like) and not _is_double(like):
            key, counter, row = self._place()
            u = step.uniform(key, counter, (n,), row)
            self.counter += step.uniform_blocks(n)
        elif _is_compiled(like):
            _refuse_while_captured()
            u = philox.uniform(self.key, self.counter, n)
            self.counter += -(-n // 4)
        elif _is_double(like):
            high, low = self.words(2 * n, like).reshape(2, n).astype(np.uint64)
            u = ((high << 21) | (low >> 11)).astype(np.float64) * 2.0**-53
        else:
            u = (self.words(n, like) >> 8).astype(np.float32) * np.float32(2.0**-24)
        return u.reshape(shape)

    def _normal(self, shape: tuple[int, ...], like: Array | None) -> Array:
        n = math.prod(shape)
        pairs = -(-n // 2)
        if _is_on_gpu(like) and not _is_double(like):
            key, counter, row = self._place()
            z = step.normal(key, counter, (n,), row)
            self.counter += step.normal_blocks(n)
            return z.reshape(shape)
        if _is_compiled(like):
            _refuse_while_captured()
            z = philox.normal(self.key, self.counter, n)
            self.counter += -(-2 * pairs // 4)
            return z.reshape(shape)
        u, v = self._uniform((2, pairs), like)
        module = xp(u)
        radius = module.sqrt(-2 * module.log1p(-u))  # 1 - u is in (0, 1]: never log 0
        angle = u.dtype.type(2 * math.pi) * v
        return module.concatenate([radius * module.cos(angle), radius * module.sin(angle)])[:n].reshape(shape)

    def permutation(self, n: int) -> np.ndarray:
        """A random order of 0 ... n - 1 (int64): the ranks of n 64-bit words, ties (chance < n^2 / 2^65) by position."""
        high, low = self.words(2 * n).reshape(2, n).astype(np.uint64)
        return np.argsort((high << np.uint64(32)) | low, kind="stable")


def _is_double(like: Array | None) -> bool:
    return like is not None and like.dtype in (np.float64, np.complex128)


def _is_on_gpu(like: Array | None) -> bool:
    return like is not None and type(like) is not np.ndarray and backend_of(like) == "cupy"


def _is_compiled(like: Array | None) -> bool:
    return not _is_on_gpu(like) and cpu_backend() == "numba" and (like is None or like.dtype == np.float32)


def _refuse_while_captured() -> None:
    if place.get() is not None:
        raise UsageError("it draws random numbers on the CPU, and a graph would repeat them; draw like an array of the GPU")
