"""Walks in the latent space: between two codes, along one latent, along an attribute."""

import math
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError


def lerp(a: Any, b: Any, t: Any) -> np.ndarray:
    """(1 - t) a + t b: the straight line.     a, b (..., K), t (S,) -> (..., S, K)

    Between independent draws of N(0, I) it leaves the places where such draws are: the squared norm of the midpoint is chi-squared over 2,
    K / 2 on average, where that of the ends is K.
    """
    a, b, t = _ends("lerp", a, b, t)
    return (1 - t) * a + t * b


def slerp(a: Any, b: Any, t: Any) -> np.ndarray:
    """[sin((1 - t) w) a + sin(t w) b] / sin w, w the angle between a and b: the arc of a great circle.     shapes as in lerp

    The norm stays where the ends have the same; else the squared norm at the middle is (|a|^2 + |b|^2 + 2 |a||b| cos w) / (2 + 2 cos w),
    at least |a||b|.  Where a and b have one direction it is the straight line.  Raises UsageError where one is 0, or they are opposite: no
    arc is then the one.

    K. Shoemake, "Animating rotation with quaternion curves", 1985; T. White, "Sampling generative networks", 2016
    """
    a, b, t = _ends("slerp", a, b, t)
    lengths = np.linalg.norm(a, axis=-1, keepdims=True), np.linalg.norm(b, axis=-1, keepdims=True)
    if not min(length.min(initial=math.inf) for length in lengths) > 0:
        raise UsageError("slerp: an end is 0, which has no direction; use lerp")
    u, v = a / lengths[0], b / lengths[1]
    # the angle by its half: arccos of the product loses small angles to rounding
    angle = 2 * np.arctan2(np.linalg.norm(u - v, axis=-1, keepdims=True), np.linalg.norm(u + v, axis=-1, keepdims=True))
    if (angle > math.pi - 1e-6).any():
        raise UsageError("slerp: two ends are opposite, and every great circle joins them; move one of them a little")
    # np.sinc(x) is sin(pi x) / (pi x), 1 at 0
    weights = (s * np.sinc(s * angle / math.pi) / np.sinc(angle / math.pi) for s in (1 - t, t))
    return next(weights) * a + next(weights) * b


def _ends(name: str, a: Any, b: Any, t: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b, t = np.asarray(a), np.asarray(b), np.asarray(t)
    if a.shape != b.shape or not a.ndim or t.ndim != 1:
        raise ShapeError(f"{name}: a is {a.shape}, b is {b.shape}, t is {t.shape}; need (..., K) twice and (S,)")
    return a[..., None, :], b[..., None, :], t[:, None]


def traversal(z: Any, latent: int, values: Any) -> np.ndarray:
    """The code with one latent set to each of the values, the others as they are.     z (..., K), values (S,) -> (..., S, K)

    I. Higgins et al., "beta-VAE", 2017, figure 2: from -3 to 3, the prior's standard deviations.
    """
    z, values = np.asarray(z), np.asarray(values)
    if not z.ndim or values.ndim != 1 or not -z.shape[-1] <= latent < z.shape[-1]:
        raise ShapeError(f"traversal: z is {z.shape}, latent is {latent}, values are {values.shape}; need (..., K), one of the K, (S,)")
    walk = np.repeat(z[..., None, :], len(values), axis=-2)
    walk[..., latent] = values
    return walk


def attribute_direction(codes: Any, holds: Any, groups: Any = None) -> np.ndarray:
    """The mean code where an attribute holds, less that where it does not: z + direction has more of it.     (N, K), (N,) bools -> (K,)

    groups    integers (N,), a class of each image: the difference is taken within each class and averaged, so that it does not hold what
              merely comes along with the attribute (ones lean more than others: their mean code is no slant).  A class all of one kind is
              left out

    A. B. L. Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016, section 4.2.
    """
    codes, holds = np.asarray(codes), np.asarray(holds, bool)
    groups = np.zeros(len(codes), np.int64) if groups is None else np.asarray(groups)
    if codes.ndim != 2 or holds.shape != codes.shape[:1] or groups.shape != holds.shape:
        raise ShapeError(f"attribute_direction: codes are {codes.shape}, holds {holds.shape}, groups {groups.shape}; need (N, K) and (N,)")
    both = [g for g in np.unique(groups) if 0 < holds[groups == g].mean() < 1]
    if not both:
        raise UsageError(f"attribute_direction: {holds.sum()} of {len(holds)} images have it; need some that do and some that do not")
    return np.mean([codes[(groups == g) & holds].mean(axis=0) - codes[(groups == g) & ~holds].mean(axis=0) for g in both], axis=0)
