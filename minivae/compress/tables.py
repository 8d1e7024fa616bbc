"""Functions of which every machine makes the same bits: exp, sigmoid, the normal distribution function and its inverse.

The exp of a C library may differ from that of another in its last bit, and one bit is enough to make a message unreadable.  These are made
of + - * / alone, on float64, which IEEE 754 rounds in one way, and of sums in a fixed order; they are accurate to some units of rounding.
What the coder reads are tables of them, rounded to integers, on a grid of STEP.
"""

import functools

import numpy as np

STEP = 8  # bits: tables have 2^8 entries a unit of their argument
UNIT = 30  # bits of the values of a distribution function in a table
POSITION = 16  # bits behind the point of latents, and of pixels on the range from 0 to 1
NORMAL_END, LOGISTIC_END = 8, 24  # beyond +-these the distribution functions are 0 and 1
LOG_2 = 0.6931471803691238, 1.9082149292705877e-10  # its first 32 bits, and the rest: k times the first is exact


def exp(x: np.ndarray) -> np.ndarray:
    """2^k e^r, r = x - k log 2 within +-0.35, by 16 terms of its series."""
    x = np.asarray(x, np.float64)
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * LOG_2[0]) - k * LOG_2[1]
    total = np.ones_like(r)
    for n in range(16, 0, -1):
        total = 1 + total * (r / n)
    return np.ldexp(total, k.astype(np.int64))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)"""
    e = exp(-abs(np.asarray(x, np.float64)))
    return np.where(np.asarray(x) >= 0, 1 / (1 + e), e / (1 + e))


def tanh(x: np.ndarray) -> np.ndarray:
    return 2 * sigmoid(2 * np.asarray(x, np.float64)) - 1


def softplus(x: np.ndarray) -> np.ndarray:
    """max(x, 0) + log(1 + e),  log(1 + e) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = e / (2 + e), at most 1/3"""
    x = np.asarray(x, np.float64)
    e = exp(-abs(x))
    s = e / (2 + e)
    total = np.zeros_like(s)
    for n in range(37, 0, -2):
        total = 1 / n + s * s * total
    return np.maximum(x, 0) + 2 * s * total


def normal_cdf(t: np.ndarray) -> np.ndarray:
    """1/2 + phi(t) (t + t^3 / 3 + t^5 / (3 * 5) + ...) to 1e-15 for |t| <= 8    G. Marsaglia, "Evaluating the normal distribution", 2004"""
    t = np.asarray(t, np.float64)
    term, total = t.copy(), t.copy()
    for n in range(3, 301, 2):
        term = term * (t * t) / n
        total = total + term
    return 0.5 + 0.3989422804014327 * exp(-0.5 * t * t) * total


def _distribution(cdf: np.ndarray) -> np.ndarray:
    """As integers of 2^-UNIT, from 0 to 2^UNIT; the last stands twice, for who interpolates at the end."""
    table = np.rint(cdf * 2.0**UNIT).astype(np.int64)
    table[0], table[-1] = 0, 1 << UNIT
    return np.append(table, table[-1])


@functools.cache
def normal_table() -> np.ndarray:
    """2^UNIT Phi(t), t = -8 ... 8 in steps of 2^-STEP."""
    half = normal_cdf(np.arange(0, (NORMAL_END << STEP) + 1) / 2**STEP)
    return _distribution(np.concatenate([1 - half[:0:-1], half]))


@functools.cache
def logistic_table() -> np.ndarray:
    """2^UNIT sigmoid(t), t = -24 ... 24 in steps of 2^-STEP."""
    return _distribution(sigmoid(np.arange(-LOGISTIC_END << STEP, (LOGISTIC_END << STEP) + 1) / 2**STEP))


@functools.cache
def exp_table(low: int, high: int, bits: int | None = None) -> np.ndarray:
    """e^x, x = low ... high in steps of 2^-STEP: float64, or as integers of 2^-bits."""
    values = exp(np.arange(low << STEP, (high << STEP) + 1) / 2**STEP)
    return values if bits is None else np.rint(values * 2.0**bits).astype(np.int64)


@functools.cache
def bernoulli_table(end: int, precision: int) -> np.ndarray:
    """Of 2^precision slots, those of a one: 2^precision sigmoid(l), l = -end ... end in steps of 2^-STEP, and at least 1 of either."""
    slots = np.rint(sigmoid(np.arange(-end << STEP, (end << STEP) + 1) / 2**STEP) * 2.0**precision).astype(np.int64)
    return np.clip(slots, 1, (1 << precision) - 1)


@functools.cache
def normal_quantiles(bits: int) -> np.ndarray:
    """Phi^-1(i / 2^bits), i = 0 ... 2^bits, as integers of 2^-POSITION, rounded down; the ends, which are infinite, at -8 and 8.

    By halving the interval of integers: Phi is asked on the grid alone, and no rounding is left to chance.
    """
    half = 1 << (bits - 1)
    wanted = np.arange(half, 2 * half) / (2 * half)  # the upper half; the lower mirrors it
    low, high = np.zeros(half, np.int64), np.full(half, NORMAL_END << POSITION)
    for _ in range(POSITION + 4):
        middle = (low + high) // 2
        below = normal_cdf(middle / 2**POSITION) <= wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    upper = np.append(low, NORMAL_END << POSITION)
    return np.concatenate([-upper[:0:-1], upper])


def bin_edges(bits: int) -> np.ndarray:
    """Of 2^bits bins that N(0, 1) fills equally.     (2^bits + 1,)"""
    return normal_quantiles(bits)


def bin_centres(bits: int) -> np.ndarray:
    """The medians of the bins, Phi^-1((i + 1/2) / 2^bits).     (2^bits,)"""
    return normal_quantiles(bits + 1)[1::2].copy()
