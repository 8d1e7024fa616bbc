"""A pixel of a few levels, told with noise."""

import math
from typing import Any

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import ShapeError, UsageError
from .base import Distribution, Value, data_of, event_sum

REACH = 14.0  # standard deviations: what lies farther has e^-98 of the nearest level's probability, and less than float32 can add


class Levels(Distribution):
    """p(x = k / (levels - 1)) = softmax_k(-((mean - k / (levels - 1)) / sigma)^2 / 2), independent per pixel.     mean (*batch, *event)

    The posterior of a level that was equally likely before, given its noisy value.  D. P. Kingma et al. 2021, appendix E.
    """

    parameters = ("mean_of_noise",)

    def __init__(self, mean: Value, sigma: float, levels: int = 256, event_ndim: int = 1):
        if not (sigma > 0 and math.isfinite(sigma)) or levels < 2:
            raise UsageError(f"Levels: sigma is {sigma}, levels is {levels}; need a positive number, and 2")
        self.mean_of_noise, self.sigma, self.levels, self.event_ndim = mean, sigma, levels, event_ndim
        self.near = min(math.ceil(REACH * sigma * (levels - 1)) + 1, levels - 1)  # levels on either side that count

    def logits(self) -> tuple[Tensor, Any]:
        """(those of the levels near the mean, the levels).     -> (*batch, *event, 2 near + 1) both"""
        levels = constant_of(around, data_of(self.mean_of_noise), self.near, self.levels)
        m = ops.reshape(self.mean_of_noise, (*self.mean_of_noise.shape, 1))
        logits = ops.square((m - levels * (1 / (self.levels - 1))) * (1 / self.sigma)) * -0.5
        return ops.where(constant_of(outside, levels.data, self.levels).data, -math.inf, logits), levels

    def log_prob(self, x: Value) -> Tensor:
        """log p(x), in nats; x at a level, or ShapeError.     x (*batch, *event) -> (*batch)"""
        level = constant_of(level_of, data_of(x), self.levels)
        distance = (self.mean_of_noise - level * (1 / (self.levels - 1))) * (1 / self.sigma)
        logits, _ = self.logits()
        return event_sum(ops.square(distance) * -0.5 - ops.logsumexp(logits, axis=-1), self.event_ndim)

    @property
    def mean(self) -> Tensor:
        """E[x].     -> (*batch, *event)"""
        logits, levels = self.logits()
        return (ops.softmax(logits) * levels).sum(axis=-1) * (1 / (self.levels - 1))


def around(mean: Any, near: int, levels: int) -> Any:
    """The numbers of the levels near the mean.     (...) -> (..., 2 near + 1)"""
    module = xp(mean)
    nearest = module.clip(module.rint(mean * (levels - 1)), 0, levels - 1)
    return (nearest[..., None] + module.arange(-near, near + 1, dtype=mean.dtype)).astype(mean.dtype)


def outside(numbers: Any, levels: int) -> Any:
    return (numbers < 0) | (numbers > levels - 1)


def level_of(x: Any, levels: int) -> Any:
    """The number of the level that x is at.     -> of x's shape and dtype"""
    module = xp(x)
    level = module.rint(x * (levels - 1))
    if bool((abs(x * (levels - 1) - level) > 1e-2).any()) or bool((level < 0).any()) or bool((level > levels - 1).any()):
        raise ShapeError(f"Levels.log_prob: x is not at one of {levels} levels k / {levels - 1}; need pixels as bytes gave them")
    return level.astype(x.dtype)
