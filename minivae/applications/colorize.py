"""Colours for gray images: z ~ p(z | L), chroma by p(a, b | z, L); each z is another colouring of the same image.

The model is a conditional VAE of the chroma of images (models.CVAE, image_shape (h, w, 2): a* and b* over 110) whose condition is their
lightness (L* / 100, f h by f w numbers), as data.colour.lightness_and_chroma makes both.  Its likelihood is gaussian or laplace.

A. Deshpande et al., "Learning diverse image colorization", 2017
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..data.colour import coloured, lightness_of_gray
from ..errors import ShapeError, UsageError
from ..inference import decode_mean, sample_prior
from ..random import Stream


class Colourings(NamedTuple):
    """Several colourings of each of N gray images."""

    rgb: np.ndarray  # (samples, N, H, W, 3), in [0, 1]
    chroma: np.ndarray  # (samples, N, h, w, 2), a* and b* / 110, as the model says them
    outside: float  # the share of pixels whose colour sRGB lacks: they have less chroma, and the same L*


def colorize(model: Any, gray: Any, rng: Stream, samples: int = 5) -> Colourings:
    """Colourings of gray sRGB images, drawn independently.     gray (N, H, W) or (N, H, W, 1), bytes or floats in [0, 1]

    An image of another size than the model's condition is averaged to it (or stretched) for the model to see; its colours are interpolated
    to the image, whose own lightness is kept.  Raises ShapeError, UsageError."""
    height, width = condition_shape(model)
    gray = np.asarray(gray)
    gray = gray[..., None] if gray.ndim == 3 else gray
    if gray.ndim != 4 or gray.shape[3] != 1 or not len(gray) or samples < 1:
        raise ShapeError(f"colorize: gray is {gray.shape}, samples {samples}; need (N, H, W) or (N, H, W, 1), and 1 sample or more")
    if gray.dtype != np.uint8 and not (gray.dtype.kind == "f" and gray.min() >= 0 and gray.max() <= 1):
        raise UsageError(f"colorize: gray is {gray.dtype} from {gray.min()} to {gray.max()}; need bytes, or floats in [0, 1]")
    lightness = lightness_of_gray(gray)
    seen = averaged(averaged(lightness, 1, height), 2, width)
    condition = seen.reshape(len(seen), -1).astype(np.float32)
    chroma = np.stack([decode_mean(model, sample_prior(model, rng, len(seen), condition), condition) for _ in range(samples)])
    shown = coloured(lightness, chroma)
    return Colourings(shown.rgb, chroma, shown.outside)


def condition_shape(model: Any) -> tuple[int, int]:
    """Height and width of the lightness that a model is conditioned on."""
    shape, size = tuple(getattr(model, "image_shape", ())), int(getattr(model, "condition_size", 0))
    factor = math.isqrt(size // (shape[0] * shape[1])) if len(shape) == 3 else 0
    if not factor or shape[2] != 2 or factor**2 * shape[0] * shape[1] != size:
        raise UsageError(
            f"colorize: the model's data are {shape}, its condition has {size} numbers; need (h, w, 2), a* and b* / 110, and f^2 h w of "
            "them, L* / 100: train a CVAE on data.colour.lightness_and_chroma"
        )
    return factor * shape[0], factor * shape[1]


def averaged(a: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The means over `size` equal parts of an axis, cells cut where a part ends within one."""
    n = a.shape[axis]
    if n == size:
        return a
    edges = np.linspace(0, n, size + 1)
    whole = np.minimum(edges.astype(int), n - 1)
    before = np.concatenate([np.zeros_like(np.take(a, [0], axis), np.float64), np.cumsum(a, axis, dtype=np.float64)], axis)
    shape = [-1 if i == axis else 1 for i in range(a.ndim)]
    integral = np.take(before, whole, axis) + (edges - whole).reshape(shape) * np.take(a, whole, axis)
    return np.diff(integral, axis=axis) * (size / n)
