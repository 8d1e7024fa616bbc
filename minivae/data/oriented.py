"""Which way the gray values of a picture rise, part by part: what is read in it is easier to read there than in the pixels."""

from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError

PART = 1000  # pictures at a time


def oriented_gradients(images: Any, bins: int = 8, cell: int = 4) -> np.ndarray:
    """Histograms of the directions of the gradients.     (N, H, W, 1) bytes or floats in [0, 1] -> (N, H / cell, W / cell, bins) float32

    A pixel's gradient is the difference of its neighbours, with zeros around the picture.  Its length is shared among the two nearest of
    `bins` directions, k / bins of a turn from right by down, and among the four nearest cells, linearly by its distance from each.  Then h
    becomes sqrt(h / root of the mean of h^2 over the picture): contrast does not count, and weak edges count more than they would.  A
    picture of zeros has zeros.  Raises ShapeError, UsageError.
    N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", 2005
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 1 or cell < 1 or images.shape[1] % cell or images.shape[2] % cell:
        raise ShapeError(f"oriented_gradients: images are {images.shape}, cell is {cell}; need (N, H, W, 1), H and W multiples of the cell")
    if bins < 2 or images.dtype.kind not in "uf":
        raise UsageError(f"oriented_gradients: bins is {bins}, images are {images.dtype}; need 2 bins or more, and bytes or floats")
    _, height, width, _ = images.shape
    rows, columns = (shares(n, cell) for n in (height, width))
    found = np.empty((len(images), height // cell, width // cell, bins), np.float32)
    for i in range(0, len(images), PART):
        x = np.pad(images[i : i + PART, :, :, 0].astype(np.float32), ((0, 0), (1, 1), (1, 1)))
        right, down = x[:, 1:-1, 2:] - x[:, 1:-1, :-2], x[:, 2:, 1:-1] - x[:, :-2, 1:-1]
        turn = np.arctan2(down, right)[..., None] * np.float32(bins / (2 * np.pi)) - np.arange(bins, dtype=np.float32)
        away = abs((turn + bins / 2) % bins - bins / 2)  # from each direction, in steps of one to the next
        each = np.hypot(right, down)[..., None] * np.maximum(0, 1 - away)  # (n, H, W, bins)
        h = np.einsum("ih,nhwb,jw->nijb", rows, each, columns, optimize=True)
        scale = np.sqrt((h**2).mean(axis=(1, 2, 3), keepdims=True))
        found[i : i + PART] = np.sqrt(np.divide(h, scale, out=np.zeros_like(h), where=scale > 0))
    return found


def shares(n: int, cell: int) -> np.ndarray:
    """What each of n pixels in a row gives to each cell: 1 at the cell's middle, and linearly less, 0 a cell away.     -> (n / cell, n)"""
    middles = (np.arange(n // cell) + 0.5) * cell - 0.5
    return np.maximum(0, 1 - abs(np.arange(n) - middles[:, None]) / cell).astype(np.float32)
