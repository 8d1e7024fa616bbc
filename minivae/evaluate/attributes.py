"""Attributes that can be measured in a picture of strokes, without labels: how it leans, and how thick they are."""

import numpy as np

from ..errors import ShapeError


def slant(images: np.ndarray) -> np.ndarray:
    """By how many columns the ink moves to the right, a row up: -cov(column, row) / var(row), weighted by ink.     (N, H, W, C) -> (N,)

    The tangent of the angle against the vertical: the shear that would set a stroke upright.  0 for a picture without ink, or of one row.
    """
    ink = _ink(images)
    total = np.maximum(ink.sum(axis=(1, 2)), 1e-12)
    row, column = np.arange(ink.shape[1], dtype=np.float64), np.arange(ink.shape[2], dtype=np.float64)
    by_row, by_column = ink.sum(axis=2), ink.sum(axis=1)
    dy = row - (by_row @ row / total)[:, None]
    dx = column - (by_column @ column / total)[:, None]
    variance = (by_row * dy * dy).sum(axis=1)
    return -np.einsum("nhw,nh,nw->n", ink, dy, dx) / np.maximum(variance, 1e-12)


def thickness(images: np.ndarray) -> np.ndarray:
    """Twice the ink over the length of its outline, in pixels.     (N, H, W, C) -> (N,)

    A stroke of length L and thickness w has the area w L and, its ends apart, the outline 2 L.  The length of the outline is the total
    variation, the sum of the gradient's norm in each square of four pixels: gray or blurred edges count as sharp ones do, and faint ink as
    black, so that a stroke thinner than the pixels it touches counts as faint and as wide as they are.  0 without ink.
    """
    ink = np.pad(_ink(images), ((0, 0), (1, 1), (1, 1)))
    dy, dx = np.diff(ink, axis=1), np.diff(ink, axis=2)
    outline = np.hypot(dy[:, :, 1:] + dy[:, :, :-1], dx[:, 1:] + dx[:, :-1]).sum(axis=(1, 2)) / 2
    return 2 * ink.sum(axis=(1, 2)) / np.maximum(outline, 1e-12)


def _ink(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) -> (N, H, W), the mean over the channels"""
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise ShapeError(f"attributes: images are {images.shape}; need (N, H, W, C), none of them 0")
    return images.mean(axis=-1, dtype=np.float64)
