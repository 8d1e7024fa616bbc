"""A pixel of a few levels, told with noise."""

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import UsageError
from ..kernels.cpu import levels as kernels
from .base import Value, data_of, event_sum
from .levels import LEVELS, Levels

REACH = 14.0  # standard deviations: what lies farther has e^-98 of the nearest level's probability, and less than float32 can add


class NoisyLevels(Levels):
    """p(x = k / (levels - 1)) = softmax_k(-((mean - k / (levels - 1)) / sigma)^2 / 2), independent per pixel.     mean (*batch, *event)

    The posterior of a level that was equally likely before, given its noisy value.  D. P. Kingma et al. 2021, appendix E.
    """

    parameters = ("mean_of_noise",)

    def __init__(self, mean: Value, sigma: float, levels: int = LEVELS, event_ndim: int = 1):
        if not (sigma > 0 and math.isfinite(sigma)):
            raise UsageError(f"NoisyLevels: sigma is {sigma}; need a positive number")
        self.mean_of_noise, self.sigma, self.levels, self.event_ndim = mean, sigma, levels, event_ndim
        self.check_levels()
        self.near = min(math.ceil(REACH * sigma * self.n) + 1, self.n)  # levels on either side that count

    def logits(self) -> tuple[Tensor, Any]:
        """(those of the levels near the mean, the levels).     -> (*batch, *event, 2 near + 1) both"""
        levels = constant_of(around, data_of(self.mean_of_noise), self.near, self.levels)
        m = ops.reshape(self.mean_of_noise, (*self.mean_of_noise.shape, 1))
        logits = ops.square((m - levels * (1 / self.n)) * (1 / self.sigma)) * -0.5
        return ops.where(constant_of(outside, levels.data, self.levels).data, -math.inf, logits), levels

    def log_prob_of_level(self, k: Value) -> Tensor:
        distance = (self.mean_of_noise - k * (1 / self.n)) * (1 / self.sigma)
        return ops.square(distance) * -0.5 - ops.logsumexp(self.logits()[0], axis=-1)

    def log_prob(self, x: Value) -> Tensor:
        """log p(x), in nats; x at a level, or ShapeError.     x (*batch, *event) -> (*batch)"""
        return event_sum(self.log_prob_of_level(self.level(x)), self.event_ndim)

    @property
    def mean(self) -> Tensor:
        """E[x].     -> (*batch, *event)"""
        logits, levels = self.logits()
        return (ops.softmax(logits) * levels).sum(axis=-1) * (1 / self.n)


def around(mean: Any, near: int, levels: int) -> Any:
    """The numbers of the levels near the mean.     (...) -> (..., 2 near + 1)"""
    module, last = xp(mean), levels - 1
    nearest = module.clip(module.rint(mean * last), 0, last)
    return (nearest[..., None] + module.arange(-near, near + 1, dtype=mean.dtype)).astype(mean.dtype)


def outside(numbers: Any, levels: int) -> Any:
    return (numbers < 0) | (numbers > levels - 1)


def level_moments(z: Any, a: Any, s: Any, log_frequency: Any) -> tuple[Any, Any]:
    """E[y] and Var[y] given z = a y + s noise, for y = 2 k / (L - 1) - 1 with p(k) = e^log_frequency: what a pixel's noisy value tells of
    it by itself.     (N, D), two (N,), (L,) -> two (N, D)"""
    module = xp(z)
    if module is np and z.dtype == np.float32:
        return kernels.level_moments(z, a, s, log_frequency)
    values = module.linspace(-1, 1, len(log_frequency)).astype(z.dtype)
    off = values - (z / a[:, None])[..., None]  # (N, D, L)
    logits = log_frequency - 0.5 * module.square(off * (a / s)[:, None, None])
    p = module.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    mean = (p * values).sum(axis=-1)
    return mean, (p * module.square(values - mean[..., None])).sum(axis=-1)
