"""Judging sets of images beside a set of real ones: how sharp, how near, how many kinds.

None of these is a likelihood, and none is worth a thing by itself: beside each stands what held-out real images get, and all sets have
equal sizes.  Features are rows of numbers, a classifier's (inference.features) or the pixels themselves.
"""

from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError, UsageError
from ..random import Stream
from .neighbours import check, nearest, reached, rows


class Likeness(NamedTuple):
    """Four shares, of what is made and of what is real: see `likeness`."""

    precision: float
    recall: float
    density: float
    coverage: float


def sharpness(images: Any) -> float:
    """The mean over the images of the variance, over the pixels, of the discrete Laplacian
    x[i-1,j] + x[i+1,j] + x[i,j-1] + x[i,j+1] - 4 x[i,j], inside the image.     (N, H, W, C) floats -> a number

    Blur lowers it, noise raises it: images that are sharper than real ones are no better for it.
    J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000.
    """
    x = np.asarray(images)
    if x.ndim != 4 or min(x.shape[1:3]) < 3 or x.dtype.kind != "f" or not len(x):
        raise ShapeError(f"sharpness: images are {x.dtype} {x.shape}; need floats (N, H, W, C), H and W at least 3")
    x = x.astype(np.float64)
    laplacian = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] - 4 * x[:, 1:-1, 1:-1]
    return float(laplacian.var(axis=(1, 2)).mean())


def likeness(made: Any, real: Any, k: int = 5) -> Likeness:
    """Precision, recall, density and coverage, with the reach of each point its distance to the k-th nearest of its own set.

        precision   the share of made points within reach of a real one
        recall      the share of real points within reach of a made one
        density     how many real ones reach a made one, over k: 1 on average for equal densities, not bounded by 1
        coverage    the share of real points that have a made one in their own reach

    Made (N, ...) and real (M, ...) features.  Precision and recall: T. Kynkaanniemi et al. 2019; density and coverage: M. F. Naeem et al.,
    "Reliable fidelity and diversity metrics for generative models", 2020, eq. 5 and 7.  Raises ShapeError, UsageError.
    """
    x, y = rows("likeness", made), rows("likeness", real)
    check(x, y, k, min(len(x), len(y)) - 1)
    reached_by, covered = reached(x, y, nearest(y, y, k + 1))  # a member's own distance, 0, is the first
    recalled_by, _ = reached(y, x, nearest(x, x, k + 1))
    means = ((reached_by > 0).mean(), (recalled_by > 0).mean(), reached_by.mean() / k, covered.mean())
    return Likeness(*map(float, means))


def frechet_distance(made: Any, real: Any) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2), the squared Wasserstein distance of two Gaussians with the features' moments.

    (N, ...), (M, ...) -> a number, in squares of the features' unit.  It is 0 for equal sets; for two draws of one density about
    tr(S) (1/N + 1/M) and more, so that numbers of samples are to be equal, and told.
    D. C. Dowson and B. V. Landau 1982; M. Heusel et al., "GANs trained by a two time-scale update rule", 2017, on another network.
    """
    x, y = rows("frechet_distance", made), rows("frechet_distance", real)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ShapeError(f"frechet_distance: features are {x.shape} and {y.shape}; need as many of each, of at least 2 images")
    s1, s2 = (np.atleast_2d(np.cov(a, rowvar=False)) for a in (x, y))
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # a covariance has no negative eigenvalue but by rounding
    cross = np.linalg.eigvalsh(root @ s2 @ root)
    apart = x.mean(axis=0) - y.mean(axis=0)
    return float(apart @ apart + np.trace(s1) + np.trace(s2) - 2 * np.sqrt(np.maximum(cross, 0)).sum())


def stacked(images: Any, n: int, rng: Stream) -> np.ndarray:
    """Stacked digits: n images whose three channels are gray images drawn at random, 10^3 kinds of them.     (N, H, W, 1) -> (n, H, W, 3)

    L. Metz et al., "Unrolled generative adversarial networks", 2017, 3.3.1.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 1 or not len(images):
        raise ShapeError(f"stacked: images are {images.shape}; need gray ones, (N, H, W, 1)")
    at = np.minimum((rng.uniform((n, 3)) * len(images)).astype(np.int64), len(images) - 1)
    return np.stack([images[at[:, c], :, :, 0] for c in range(3)], axis=-1)


def mode_count(labels: Any, classes: int = 10) -> tuple[int, float]:
    """(modes that occur, KL of their frequencies from equal ones, in nats).     labels (N, digits) integers, of classes^digits modes

    N is to be told with it: of 26,000 samples of 1,000 equal modes none is missing, of 1,000 samples 37% are.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise UsageError(f"mode_count: labels are {labels.dtype} {labels.shape}; need integers (N, digits) from 0 to {classes - 1}")
    digits = labels.shape[1]
    counts = np.bincount(labels @ classes ** np.arange(digits), minlength=classes**digits)
    shares = counts[counts > 0] / len(labels)
    return int((counts > 0).sum()), float((shares * np.log(shares * classes**digits)).sum())
