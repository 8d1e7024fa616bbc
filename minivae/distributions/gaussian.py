"""The Gaussian, and the standard one."""

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, stop_gradient
from ..errors import UsageError
from ..random import Stream
from .base import Distribution, Value, broadcast, check_event, data_of, event_sum, lead, location_scale, size_of, widened


class Gaussian(Distribution):
    """N(mean, sigma^2), independent per element, sigma^2 = exp(logvar).     mean, logvar (*batch, *event)

    A head that predicts log sigma instead: `Gaussian.from_log_sigma(mean, log_sigma)`.
    """

    parameters = ("mean", "logvar")
    mean: Any = None
    mode = property(lambda self: self.mean)

    def __init__(self, mean: Value, logvar: Value, event_ndim: int = 1):
        self.mean, self.logvar = location_scale("Gaussian", mean, logvar, "logvar")
        self.event_ndim = event_ndim

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.mean.shape
        return shape if self.logvar.shape == shape else broadcast("Gaussian", mean=self.mean, logvar=self.logvar)

    @classmethod
    def from_log_sigma(cls, mean: Value, log_sigma: Value, event_ndim: int = 1) -> "Gaussian":
        return cls(mean, log_sigma * 2.0, event_ndim)

    @property
    def sigma(self) -> Value:
        return ops.exp(self.logvar * 0.5)

    def log_prob(self, x: Value) -> Tensor:
        """-1/2 sum ((x - mean) / sigma)^2 + log sigma^2 + log 2 pi.     x (*batch, *event) -> (*batch)"""
        check_event("Gaussian", x, self.event_ndim, self.mean, self.logvar)
        return ops.gaussian_log_prob(x, self.mean, self.logvar, self.event_ndim)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """mean + sigma eps, eps ~ N(0, I) from rng.     -> (*n, *batch, *event)"""
        return ops.reparameterize(self.mean, self.logvar, rng.normal((*lead(n), *self.shape), like=data_of(self.mean)))

    def entropy(self) -> Tensor:
        """1/2 sum log sigma^2 + log 2 pi e.     -> (*batch)"""
        half = ops.multiply(ops.add(self.logvar, math.log(2 * math.pi * math.e)), 0.5)
        return event_sum(widened(half, self.shape), self.event_ndim)

    def terms(self) -> "Gaussian":
        return Gaussian(self.mean, self.logvar, event_ndim=0)


class StandardGaussian(Distribution):
    """N(0, I): the prior of the latent vector.

    event_shape    StandardGaussian(20) is one of 20 numbers.  StandardGaussian() takes the shape of what it is asked about, and has no
                   samples of its own
    """

    def __init__(self, *event_shape: int, event_ndim: int | None = None):
        self.length = event_shape
        self.event_ndim = (len(event_shape) or 1) if event_ndim is None else event_ndim

    shape = property(lambda self: self.length)

    def log_prob(self, z: Value) -> Tensor:
        """-1/2 sum z^2 + log 2 pi.     z (*batch, K) -> (*batch)"""
        data = data_of(z)
        if self.length:
            check_event("StandardGaussian", z, self.event_ndim, xp(data).zeros(self.length, data.real.dtype))
        return ops.gaussian_log_prob(z, 0.0, xp(data).zeros((), data.real.dtype), self.event_ndim)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """Standard normal noise, a constant.     -> (*n, *event)"""
        return stop_gradient(rng.normal((*lead(n), *self.known_shape("sample")), like=like))

    def known_shape(self, what: str) -> tuple[int, ...]:
        if not self.length:
            raise UsageError(f"StandardGaussian() has no {what}: it does not know how long z is; make it StandardGaussian(K)")
        return self.length

    @property
    def mean(self) -> Any:
        return np.zeros(self.known_shape("mean"), np.float32)

    mode = mean

    def entropy(self) -> Tensor:
        """K/2 log 2 pi e"""
        k = size_of(self.known_shape("entropy"), self.event_ndim)
        return stop_gradient(np.asarray(k / 2 * math.log(2 * math.pi * math.e)))

    def terms(self) -> "StandardGaussian":
        return StandardGaussian(*self.length, event_ndim=0)
