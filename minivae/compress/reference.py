"""The coder's inner loops in Python's integers, one message and one symbol at a time, written to be read.

The functions have the signatures of kernels/cpu/bits_back.py and make the same integers; the tests hold the two to it.  A message is a
state and a list of words; here they stand in arrays as there, one row a block.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from .rans import pop_reference, push_reference
from .tables import LOGISTIC_END, NORMAL_END, POSITION, STEP, UNIT

Slots = Callable[[int], int]  # the first slot of a symbol, and behind the last one 2^precision


class Message:
    """A row of the arrays as a state and a list of words."""

    def __init__(self, head: int, words: list[int]):
        self.head, self.words = head, words

    def push(self, symbol: int, slots: Slots, precision: int, noise: int = 0) -> None:
        start, frequency = slots(symbol), slots(symbol + 1) - slots(symbol)
        if frequency <= 0:
            raise IndexError("a symbol without a slot")
        self.head = push_reference(self.head, self.words, start, frequency, precision) ^ noise  # the slot is the state's last bits

    def pop(self, symbols: int, slots: Slots, precision: int, noise: int = 0) -> int:
        """By halving the interval of symbols in which the slot may lie."""
        self.head ^= noise
        slot, low, high = self.head % (1 << precision), 0, symbols
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if slots(middle) <= slot else (low, middle)
        self.head, _ = pop_reference(self.head, self.words, [0, slots(low), slots(low + 1)], precision)
        return low


def messages(heads: Any, words: Any, sizes: Any, lows: Any = None) -> Iterator[tuple[int, Message]]:
    """(row, message), written back after its turn; a message that ran out, IndexError, gets the size -1."""
    for b in range(len(heads)):
        if sizes[b] < 0:
            continue
        message = Message(int(heads[b]), Words(words[b, : sizes[b]].tolist()))
        yield b, message
        failed = message.words is None
        if failed:
            sizes[b] = -1
            continue
        heads[b], sizes[b] = message.head, len(message.words)
        words[b, : len(message.words)] = message.words
        if lows is not None:
            lows[b] = min(lows[b], message.words.low)  # type: ignore[attr-defined]


class Words(list):
    """Words, and the fewest that there have been."""

    def __init__(self, words: list[int]):
        super().__init__(words)
        self.low = len(words)

    def pop(self, *at: Any) -> int:
        word = super().pop(*at)
        self.low = min(self.low, len(self))
        return word


def attempt(message: Message, steps: Callable[[], None]) -> None:
    try:
        steps()
    except IndexError:
        message.words = None  # type: ignore[assignment]


def interpolated(table: Any, t: int, end: int) -> int:
    limit = end << 32
    t = min(max(t, -limit), limit) + limit
    i, part = t >> (32 - STEP), (t >> (16 - STEP)) & 0xFFFF
    return (int(table[i]) << 16) + (int(table[i + 1]) - int(table[i])) * part


def latent_slots(mean: int, inverse: int, edges: Any, table: Any, q: int, least: int = 0) -> Slots:
    """Of the bins, under N(mean, sigma^2): 2^q Phi((edge - mean) / sigma), rounded; and where `least` is 1, one slot more for each bin."""

    def slots(i: int) -> int:
        if i in (0, len(edges) - 1):
            return 0 if i == 0 else 1 << q
        if least:
            share = interpolated(table, (int(edges[i]) - mean) * inverse, NORMAL_END) >> 16
            return ((share * ((1 << q) - (len(edges) - 1))) >> UNIT) + i
        return (interpolated(table, (int(edges[i]) - mean) * inverse, NORMAL_END) + (1 << (UNIT + 15 - q))) >> (UNIT + 16 - q)

    return slots


def pop_latents(heads, words, sizes, lows, means, inverses, noise, edges, table, q, least, bins):
    for b, message in messages(heads, words, sizes, lows):

        def steps(b=b, message=message):
            for k in range(bins.shape[1]):
                slots = latent_slots(int(means[b, k]), int(inverses[b, k]), edges, table, q, least)
                bins[b, k] = message.pop(len(edges) - 1, slots, q, int(noise[b, k]))

        attempt(message, steps)


def push_latents(heads, words, sizes, means, inverses, noise, edges, table, q, least, bins):
    for b, message in messages(heads, words, sizes):

        def steps(b=b, message=message):
            for k in reversed(range(bins.shape[1])):
                slots = latent_slots(int(means[b, k]), int(inverses[b, k]), edges, table, q, least)
                message.push(int(bins[b, k]), slots, q, int(noise[b, k]))

        attempt(message, steps)


def push_uniform(heads, words, sizes, bins, p):
    for b, message in messages(heads, words, sizes):
        for k in range(bins.shape[1]):
            message.push(int(bins[b, k]), lambda i: i, p)


def pop_uniform(heads, words, sizes, bins, p):
    for b, message in messages(heads, words, sizes):

        def steps(b=b, message=message):
            for k in reversed(range(bins.shape[1])):
                bins[b, k] = message.pop(1 << p, lambda i: i, p)

        attempt(message, steps)


def binary_slots(ones: int, r: int) -> Slots:
    return lambda symbol: (0, (1 << r) - ones, 1 << r)[symbol]


def beta_binomial_slots(alpha: float, beta: float, r: int) -> Slots:
    """p(k) from the mode on both ways by p(k + 1) / p(k) = (n - k) (k + a) / (k + 1) (n - k - 1 + b), n = 255; each float as rounded."""
    turn = alpha + beta - 2.0
    top = int(min(max(math.ceil((255.0 * (alpha - 1.0) + 1.0 - beta) / turn), 0), 255)) if turn > 0 else 0
    weights = [0.0] * 256
    weights[top] = 1.0
    for k in range(top, 255):
        weights[k + 1] = weights[k] * (((255.0 - k) * (k + alpha)) / ((k + 1.0) * (254.0 - k + beta)))
    for k in range(top, 0, -1):
        weights[k - 1] = weights[k] * ((k * (255.0 - k + beta)) / ((256.0 - k) * (k - 1.0 + alpha)))
    total = 0.0
    for w in weights:
        total = total + w
    scale, below, starts = ((1 << r) - 256) / total, 0.0, []
    for k, w in enumerate(weights):
        starts.append(int(below * scale) + k)
        below = below + w
    starts.append(1 << r)
    return starts.__getitem__


def logistic_slots(mean: int, inverse: int, table: Any, r: int) -> Slots:
    """sigmoid((k - 1/2) / 255 - mean) / s) of 2^r - 256 slots, and one more a level."""

    def slots(k: int) -> int:
        if k in (0, 256):
            return 0 if k == 0 else 1 << r
        place = ((2 * k - 1) * (1 << POSITION) + 255) // 510
        share = interpolated(table, (place - mean) * inverse, LOGISTIC_END) >> 16
        return ((share * ((1 << r) - 256)) >> UNIT) + k

    return slots


def level_slots(first: Any, second: Any, kind: int, table: Any, r: int) -> Slots:
    return beta_binomial_slots(float(first), float(second), r) if kind == 0 else logistic_slots(int(first), int(second), table, r)


def push_binary(heads, words, sizes, ones, r, pixels):
    for b, message in messages(heads, words, sizes):
        for d in range(pixels.shape[1]):
            message.push(int(pixels[b, d]), binary_slots(int(ones[b, d]), r), r)


def pop_binary(heads, words, sizes, ones, r, pixels):
    for b, message in messages(heads, words, sizes):

        def steps(b=b, message=message):
            for d in reversed(range(pixels.shape[1])):
                pixels[b, d] = message.pop(2, binary_slots(int(ones[b, d]), r), r)

        attempt(message, steps)


def push_levels(heads, words, sizes, first, second, kind, table, r, pixels):
    for b, message in messages(heads, words, sizes):
        for d in range(pixels.shape[1]):
            message.push(int(pixels[b, d]), level_slots(first[b, d], second[b, d], kind, table, r), r)


def pop_levels(heads, words, sizes, first, second, kind, table, r, pixels):
    for b, message in messages(heads, words, sizes):

        def steps(b=b, message=message):
            for d in reversed(range(pixels.shape[1])):
                pixels[b, d] = message.pop(256, level_slots(first[b, d], second[b, d], kind, table, r), r)

        attempt(message, steps)
