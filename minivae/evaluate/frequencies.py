"""Do draws come as often as they should?  Pearson's chi-square test, and how many draws it takes for a wrong answer to be found out."""

import math
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError

LEAST = 5.0  # an expected count below which the statistic is not distributed as chi-square: W. G. Cochran, 1954


class ChiSquare(NamedTuple):
    statistic: float
    freedom: int
    p: float  # of a statistic at least as large, if the draws are as they should be


def chi_square(counts: Any, known: Any) -> ChiSquare:
    """sum_ck (n_ck - N_c p_ck)^2 / (N_c p_ck), N_c = sum_k n_ck, against chi-square of C (K - 1) degrees of freedom.     (C, K), (C, K)

    The counts of a row are those of N_c independent draws from p_c: K numbers of a known sum, so K - 1 are free.  Nothing is fitted to the
    counts, and rows are independent: their statistics and their degrees of freedom add up.  Raises UsageError.
    K. Pearson, 1900"""
    counts, known = np.asarray(counts, np.float64), probabilities(known)
    if counts.shape != known.shape or counts.min() < 0 or (counts != counts.round()).any():
        raise UsageError(f"chi_square: counts are {counts.shape}, the table is {known.shape}; need whole numbers from 0, and as many")
    expected = counts.sum(axis=1, keepdims=True) * known
    if expected.min() < LEAST:
        c, k = np.unravel_index(expected.argmin(), expected.shape)
        raise UsageError(f"chi_square: row {c} expects {expected.min():.3g} draws of {k}, and below {LEAST:g} p is wrong; take more draws")
    statistic, freedom = float(((counts - expected) ** 2 / expected).sum()), known.size - len(known)
    return ChiSquare(statistic, freedom, float(scipy_stats().chi2.sf(statistic, freedom)))


def draws_needed(known: Any, wrong: Any, shares: Any, level: float = 0.01, power: float = 0.99) -> int:
    """The least number of draws, in all rows together, by which `chi_square` rejects `wrong` with probability `power`.

    known    p (C, K), what is tested;  wrong    q (C, K), what the draws come from;  shares    (C,) of the draws that each row gets
    level    the probability to reject draws that are right

    The statistic of draws from q is taken for a gamma variable of its own mean and variance (`moments`), and there are so many draws that
    the table can be tested at all.  Raises UsageError."""
    known, wrong, shares = probabilities(known), probabilities(wrong, 0), np.asarray(shares, np.float64)
    if wrong.shape != known.shape or shares.shape != known.shape[:1] or shares.min() <= 0 or not 0 < level < power < 1:
        raise UsageError(
            f"draws_needed: tables are {known.shape} and {wrong.shape}, shares {shares}, level {level}, power {power}; "
            "need two of one shape, a positive share a row, and 0 < level < power < 1"
        )
    if (known == wrong).all():
        raise UsageError("draws_needed: the two tables are the same, and no number of draws tells them apart")
    stats, shares = scipy_stats(), shares / shares.sum()
    limit = stats.chi2.isf(level, known.size - len(known))

    def found_out(draws: int) -> bool:
        mean, variance = (sum(rows) for rows in zip(*map(moments, known, wrong, draws * shares), strict=True))
        return stats.gamma.sf(limit, mean**2 / variance, scale=variance / mean) >= power if variance > 0 else mean > limit

    low, high = 0, math.ceil((LEAST / (shares * known.min(axis=1))).max())
    while not found_out(high):
        low, high = high, 2 * high
    while low and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found_out(middle) else (middle, high)
    return high


def moments(p: np.ndarray, q: np.ndarray, n: float) -> tuple[float, float]:
    """Mean and variance of sum_k (n_k - n p_k)^2 / (n p_k) = 1/n sum_k n_k^2 / p_k - n, for n draws from q; exact, by factorial moments:
    E[n_j (n_j - 1) ... n_k (n_k - 1) ...], r and s factors, is n (n - 1) ... (r + s factors) q_j^r q_k^s."""
    first, second = (q / p).sum(), (q**2 / p).sum()
    two = n * (n - 1)
    three = two * (n - 2)
    square = three * (n - 3) * second**2 + 2 * three * second * first + two * first**2  # sum over j, k as if they always differed
    square += ((4 * three * q**3 + 6 * two * q**2 + n * q) / p**2).sum()  # and what n_k^4 has more
    mean = two * second + n * first
    return float(mean / n - n), float((square - mean**2) / n**2)


def probabilities(table: Any, least: float = np.finfo(np.float64).tiny) -> np.ndarray:
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or table.min() < least or abs(table.sum(axis=1) - 1).max() > 1e-9:
        raise UsageError(
            f"a table of probabilities is {table.shape}, its least {table.min()}, its rows add up to {table.sum(axis=-1)}; "
            f"need (C, K), {'positive' if least else 'none negative'}, rows of sum 1"
        )
    return table


def scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise UsageError('the chi-square test needs SciPy, which is not installed; pip install "minivae[evaluate]"') from None
    return stats
