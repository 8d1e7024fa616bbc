"""Masks by name: True where a pixel is known."""

from collections.abc import Callable

import numpy as np

from ..errors import ShapeError, UsageError
from ..random import Stream


def _centre(h: int, w: int) -> tuple[slice, slice]:
    return slice(h // 4, h // 4 + h // 2), slice(w // 4, w // 4 + w // 2)


MASKS: dict[str, Callable[[int, int], tuple[slice, slice]]] = {  # the part of the image that is missing
    "bottom": lambda h, w: (slice(h // 2, h), slice(0, w)),
    "top": lambda h, w: (slice(0, h // 2), slice(0, w)),
    "left": lambda h, w: (slice(0, h), slice(0, w // 2)),
    "right": lambda h, w: (slice(0, h), slice(w // 2, w)),
    "centre": _centre,
}


def named_mask(name: str, shape: tuple[int, ...], rng: Stream) -> np.ndarray:
    """The half called bottom, top, left or right is missing; of "centre" the middle quarter; of "80%" so many pixels, at random, all
    channels of one at once, the same in all images.     shape (N, H, W, C) -> bool (H, W, C), True where known

    Raises ShapeError, UsageError."""
    if len(shape) != 4:
        raise ShapeError(f"a mask called {name} is one of images, and these are {shape}; give an array")
    _, h, w, c = shape
    known = np.ones((h, w), bool)
    if name in MASKS:
        known[MASKS[name](h, w)] = False
    else:
        try:
            share = float(name.rstrip("%")) / 100
        except ValueError:
            raise UsageError(f"mask {name!r} is unknown; choose one of {', '.join(MASKS)}, or a share such as 80%") from None
        if not 0 < share < 1:
            raise UsageError(f"mask {name!r}; need a share between 0% and 100%")
        known.reshape(-1)[rng.permutation(h * w)[: round(share * h * w)]] = False
    return np.repeat(known[..., None], c, axis=2)
