"""The area under the ROC curve: how often is a stranger's score above a normal one's?"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Auroc:
    """P(a stranger scores above a normal one) + 1/2 P(the two tie), as estimated from two samples."""

    value: float
    error: float  # its standard error, by DeLong; 0 where the two samples do not overlap
    low: float  # the interval that covers the truth in about 95% of all samples
    high: float
    normal: int  # how many scores of each there were
    strange: int

    def __str__(self) -> str:
        return f"{self.value:.3f} (95%: {self.low:.3f} to {self.high:.3f})"


def auroc(normal: Any, strange: Any) -> Auroc:
    """AUROC = 1/(M N) sum_mn [s_m > r_n] + 1/2 [s_m = r_n], the Mann-Whitney statistic, by midranks: O((M + N) log (M + N)).

    normal    (N,) scores r of what the model was trained on;  strange    (M,) scores s of what it was not: higher means stranger

    The standard error is that of E. R. DeLong et al., "Comparing the areas under two or more correlated ROC curves", 1988, eq. 2 to 5, ties
    included: the variance of the share of the other sample that each score beats.  The interval solves (theta - value)^2 = z^2 V(theta),
    with V of J. A. Hanley and B. J. McNeil, 1982, symmetrized: method 5 of R. G. Newcombe, "Confidence intervals for an effect size measure
    based on the Mann-Whitney statistic, part 2", 2006, which does not shrink to a point at 0 and 1.

    Raises ShapeError, UsageError.
    """
    r, s = scores("normal", normal), scores("strange", strange)
    N, M = len(r), len(s)
    both = midranks(np.concatenate([r, s]))
    beaten = (both[N:] - midranks(s)) / N  # (M,) the share of normal scores below each stranger's, ties by half
    beating = 1 - (both[:N] - midranks(r)) / M  # (N,) the share of strangers' above each normal one
    value = float(beaten.mean())
    error = float(np.sqrt(beaten.var(ddof=1) / M + beating.var(ddof=1) / N))
    return Auroc(value, error, *interval(value, N, M), N, M)


def interval(value: float, N: int, M: int, z: float = Z95) -> tuple[float, float]:
    """The least and the largest theta with (theta - value)^2 <= z^2 V(theta)."""
    half = (N + M) / 2 - 1

    def outside(theta: float) -> bool:
        spread = theta * (1 - theta) * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)) / (M * N)
        return (theta - value) ** 2 > z * z * spread

    def edge(end: float) -> float:
        inside, out = value, end
        if not outside(end):
            return end
        for _ in range(60):  # bisection, to rounding
            middle = (inside + out) / 2
            inside, out = (inside, middle) if outside(middle) else (middle, out)
        return inside

    # V is 0 at both ends, where only a value that is there itself is inside
    return (0.0 if value == 0 else edge(0.0)), (1.0 if value == 1 else edge(1.0))


def midranks(values: np.ndarray) -> np.ndarray:
    """1 for the smallest; those that tie share the mean of their ranks.     (N,) -> (N,)"""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def scores(name: str, values: Any) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) < 2:
        raise ShapeError(f"auroc: {name} scores are {found.shape}; need (N,) with N at least 2")
    if np.isnan(found).any():
        raise UsageError(
            f"auroc: {int(np.isnan(found).sum())} of {len(found)} {name} scores are NaN, which is neither high nor low; leave them out"
        )
    return found
