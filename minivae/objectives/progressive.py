"""How a progressive codec is trained."""

from dataclasses import dataclass
from typing import ClassVar

from ..ops import absolute
from .base import Objective, setting


@dataclass(frozen=True)
class Progressive(Objective):
    """loss = 1/T sum_t mean_nhwc 255 |x - x^_t|, over the pictures of all T iterations, in levels of a byte.

    Each iteration is judged by itself, and what it gains is seen by those before it through the states that they leave.
    G. Toderici et al., "Full resolution image compression with recurrent neural networks", 2017, eq. 2, with beta = 255 / (N H W C T)
    """

    name: ClassVar[str] = "progressive"
    needs: ClassVar[tuple[str, ...]] = ("iterate",)
    units: ClassVar[str] = "levels"

    iterations: int = setting(8, "iterations that are unrolled", 1)

    def losses(self, players, batch, rng, progress):
        errors = [absolute(y - batch.x).mean(axis=(1, 2, 3)) * 255.0 for y in players["model"].iterate(batch.x, self.iterations, rng)]
        total = errors[0]
        for error in errors[1:]:
            total = total + error
        return {"model": total.mean() * (1 / self.iterations)}, {"first": errors[0], "last": errors[-1]}
