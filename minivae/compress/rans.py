"""rANS: a stack of symbols in almost as few bits as their probabilities allow.

A state h holds the message so far as one large number.  A symbol that has `frequency` f of 2^r slots, from `start` c on, is pushed by

    h  <-  (h // f) 2^r + h % f + c            h grows by 2^r / f, its logarithm by log2(2^r / f) = -log2 p bits

and popped by the inverse: the slot h % 2^r lies in [c, c + f) of exactly one symbol, and h <- f (h // 2^r) + slot - c.  What was pushed
last is popped first.  So that h fits into 64 bits, 32 of them move to a list of words before they would overflow, and come back:

    h in [2^32, 2^64) before and after each symbol.          push: while h >= f 2^(64 - r), a word leaves.    pop: below 2^32, one comes

`LANES` states take turns, so that one core works on several at once; symbol number i of a call belongs to state i % LANES.

J. Duda, "Asymmetric numeral systems", 2009; the layout of craystack: J. Townsend, "A tutorial on the range variant of asymmetric numeral
systems", 2020.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError, ShapeError, UsageError
from ..kernels.cpu import rans as kernels

LANES = 4
LARGEST = 32  # bits of precision: one word more or less must bring a state back into its range
LOW = 1 << 32


class Stack:
    """A message: the states of its lanes (uint64), and the words that have left them (uint32), the last one on top.

    words     on which a message begins: bits to pop before any was pushed, as bits-back needs them
    """

    def __init__(self, words: Sequence[int] | np.ndarray = (), lanes: int = LANES):
        if lanes < 1:
            raise UsageError(f"Stack: lanes is {lanes}; need at least 1")
        self.heads = np.full(lanes, LOW, np.uint64)
        self.buffer = np.array(words, np.uint32)
        self.size = len(self.buffer)

    @property
    def bits(self) -> int:
        """The length of the message, 32 bits a word and 64 a state."""
        return 32 * self.size + 64 * len(self.heads)

    def words(self) -> np.ndarray:
        return self.buffer[: self.size].copy()

    def push(self, starts: Any, frequencies: Any, precision: int) -> None:
        """Put n symbols on the stack, the first one first.     starts, frequencies (n,) integers of 2^precision"""
        c, f = _integers("starts", starts), _integers("frequencies", frequencies)
        _check_precision(precision)
        if c.shape != f.shape:
            raise ShapeError(f"push: starts are {c.shape}, frequencies {f.shape}; need equal shapes (n,)")
        if c.size and (f.min() < 1 or c.min() < 0 or (c + f).max() > 1 << precision):
            raise UsageError(
                f"push: symbols lie in [{c.min()}, {(c + f).max()}) with frequencies from {f.min()} up; need frequencies of 1 or more "
                f"within [0, {1 << precision})"
            )
        if self.size + len(c) > len(self.buffer):  # a symbol moves at most one word
            grown = np.empty(max(2 * len(self.buffer), self.size + len(c)), np.uint32)
            grown[: self.size] = self.buffer[: self.size]
            self.buffer = grown
        self.size = int(kernels.push(self.heads, self.buffer, self.size, c, f, precision))

    def pop(self, cumulative: Any, precision: int) -> np.ndarray:
        """Take n symbols off, the last one first, and return them in the order of pushing.

        cumulative    (n, K + 1) integers, or (K + 1,) for n = 1: symbol k of row i has the slots [cumulative[i, k], cumulative[i, k + 1]).
                      A row begins with 0 and ends with 2^precision.
        Raises DataError where the message is too short, and leaves it as it was.
        """
        table = np.atleast_2d(_integers("cumulative", cumulative))
        _check_precision(precision)
        if table.ndim != 2 or table.shape[1] < 2:
            raise ShapeError(f"pop: cumulative is {table.shape}; need (n, K + 1), with a symbol at least")
        if (table[:, 0] != 0).any() or (table[:, -1] != 1 << precision).any() or (np.diff(table) < 0).any():
            raise UsageError(f"pop: each row of cumulative must rise from 0 to 2^{precision} = {1 << precision}")
        symbols, before = np.empty(len(table), np.int64), self.heads.copy()
        size = int(kernels.pop(self.heads, self.buffer, self.size, table, precision, symbols))
        if size < 0:
            self.heads = before
            raise DataError(f"the message ended before its {len(table)} symbols did: it was cut, or made for other probabilities")
        self.size = size
        return symbols


def _integers(name: str, values: Any) -> np.ndarray:
    a = np.asarray(values)
    if a.dtype.kind not in "iu" and a.size:
        raise UsageError(f"{name} are {a.dtype}; need integers")
    return np.ascontiguousarray(a, np.int64)


def _check_precision(precision: int) -> None:
    if not 1 <= precision <= LARGEST:
        raise UsageError(f"the precision is {precision} bits; need 1 to {LARGEST}")


def push_reference(h: int, words: list[int], start: int, frequency: int, precision: int) -> int:
    """One symbol onto one state, in integers of any size, written to be read.  Returns the new state."""
    if h >= frequency << (64 - precision):
        words.append(h % LOW)
        h //= LOW
    return (h // frequency << precision) + h % frequency + start


def pop_reference(h: int, words: list[int], cumulative: Sequence[int], precision: int) -> tuple[int, int]:
    """The inverse: (the new state, the symbol)."""
    slot = h % (1 << precision)
    symbol = next(k for k in range(len(cumulative) - 1) if cumulative[k] <= slot < cumulative[k + 1])
    h = (cumulative[symbol + 1] - cumulative[symbol]) * (h >> precision) + slot - cumulative[symbol]
    if h < LOW:
        h = h * LOW + words.pop()
    return h, symbol
