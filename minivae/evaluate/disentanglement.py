"""Is each known factor of the data in one latent, and each latent about one factor?  Scores of codes and factors that belong together.

Codes are (N, K): what the encoder makes of N images, as a rule the means of q(z | x).  Factors are (N, F) integers: what made the images,
drawn at random and independently.  A factor that does not vary is left out: it has no entropy that a latent could hold.  All scores are
0 to 1, 1 is best.  Those that choose their own images stand in interventions.py.

They disagree, and their estimates depend on N, on the number of bins and on the regressor: F. Locatello et al., "Challenging common
assumptions in the unsupervised learning of disentangled representations", 2019.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError
from ..random import Stream
from .forest import Forest, bootstraps

TREES = 10


def checked(codes: Any, factors: Any, categorical: Collection[int] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes as float64, the factors that vary, each counted from 0, and which are categorical.     -> (N, K), (N, G), (G,) bool"""
    codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.size:
        raise ShapeError(f"disentanglement: codes are {codes.shape}, factors are {factors.shape}; need (N, K) and (N, F), none of them 0")
    if factors.dtype.kind not in "iu":
        raise ShapeError(f"disentanglement: factors are {factors.dtype}; need integers")
    if not np.isfinite(codes).all():
        raise UsageError(f"disentanglement: {(~np.isfinite(codes)).sum()} of the codes are not finite; leave those images out")
    varying = np.flatnonzero(np.ptp(factors, axis=0)) if factors.size else np.zeros(0, int)
    if not len(varying):
        raise UsageError(f"disentanglement: none of the {factors.shape[1]} factors varies over the {len(factors)} images")
    counted = np.stack([np.unique(factors[:, j], return_inverse=True)[1] for j in varying], axis=1)
    if unknown := set(categorical) - set(range(factors.shape[1])):
        raise UsageError(f"disentanglement: categorical names the columns {sorted(unknown)} of {factors.shape[1]} factors")
    return codes, counted, np.isin(varying, list(categorical))


def discretized(code: np.ndarray, bins: int) -> np.ndarray:
    """A latent in cells of equal width; one with at most sqrt(N) different values is discrete already.     (N,) -> (N,) ints"""
    values, inverse = np.unique(code, return_inverse=True)
    if len(values) <= max(bins, math.isqrt(len(code))):
        return inverse
    return np.minimum((code - code.min()) / np.ptp(code) * bins, bins - 1).astype(np.intp)


def joint_counts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How often a = i and b = j.     (N,), (N,) -> (A, B)"""
    shape = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def entropy(counts: np.ndarray) -> float:
    """-sum p log p, in nats, of p = counts / sum"""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def mutual_information(codes: Any, factors: Any, bins: int = 20) -> np.ndarray:
    """I(z_i; v_j) = H(z_i) + H(v_j) - H(z_i, v_j) in nats, latents cut into bins.     -> (K, F)

    From counts: too high by about (bins - 1) (values - 1) / 2 N where nothing is shared.
    """
    codes, factors, _ = checked(codes, factors)
    information = np.zeros((codes.shape[1], factors.shape[1]))
    for i, code in enumerate(codes.T):
        cells = discretized(code, bins)
        for j, factor in enumerate(factors.T):
            table = joint_counts(cells, factor)
            information[i, j] = entropy(table.sum(axis=1)) + entropy(table.sum(axis=0)) - entropy(table)
    return information


def gaps(scores: np.ndarray) -> np.ndarray:
    """The best latent's score less the second best's; a single latent's is its score.     (K, F) -> (F,)"""
    ordered = np.sort(np.concatenate([np.zeros((1, scores.shape[1])), scores]), axis=0)
    return ordered[-1] - ordered[-2]


def mig(codes: Any, factors: Any, bins: int = 20) -> float:
    """Mutual information gap: 1/F sum_j (I(z_best; v_j) - I(z_second; v_j)) / H(v_j)

    Bins of equal width, 20 as is the custom: a factor of more values, in a latent that is not discrete, cannot reach 1.  The numbers of
    the paper are for codes drawn from q(z | x), not its means, and for the factors of dSprites without the shape.

    R. T. Q. Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018, eq. 6.
    """
    codes, factors, _ = checked(codes, factors)
    information = mutual_information(codes, factors, bins)
    return float(np.mean(gaps(information) / [entropy(np.bincount(factor)) for factor in factors.T]))


def sap(codes: Any, factors: Any, categorical: Collection[int] = (), bins: int = 20) -> float:
    """Separated attribute predictability: 1/F sum_j (S_best,j - S_second,j), S_ij how well latent i alone predicts factor j.

    S is the squared correlation; for the columns of factors named `categorical`, it is the balanced accuracy of the best label for each of
    the latent's bins.  Of C classes every latent names 1 / C by chance, so that such a factor adds at most 1 - 1 / C.

    A. Kumar, P. Sattigeri and A. Balakrishnan, "Variational inference of disentangled latent concepts", 2018, section 3.
    """
    codes, factors, named = checked(codes, factors, categorical)
    centred, targets = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    variance[np.ptp(codes, axis=0) == 0] = np.inf  # a constant predicts nothing, whatever rounding left of its variance
    scores = (centred.T @ targets / len(codes)) ** 2 / (variance[:, None] * (targets**2).mean(axis=0))
    for j in np.flatnonzero(named):
        for i, code in enumerate(codes.T):
            table = joint_counts(discretized(code, bins), factors[:, j])
            scores[i, j] = (table / table.sum(axis=0)).max(axis=1).sum() / table.shape[1]
    return float(gaps(scores).mean())


@dataclass(frozen=True)
class DCI:
    disentanglement: float  # is each latent about one factor only
    completeness: float  # is each factor in one latent only
    informativeness: float  # R^2 of the factors' prediction from all latents, on images not learned from
    importance: np.ndarray  # (K, F), of each latent for each factor; columns sum to 1


def dci(codes: Any, factors: Any, rng: Stream, categorical: Collection[int] = ()) -> DCI:
    """Importances by a random forest that predicts each factor from all latents, learned from three quarters of the images.

    A factor counts as a number, unless its column is named `categorical`.

    C. Eastwood and C. K. I. Williams, "A framework for the quantitative evaluation of disentangled representations", 2018, section 2.
    """
    codes, factors, named = checked(codes, factors, categorical)
    if len(codes) < 40:
        raise UsageError(f"dci: there are {len(codes)} images; need at least 40, to learn from 30 and to judge by 10")
    train, test = np.split(rng.permutation(len(codes)), [len(codes) * 3 // 4])
    weights = bootstraps(rng, TREES, len(train))  # the same for every factor, whose order then does not matter
    importance, explained = np.zeros((codes.shape[1], factors.shape[1])), []
    for j, factor in enumerate(factors.T):
        y = np.eye(factor.max() + 1)[factor] if named[j] else factor[:, None].astype(np.float64)
        forest = Forest(codes[train], y[train], weights)
        importance[:, j] = forest.importance
        error, spread = ((y[test] - guess) ** 2 for guess in (forest.predict(codes[test]), y[train].mean(axis=0)))
        explained.append(1 - error.sum() / (spread.sum() or 1))
    return DCI(*of_importance(importance), float(np.mean(explained)), importance)


def of_importance(importance: np.ndarray) -> tuple[float, float]:
    """sum_i rho_i (1 - H(row i) / log F), rho_i being the share of latent i in all importance, and 1/F sum_j 1 - H(column j) / log K.

    Disentanglement and completeness, from (K, F).  A latent or a factor without any importance counts as 0.
    """
    k, f = importance.shape
    share = importance.sum(axis=1) / (importance.sum() or 1)
    rows = [1 - entropy(row) / math.log(max(f, 2)) if row.any() else 0.0 for row in importance]
    columns = [1 - entropy(column) / math.log(max(k, 2)) if column.any() else 0.0 for column in importance.T]
    return float(share @ rows), float(np.mean(columns))
