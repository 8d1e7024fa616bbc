"""Judged by the neighbours: how near are made images to real ones, and how many of the real ones have made ones near?

Distances are Euclidean over all pixels, sqrt(sum (x - y)^2).  They forgive blur: a mean of similar images is nearer to each of them than
these are to each other.  A set of made images is to be compared with another made of the same data, and with real images held back.
"""

from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError

PART = 2**22  # distances at a time: 32 MiB


def nearest(images: Any, references: Any, k: int = 1) -> np.ndarray:
    """The distance from each image to the k-th nearest of the references.     (N, ...), (M, ...) -> (N,) float64

    Raises ShapeError, UsageError.
    """
    x, y = rows("nearest", images), rows("nearest", references)
    check(x, y, k, len(y))
    return np.concatenate([np.partition(part, k - 1, axis=1)[:, k - 1] for part in distances(x, y)])


def precision_coverage(made: Any, real: Any, k: int = 3) -> tuple[float, float]:
    """The share of made images within reach of a real one, and of real images with a made one in reach.     (N, ...), (M, ...)

    The reach of a real image is its distance to the k-th nearest of the others.  Precision says whether what is made looks real, coverage
    whether all kinds are made: one good image made again and again has precision 1 and next to no coverage.  N images of the real ones'
    density cover 1 - prod_{i=1}^k (M - i) / (M + N - i) on average: 1 - 2^-k for N = M.  Made ones that are blurred are nearer to all, and
    cover more.

    Precision: T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", 2019; coverage: M. F.
    Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020.  Both are here on pixels.
    Raises ShapeError, UsageError.
    """
    x, y = rows("precision_coverage", made), rows("precision_coverage", real)
    check(x, y, k, len(y) - 1)
    reached_by, covered = reached(x, y, nearest(y, y, k + 1))  # a member's own distance, 0, is the first
    return float((reached_by > 0).mean()), float(covered.mean())


def reached(x: np.ndarray, y: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of y have each of x in their reach (N,), and whether each of y has any (M,).     (N, D), (M, D), (M,)"""
    reached_by, covered = [], np.zeros(len(y), bool)
    for part in distances(x, y):
        within = part <= reach
        reached_by.append(within.sum(axis=1))
        covered |= within.any(axis=0)
    return np.concatenate(reached_by), covered


def distances(x: np.ndarray, y: np.ndarray) -> Any:
    """All distances, some rows at a time.     (N, D), (M, D) -> (n, M) each"""
    norms = np.einsum("md,md->m", y, y)
    for start in range(0, len(x), part_size(y)):
        part = x[start : start + part_size(y)]
        squares = np.einsum("nd,nd->n", part, part)[:, None] + norms - 2 * part @ y.T
        yield np.sqrt(np.maximum(squares, 0))  # of an image to itself, what rounding left


def part_size(y: np.ndarray) -> int:
    return max(PART // len(y), 1)


def rows(name: str, images: Any) -> np.ndarray:
    """(N, ...) floats -> (N, D) float64"""
    images = np.asarray(images)
    if images.ndim < 2 or images.size == 0 or images.dtype.kind != "f":
        raise ShapeError(f"{name}: images are {images.dtype} {images.shape}; need floats (N, ...), which data.to_float makes of bytes")
    return images.reshape(len(images), -1).astype(np.float64)


def check(x: np.ndarray, y: np.ndarray, k: int, most: int) -> None:
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"nearest: images have {x.shape[1]} numbers, those to compare with {y.shape[1]}; need as many")
    if not 1 <= k <= most:
        raise UsageError(f"nearest: k is {k}, of {len(x)} and {len(y)} images; need 1 <= k <= {most}")
