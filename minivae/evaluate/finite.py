"""What a diffusion would predict that knew its data by heart: the noise in z, if x is one of finitely many points, all equally likely."""

from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError
from .neighbours import rows


def best_noise(data: Any, z: Any, a: float, s: float) -> np.ndarray:
    """E[eps | z] = (z - a E[x | z]) / s  with  E[x | z] = sum_n x_n softmax_n(-|z - a x_n|^2 / 2 s^2),  for z = a x + s eps.

    data (M, ...), z (N, D) -> (N, D) float64.  No network predicts the noise in its training data better on average, and one that does as
    well draws nothing but its training data: -eps / s is the slope of the log-density of z, with M bumps.
    X. Gu et al., "On memorization in diffusion models", 2023, eq. 5
    """
    x, z = rows("best_noise", data), np.asarray(z, np.float64)
    if z.ndim != 2 or z.shape[1] != x.shape[1]:
        raise ShapeError(f"best_noise: z is {z.shape}, the data {x.shape}; need (N, {x.shape[1]})")
    if not s > 0:
        raise UsageError(f"best_noise: s is {s}; need a positive scale of noise")
    exponents = (z @ x.T * a - 0.5 * a * a * (x * x).sum(axis=1)) / s**2  # but for what all n share
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    mean = weights @ x / weights.sum(axis=1, keepdims=True)
    return (z - a * mean) / s
