"""Messages of many blocks side by side, and the noise that writer and reader make alike."""

import hashlib
import inspect
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import reference

LOW = 1 << 32  # the least that a state is
LONG = ("push_levels", "pop_levels")  # what takes so long that threads pay; the others are done before a thread has begun
TABLES = ("table",)  # among their arguments: the other arrays have a row for each block


class Group:
    """Blocks that are worked at together: an array of states, an array of their words, which grows."""

    def __init__(self, heads: np.ndarray, messages: Sequence[np.ndarray]):
        self.heads = heads.astype(np.uint64)
        self.sizes = np.array([len(m) for m in messages], np.int64)
        self.words = np.zeros((len(messages), int(self.sizes.max(initial=0)) + 64), np.uint32)
        for row, m in zip(self.words, messages, strict=True):
            row[: len(m)] = m
        self.lows = self.sizes.copy()

    def make_room(self, symbols: int) -> None:
        """For so many pushes: each moves one word at most."""
        needed = int(self.sizes.max()) + symbols
        if needed > self.words.shape[1]:
            self.words = np.concatenate(
                [self.words, np.zeros((len(self.words), max(needed - self.words.shape[1], needed)), np.uint32)], axis=1
            )

    def first(self, n: int) -> tuple[np.ndarray, ...]:
        """The states of the first n blocks, views."""
        return self.heads[:n], self.words[:n], self.sizes[:n]


class Shared:
    """A coder whose long functions share out the blocks to threads: where one thread has the networks' numbers of all of them."""

    def __init__(self, coder: Any, threads: int):
        self.coder, self.threads, self.pool = coder, threads, ThreadPoolExecutor(threads)

    def __getattr__(self, name: str) -> Callable[..., None]:
        function = getattr(self.coder, name)
        if name not in LONG:
            return function
        by_rows = [argument not in TABLES for argument in inspect.signature(getattr(reference, name)).parameters]

        def run(*arguments: Any) -> None:
            def part(rows: slice) -> None:
                function(*[a[rows] if own and isinstance(a, np.ndarray) else a for own, a in zip(by_rows, arguments, strict=True)])

            cuts = [len(arguments[0]) * i // self.threads for i in range(self.threads + 1)]
            list(self.pool.map(part, [slice(a, b) for a, b in itertools.pairwise(cuts) if a < b]))

        return run


def initial_words(block: int, count: int) -> np.ndarray:
    """Bits to begin with, noise that everybody can make: SHAKE-256 of the block's number."""
    return np.frombuffer(hashlib.shake_256(f"minivae initial bits {block}".encode()).digest(4 * count), "<u4")


def splitmix(x: np.ndarray) -> np.ndarray:
    """Noise of counters, uint64.    G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", 2014"""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def group_bits(group: Group) -> np.ndarray:
    """The length of each message, in bits: 32 a word, and log2 of the state."""
    return 32.0 * group.sizes + np.log2(group.heads.astype(np.float64))
