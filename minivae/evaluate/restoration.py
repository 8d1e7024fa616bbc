"""How near is a restored image, and what do methods without a network reach?"""

from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError
from .neighbours import distances

PART = 1 << 20  # pixels that are compared at once


def psnr(restored: Any, truth: Any, peak: float = 1.0) -> float:
    """10 log10 peak^2 / MSE, decibels, the MSE over all pixels of all images: not the mean of each image's PSNR, which is larger, and
    infinite where one image is exact.     (N, ...), (N, ...)

    Raises ShapeError."""
    restored, truth = np.asarray(restored), np.asarray(truth)
    if restored.shape != truth.shape or not truth.size:
        raise ShapeError(f"psnr: restored is {restored.shape}, truth {truth.shape}; need equal shapes")
    a, b = restored.reshape(-1), truth.reshape(-1)
    parts = range(0, a.size, PART)  # a large picture's squares are not in memory all at once
    error = sum(float(((a[i : i + PART].astype(np.float64) - b[i : i + PART]) ** 2).sum()) for i in parts) / a.size
    return float("inf") if error == 0 else 10 * np.log10(peak**2 / error)


class GaussianImages:
    """Images as one Gaussian: the mean m and the covariance C of training images.  Its posterior means are linear: the best of all linear
    estimates (LMMSE).     (N, ...) floats"""

    def __init__(self, images: Any):
        images = np.asarray(images)
        if images.ndim < 2 or len(images) < 2 or images.dtype.kind != "f":
            raise ShapeError(f"GaussianImages: images are {images.dtype} {images.shape}; need 2 or more, floats (N, ...)")
        flat = images.reshape(len(images), -1).astype(np.float64)
        self.mean = flat.mean(axis=0)
        self.covariance = (flat - self.mean).T @ (flat - self.mean) / len(flat)

    def denoise(self, y: Any, sigma: float) -> np.ndarray:
        """m + C (C + sigma^2 I)^-1 (y - m), the Wiener filter.     (N, ...) -> (N, ...)"""
        flat = np.asarray(y, np.float64).reshape(len(y), -1)
        noisy = self.covariance + sigma**2 * np.eye(len(self.mean))
        return (self.mean + (flat - self.mean) @ np.linalg.solve(noisy, self.covariance)).reshape(np.shape(y))

    def inpaint(self, x: Any, known: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
        """m_m + C_mo (C_oo + ridge I)^-1 (x_o - m_o) where pixels are missing, one mask for all.     (N, *shape), bool (*shape)"""
        flat, o = np.array(x, np.float64).reshape(len(x), -1), np.asarray(known).reshape(-1)
        if o.shape != self.mean.shape or o.dtype != bool:
            raise ShapeError(f"GaussianImages.inpaint: known is {o.dtype}, {o.size} of {self.mean.size} pixels; need one bool mask for all")
        inner = self.covariance[np.ix_(o, o)] + ridge * np.eye(o.sum())
        flat[:, ~o] = self.mean[~o] + (flat[:, o] - self.mean[o]) @ np.linalg.solve(inner, self.covariance[np.ix_(o, ~o)])
        return flat.reshape(np.shape(x))


def neighbours_mean(x: Any, known: np.ndarray, images: Any, k: int = 10) -> np.ndarray:
    """Missing pixels from the mean of the k images that are nearest where all is known, one mask for all.     (N, *shape), bool (*shape)

    Raises ShapeError, UsageError."""
    x, images, o = np.array(x, np.float64), np.asarray(images), np.asarray(known).reshape(-1)
    if x.shape[1:] != images.shape[1:] or o.size != x[0].size or o.dtype != bool:
        raise ShapeError(
            f"neighbours_mean: x is {x.shape}, images {images.shape}, known {np.shape(known)}; need one shape, and a bool mask"
        )
    if not 1 <= k <= len(images):
        raise UsageError(f"neighbours_mean: k is {k} of {len(images)} images; need 1 <= k <= {len(images)}")
    flat, references = x.reshape(len(x), -1), images.reshape(len(images), -1)
    at = 0
    for part in distances(flat[:, o], references[:, o].astype(np.float64)):
        nearest = np.argpartition(part, k - 1, axis=1)[:, :k]
        for row in nearest:
            flat[at, ~o] = references[row][:, ~o].mean(axis=0, dtype=np.float64)
            at += 1
    return flat.reshape(x.shape)
