"""Numbers that a step or an evaluation has to tell, and their means."""

from typing import Any

import numpy as np

from ..backend import Array, to_device, xp


class Sums:
    """Sums over images, of measures that need not come at every step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.images: dict[str, int] = {}

    def add(self, images: int, found: dict[str, float]) -> None:
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + images * value
            self.images[name] = self.images.get(name, 0) + images

    def means(self) -> dict[str, float]:
        return {name: total / self.images[name] for name, total in self.sums.items()}


def mean(values: Any) -> float:
    """The mean over the images of a Tensor or an array; a number is its own."""
    a = getattr(values, "data", values) if not isinstance(values, np.ndarray) else values
    return float(a) if np.ndim(a) == 0 else float(a.mean())


def like(model: Any, x: Array) -> Array:
    """x on the device and in the precision of the model."""
    return like_array(model.parameters()[0].data, x)


def like_array(own: Array, x: Array) -> Array:
    """x on the device and in the precision of `own`: to look for a model's parameters takes as long as a step of a small one."""
    return to_device(x, "cpu" if xp(own) is np else "cuda").astype(own.dtype, copy=False)
