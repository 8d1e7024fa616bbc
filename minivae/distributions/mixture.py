"""Mixtures of Gaussians: with equal weights, and with weights of their own for each row."""

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, stop_gradient
from ..errors import ShapeError
from ..random import Stream
from .base import Distribution, Value, data_of, lead
from .categorical import gumbel_max
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
        chosen = (rng.uniform(lead(n), like=mean) * M).astype(np.int64)  # below M: 1 - 2^-24 times M rounds to a number below M
        noise = rng.normal((*lead(n), K), like=mean)
        return stop_gradient(mean[chosen] + xp(mean).exp(logvar[chosen] / 2) * noise)

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means.     -> (K,)"""
        mean = self.components.mean
        mean = mean if isinstance(mean, Tensor) else stop_gradient(data_of(mean))
        return ops.broadcast_to(mean, self.components.shape).mean(axis=0)


class WeightedMixture(Distribution):
    """sum_m w_m N(mean_m, sigma_m^2), w = softmax(logits), another one for each row.     logits (N, M), mean and logvar (N, M, K)

    Gradients reach the parameters through log_prob; draws are constants.
    """

    event_ndim = 1

    def __init__(self, logits: Value, mean: Value, logvar: Value):
        shapes = [tuple(data_of(a).shape) for a in (logits, mean, logvar)]
        if len(shapes[1]) != 3 or shapes[0] != shapes[1][:2] or shapes[2] != shapes[1]:
            raise ShapeError(
                f"WeightedMixture: logits are {shapes[0]}, means {shapes[1]}, logvar {shapes[2]}; need (N, M), (N, M, K), (N, M, K)"
            )
        self.logits, self.components = logits, Gaussian(mean, logvar)

    @property
    def shape(self) -> tuple[int, ...]:
        N, _, K = self.components.shape
        return N, K

    def log_prob(self, z: Value) -> Tensor:
        """log sum_m w_m N(z; mean_m, sigma_m^2).     z (..., N, K) -> (..., N); N may be 1, for z of any number of rows"""
        N, K = self.shape
        shape = tuple(z.shape)
        if shape[-1:] != (K,) or len(shape) < 2 or (shape[-2] != N and 1 not in (N, shape[-2])):
            raise ShapeError(f"WeightedMixture.log_prob: z is {shape}; need (..., {N}, {K})")
        each = self.components.log_prob(ops.reshape(z, (*shape[:-1], 1, K)))  # (..., N, M)
        return ops.logsumexp(each + ops.log_softmax(self.logits), axis=-1)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """A component by its weight, and a draw from it, a constant.     -> (*n, N, K)"""
        N, K = self.shape
        logits, mean, logvar = (data_of(a) for a in (self.logits, self.components.mean, self.components.logvar))
        chosen = gumbel_max(logits, rng.uniform((*lead(n), *logits.shape), like=logits))
        rows = xp(mean).arange(N)
        return stop_gradient(mean[rows, chosen] + xp(mean).exp(logvar[rows, chosen] / 2) * rng.normal((*lead(n), N, K), like=mean))

    @property
    def mean(self) -> Tensor:
        """sum_m w_m mean_m.     -> (N, K)"""
        N, M, _ = self.components.shape
        return (ops.reshape(ops.softmax(self.logits), (N, M, 1)) * self.components.mean).sum(axis=1)
