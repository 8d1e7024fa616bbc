"""Judging colours that a model gave to gray images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError


def colourfulness(rgb: Any) -> np.ndarray:
    """sqrt(var rg + var yb) + 0.3 sqrt(mean rg^2 + mean yb^2), rg = R - G, yb = (R + G) / 2 - B, of sRGB from 0 to 255.

    Bytes, or floats in [0, 1]; (..., H, W, 3) -> (...).  People called pictures of 15 slightly, of 33 moderately, of 59 quite colourful.
    D. Hasler and S. Süsstrunk, "Measuring colourfulness in natural images", 2003, M^(3)"""
    rgb = np.asarray(rgb)
    if rgb.ndim < 3 or rgb.shape[-1] != 3:
        raise ShapeError(f"colourfulness: rgb is {rgb.shape}; need (..., H, W, 3)")
    r, g, b = np.moveaxis(rgb.astype(np.float64) * (1 if rgb.dtype == np.uint8 else 255), -1, 0)
    opponents = np.stack([r - g, (r + g) / 2 - b])
    spread, offset = opponents.var(axis=(-2, -1)), opponents.mean(axis=(-2, -1))
    return np.sqrt(spread.sum(axis=0)) + 0.3 * np.sqrt((offset**2).sum(axis=0))


def best_of(errors: Any, counts: Sequence[int]) -> np.ndarray:
    """The expected least error of k draws, for each k in counts, from S >= k of them.     errors (S, N) -> (len(counts), N)

    The mean over all choices of k of the S: sum_i e_(i) C(S - i, k - 1) / C(S, k), e_(1) <= ... <= e_(S) the errors in their order."""
    errors = np.sort(np.asarray(errors, np.float64), axis=0)
    draws = len(errors)
    if errors.ndim != 2 or not len(counts) or not 1 <= min(counts) <= max(counts) <= draws:
        raise UsageError(f"best_of: errors are {errors.shape}, counts {list(counts)}; need (S, N), and counts from 1 to S")
    shares = [[math.comb(draws - i, k - 1) / math.comb(draws, k) for i in range(1, draws + 1)] for k in counts]
    return np.array(shares) @ errors
