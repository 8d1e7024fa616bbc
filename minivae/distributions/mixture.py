"""A mixture of Gaussians with equal weights."""

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, stop_gradient
from ..errors import ShapeError
from ..random import Stream
from .base import Distribution, Value, data_of, lead
from .gaussian import Gaussian


class GaussianMixture(Distribution):
    """1/M sum_m N(mean_m, sigma_m^2), a density of vectors.     components: a Gaussian of batch (M,) and event (K,)

    Gradients reach the components through log_prob; draws are constants.
    """

    event_ndim = 1

    def __init__(self, components: Gaussian):
        if components.event_ndim != 1 or len(components.shape) != 2:
            raise ShapeError(f"GaussianMixture: components are {components}; need batch (M,), event (K,)")
        self.components = components

    @property
    def shape(self) -> tuple[int, ...]:
        return self.components.shape[1:]

    def log_prob(self, z: Value) -> Tensor:
        """log sum_m N(z; mean_m, sigma_m^2) - log M.     z (..., K) -> (...)"""
        M, K = self.components.shape
        if z.shape[-1:] != (K,):
            raise ShapeError(f"GaussianMixture.log_prob: z is {tuple(z.shape)}, its components are {(M, K)}; need (..., {K})")
        each = self.components.log_prob(ops.reshape(z, (*z.shape[:-1], 1, K)))  # (..., M)
        return ops.logsumexp(each, axis=-1) - math.log(M)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """A component at random, and a draw from it, a constant.     -> (*n, K)"""
        M, K = self.components.shape
        mean, logvar = data_of(self.components.mean), data_of(self.components.logvar)
        mean, logvar = (xp(mean).broadcast_to(a, (M, K)) for a in (mean, logvar))
        u = rng.uniform(lead(n), like=mean)
        chosen = xp(mean).minimum((u * M).astype(np.int64), M - 1)
        noise = rng.normal((*lead(n), K), like=mean)
        return stop_gradient(mean[chosen] + xp(mean).exp(logvar[chosen] / 2) * noise)

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means.     -> (K,)"""
        mean = self.components.mean
        mean = mean if isinstance(mean, Tensor) else stop_gradient(data_of(mean))
        return ops.broadcast_to(mean, self.components.shape).mean(axis=0)
