"""Numbers that a step or an evaluation has to tell, and their means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import Array, backend_of, to_device, xp
from ..engine import Tensor
from ..kernels.gpu import step
from .optimizers import gradient_norm


class Sums:
    """Sums over images, of measures that need not come at every step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.images: dict[str, int] = {}

    def add(self, images: int, found: dict[str, float]) -> None:
        """Means over so many images."""
        self.add_totals(images, {name: images * value for name, value in found.items()})

    def add_totals(self, images: int, totals: dict[str, float]) -> None:
        """Sums over so many images."""
        for name, total in totals.items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.images[name] = self.images.get(name, 0) + images

    def means(self) -> dict[str, float]:
        return {name: total / self.images[name] for name, total in self.sums.items()}


def mean(values: Any) -> float:
    """The mean over the images of a Tensor or an array; a number is its own."""
    a = values.data if isinstance(values, Tensor) else values
    return float(a) if np.ndim(a) == 0 else float(a.mean())


class Told:
    """What one step tells: of each player that moves its loss and the norm of its gradient, and the reports.

    The first player's come under plain names, "loss" and "gradient_norm", a critic's as "critic_loss"."""

    def __init__(self, first: str, losses: Mapping[str, Any], reports: Mapping[str, Any], turn: Sequence[str], gradients: Sequence[Any]):
        """first: the name of the first player; turn: of those that move, with the gradients of each"""
        self.values = {"loss" if name == first else f"{name}_loss": losses[name] for name in turn} | dict(reports)
        self.norms = ["gradient_norm" if name == first else f"{name}_gradient_norm" for name in turn]
        self.gradients = gradients

    def numbers(self) -> dict[str, float]:
        """All of it, as the CPU may know it."""
        if xp(self.gradients[0][0]) is not np and self.has_kernel:  # the kernel that a graph has, so that it and an eager step agree
            arrays, constants = self.parts()
            found = step.tally([*arrays.values()], self.gradients)[0].get().tolist()
            return dict(zip([*arrays, *self.norms], found, strict=True)) | constants
        means = {name: mean(value) for name, value in self.values.items()}
        return means | dict(zip(self.norms, map(gradient_norm, self.gradients), strict=True))

    def parts(self) -> tuple[dict[str, Array], dict[str, float]]:
        """The arrays of `values`, and what is a number of Python."""
        raw = {name: value.data if isinstance(value, Tensor) else value for name, value in self.values.items()}
        return {name: a for name, a in raw.items() if hasattr(a, "dtype")}, {name: a for name, a in raw.items() if not hasattr(a, "dtype")}

    @property
    def has_kernel(self) -> bool:
        """Whether `step.tally` takes all of it."""
        arrays, _ = self.parts()
        every = [*arrays.values(), *(g for gradients in self.gradients for g in gradients)]
        fits = len(arrays) <= step.VALUES and len(self.gradients) <= step.PLAYERS
        return fits and all(a.dtype == np.float32 and backend_of(a) == "cupy" for a in every)


def like(model: Any, x: Array) -> Array:
    """x on the device and in the precision of the model."""
    return like_array(model.parameters()[0].data, x)


def like_array(own: Array, x: Array) -> Array:
    """x on the device and in the precision of `own`: to look for a model's parameters takes as long as a step of a small one."""
    return to_device(x, "cpu" if xp(own) is np else "cuda").astype(own.dtype, copy=False)
