"""Disentanglement by experiment: hold one factor, let the others vary, and see which latent stands still.

`represent` maps factors to codes, (N, F) ints -> (N, K): draw the images that have these factors, encode them, take the means.
`sizes` are the numbers of values of the F factors; those with one value are never held.  Scores are accuracies: 1 is best, chance is
one over the number of factors that vary.  More images make them more exact; they are drawn from `rng`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError
from ..random import Stream
from .minimum import minimum

Represent = Callable[[np.ndarray], Any]


def draw_factors(rng: Stream, n: int, sizes: Sequence[int]) -> np.ndarray:
    """Independent and uniform.     -> (n, F) int64"""
    return (rng.uniform((n, len(sizes))).astype(np.float64) * np.asarray(sizes)).astype(np.int64)


def beta_vae_score(represent: Represent, sizes: Sequence[int], rng: Stream, train: int = 1000, test: int = 500, pairs: int = 64) -> float:
    """How often a linear classifier names the factor that pairs of images share, from the mean over `pairs` of |z_1 - z_2|.

    Encodes 2 pairs (train + test) images.  It is 1 also where one factor is missing from the codes: all differences then tell that one.

    I. Higgins et al., "beta-VAE: learning basic visual concepts with a constrained variational framework", 2017, section 3.
    """
    held = varying(sizes, train, test, pairs)
    labels = draw_factors(rng, train + test, [len(held)])[:, 0]
    points = []
    for label in labels:
        factors = draw_factors(rng, 2 * pairs, sizes)
        factors[:pairs, held[label]] = factors[pairs:, held[label]]
        codes = encoded(represent, factors)
        points.append(abs(codes[:pairs] - codes[pairs:]).mean(axis=0))
    x = np.array(points)
    shift, spread = x[:train].mean(axis=0), x[:train].std(axis=0)
    x = np.where(spread > 0, (x - shift) / np.where(spread > 0, spread, 1), 0)
    weights = softmax_regression(x[:train], labels[:train], len(held))
    return float(np.mean((with_one(x[train:]) @ weights).argmax(axis=1) == labels[train:]))


def factor_vae_score(
    represent: Represent, sizes: Sequence[int], rng: Stream, train: int = 800, test: int = 800, images: int = 64, scale_images: int = 5000
) -> float:
    """How often a majority vote names the factor that `images` images share, from the index of the latent that varies least.

    The variances are relative to those over `scale_images` random images; a latent that never varies is out of the running.

    H. Kim and A. Mnih, "Disentangling by factorising", 2018, section 4.
    """
    held = varying(sizes, train, test, images)
    overall = encoded(represent, draw_factors(rng, scale_images, sizes)).var(axis=0)
    labels = draw_factors(rng, train + test, [len(held)])[:, 0]
    stillest = np.zeros(train + test, np.int64)
    for n, label in enumerate(labels):
        factors = draw_factors(rng, images, sizes)
        factors[:, held[label]] = factors[0, held[label]]
        variance = encoded(represent, factors).var(axis=0)
        stillest[n] = np.where(overall > 0, variance / np.where(overall > 0, overall, 1), np.inf).argmin()
    votes = np.zeros((len(overall), len(held)), np.int64)
    np.add.at(votes, (stillest[:train], labels[:train]), 1)
    return float((votes.argmax(axis=1)[stillest[train:]] == labels[train:]).mean())


def varying(sizes: Sequence[int], *counts: int) -> np.ndarray:
    """Which factors can be held."""
    held = np.flatnonzero(np.asarray(sizes) > 1)
    if not len(held) or min(sizes) < 1:
        raise UsageError(f"disentanglement: the factors have {list(sizes)} values; need at least 1 each, and one factor with 2")
    if min(counts) < 2:
        raise UsageError(f"disentanglement: the numbers of points and images are {counts}; need at least 2 each")
    return held


def encoded(represent: Represent, factors: np.ndarray) -> np.ndarray:
    codes = np.asarray(represent(factors), np.float64)
    if codes.ndim != 2 or len(codes) != len(factors):
        raise ShapeError(f"disentanglement: represent made {codes.shape} of factors {factors.shape}; need ({len(factors)}, K)")
    if not np.isfinite(codes).all():
        raise UsageError(f"disentanglement: {(~np.isfinite(codes)).sum()} of {codes.size} codes are not finite")
    return codes


def with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def softmax_regression(x: np.ndarray, labels: np.ndarray, classes: int, ridge: float = 1e-3) -> np.ndarray:
    """W that minimises mean -log softmax(W'[x, 1])_label + ridge/2 |W|^2.     (N, K), (N,) -> (K + 1, classes)

    The ridge keeps W finite where the classes can be separated.
    """
    x, target = with_one(x), np.eye(classes)[labels]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w = theta.reshape(x.shape[1], classes)
        scores = x @ w
        top = scores.max(axis=1, keepdims=True)
        log_p = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        gradient = x.T @ (np.exp(log_p) - target) / len(x) + ridge * w
        return -(log_p * target).sum() / len(x) + ridge / 2 * (w * w).sum(), gradient.reshape(-1)

    return minimum(loss, np.zeros(x.shape[1] * classes), 1e-7)[1].reshape(x.shape[1], classes)
