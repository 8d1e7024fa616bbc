"""How alike do two pictures look?  Structural similarity at one scale and at five, and how much a picture shows of 8x8 blocks."""

from typing import Any

import numpy as np

from ..errors import ShapeError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first; the published ones add up to 1.0001
WINDOW, SIGMA = 11, 1.5
STABLE = 0.01, 0.03


def ssim(x: Any, y: Any, peak: float = 1.0) -> float:
    """The mean over windows of

        (2 m_x m_y + c_1) / (m_x^2 + m_y^2 + c_1)  *  (2 s_xy + c_2) / (s_x^2 + s_y^2 + c_2),    c_i = (0.01 peak)^2, (0.03 peak)^2

    with moments by an 11x11 Gaussian of sigma 1.5, windows inside the picture alone, the biased variance, and then over channels; 1 for
    equal pictures.     (H, W, C) or (H, W), values up to `peak`

    Raises ShapeError.   Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, eq. 13"""
    x, y = _pair("ssim", x, y, WINDOW)
    luminance, contrast = _maps(x, y, peak)
    return float((luminance * contrast).mean())


def ms_ssim(x: Any, y: Any, peak: float = 1.0) -> float:
    """prod_i relu(mean contrast_i)^w_i over the scales i = 1 ... 5, with the luminance in the last one; the mean over channels.

    A scale is the one before, of which 2x2 pixels are averaged.  Sides are cut to multiples of 16, so that nothing is left over on the way
    (libraries differ in what they do with it), and need more than 160 pixels then.     (H, W, C) or (H, W), values up to `peak`

    Raises ShapeError.   Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity", 2003, eq. 7; where a mean is
    negative, no power of it exists, and 0 stands for it."""
    x, y = _pair("ms_ssim", x, y, WINDOW * 16)
    height, width = (n // 16 * 16 for n in x.shape[:2])
    x, y = x[:height, :width], y[:height, :width]
    product = np.ones(x.shape[2])
    for i, weight in enumerate(WEIGHTS):
        luminance, contrast = _maps(x, y, peak)
        mean = (luminance * contrast if i == len(WEIGHTS) - 1 else contrast).mean(axis=(0, 1))
        product *= np.maximum(mean, 0) ** weight
        x, y = _halved(x), _halved(y)
    return float(product.mean())


def blocking(x: Any, block: int = 8) -> float:
    """The mean |difference of neighbouring pixels| across the edges of blocks over that elsewhere; 1 where blocks do not show.

    Neighbours along each axis, in the mean of the channels; of a picture of one colour it is 1.     (H, W, C) or (H, W)

    Raises ShapeError."""
    x = np.asarray(x, np.float64)
    if x.ndim not in (2, 3) or min(x.shape[:2]) <= block or block < 2:
        raise ShapeError(f"blocking: the picture is {x.shape}, blocks have {block} pixels; need (H, W, C) or (H, W), sides above {block}")
    gray = x.mean(axis=2) if x.ndim == 3 else x
    sums, counts = np.zeros(2), np.zeros(2)
    for plane in (gray, gray.T):
        steps = abs(np.diff(plane, axis=0)).sum(axis=1)  # step i lies between rows i and i + 1
        edge = np.arange(1, len(steps) + 1) % block == 0
        sums += steps[edge].sum(), steps[~edge].sum()
        counts += edge.sum() * plane.shape[1], (~edge).sum() * plane.shape[1]
    at_edges, elsewhere = sums / counts
    return 1.0 if at_edges == elsewhere == 0 else float("inf") if elsewhere == 0 else float(at_edges / elsewhere)


def _pair(name: str, x: Any, y: Any, side: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim not in (2, 3) or min(x.shape) < 1:
        raise ShapeError(f"{name}: the pictures are {x.shape} and {y.shape}; need equal shapes (H, W, C) or (H, W)")
    if min(x.shape[:2]) < side:
        raise ShapeError(
            f"{name}: the pictures are {x.shape[0]}x{x.shape[1]}; need {side} pixels a side, for windows of {WINDOW} at each scale"
        )
    return (x[..., None], y[..., None]) if x.ndim == 2 else (x, y)


def _maps(x: np.ndarray, y: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of each window.     (H, W, C) -> (H - 10, W - 10, C)"""
    c_1, c_2 = ((k * peak) ** 2 for k in STABLE)
    mx, my = _blurred(x), _blurred(y)
    vx, vy, vxy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my, _blurred(x * y) - mx * my
    return (2 * mx * my + c_1) / (mx * mx + my * my + c_1), (2 * vxy + c_2) / (vx + vy + c_2)


def _blurred(x: np.ndarray) -> np.ndarray:
    """By the Gaussian window, one axis after the other, inside the picture."""
    w = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    w /= w.sum()
    rows = x.shape[0] - WINDOW + 1
    x = sum((w[k] * x[k : k + rows] for k in range(1, WINDOW)), w[0] * x[:rows])
    columns = x.shape[1] - WINDOW + 1
    return sum((w[k] * x[:, k : k + columns] for k in range(1, WINDOW)), w[0] * x[:, :columns])


def _halved(x: np.ndarray) -> np.ndarray:
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4 if not (x.shape[0] % 2 or x.shape[1] % 2) else x
