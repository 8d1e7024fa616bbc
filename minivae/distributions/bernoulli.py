"""The Bernoulli, and the density on [0, 1] that is made of it."""

from typing import Any

import numpy as np

from .. import ops
from ..engine import Tensor, constant_of, stop_gradient
from ..ops.densities import COSECH
from ..random import Stream
from .base import Distribution, Value, check_event, data_of, event_sum, lead


def is_positive(logits: Any) -> Any:
    return logits.real > 0


def is_small(logits: Any, limit: float) -> Any:
    return abs(logits.real) < limit


def as_number(truth: Any, like: Any) -> Any:
    """1 for True, 0 for False, in the dtype of the real part of `like`."""
    return truth.astype(like.real.dtype)


def is_below(u: Any, mean: Any) -> Any:
    """1 where u < mean, else 0."""
    return (u < mean).astype(mean.dtype)


class Bernoulli(Distribution):
    """p(x = 1) = sigmoid(logits), independent per element.  x may be any number in [0, 1]: then log_prob is minus the cross-entropy,
    which is no density (its exponential does not integrate to one): see ContinuousBernoulli.     logits (*batch, *event)"""

    parameters = ("logits",)

    def __init__(self, logits: Value, event_ndim: int = 1):
        self.logits, self.event_ndim = logits, event_ndim

    @property
    def mean(self) -> Tensor:
        return ops.sigmoid(self.logits)

    def log_prob(self, x: Value) -> Tensor:
        """sum x l - log(1 + e^l).     x (*batch, *event) -> (*batch)"""
        check_event("Bernoulli", x, self.event_ndim, self.logits)
        return ops.bernoulli_log_prob(self.logits, x, self.event_ndim)

    @property
    def mode(self) -> Tensor:
        """1 where the logit is positive, else 0, a constant."""
        return constant_of(as_number, constant_of(is_positive, data_of(self.logits)).data, data_of(self.logits))

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """Zeros and ones, a constant.     -> (*n, *batch, *event)"""
        mean = self.mean.data
        return constant_of(is_below, rng.uniform((*lead(n), *mean.shape), like=mean), mean)

    def entropy(self) -> Tensor:
        """sum log(1 + e^l) - l sigmoid(l).     -> (*batch)"""
        # |l| keeps both terms from growing: H(l) = H(-l) = log(1 + e^-|l|) + |l| sigmoid(-|l|)
        size = ops.absolute(self.logits)
        return event_sum(ops.softplus(ops.negative(size)) + size * ops.sigmoid(ops.negative(size)), self.event_ndim)

    def terms(self) -> "Bernoulli":
        return Bernoulli(self.logits, event_ndim=0)


class ContinuousBernoulli(Distribution):
    """Density C(l) p^x (1 - p)^(1 - x) on [0, 1] with p = sigmoid(logits): the Bernoulli made a density for gray pixels.

    G. Loaiza-Ganem and J. P. Cunningham, "The continuous Bernoulli", NeurIPS 2019.
    """

    parameters = ("logits",)

    def __init__(self, logits: Value, event_ndim: int = 1):
        self.logits, self.event_ndim = logits, event_ndim

    @property
    def mean(self) -> Tensor:
        """E[x] = d log Z / dl = 1 / (1 - e^-l) - 1 / l, which is sigmoid(l) less the slope of log C, 1 / l - 1 / sinh(l); 1/2 at l = 0."""
        small, positive = constant_of(is_small, data_of(self.logits), 0.5), constant_of(is_positive, data_of(self.logits))
        l = ops.where(small, self.logits, 0.0)
        series: Any = 0.0  # the difference cancels near 0
        for coefficient in reversed(COSECH):
            series = l * l * series + coefficient
        s = ops.where(small, 1.0, ops.where(positive, self.logits, ops.negative(self.logits)))  # |l|: e^-s does not overflow
        e = ops.exp(ops.negative(s))
        slope = ops.divide(1.0, s) - e * 2.0 / (1.0 - e * e)
        return ops.sigmoid(self.logits) - ops.where(small, series * l, ops.where(positive, slope, ops.negative(slope)))

    def log_prob(self, x: Value) -> Tensor:
        """sum x l - log(1 + e^l) + log C(l).     x (*batch, *event) -> (*batch)"""
        check_event("ContinuousBernoulli", x, self.event_ndim, self.logits)
        normalizer = ops.continuous_bernoulli_log_normalizer(self.logits)
        return ops.bernoulli_log_prob(self.logits, x, self.event_ndim) + event_sum(normalizer, self.event_ndim)

    @property
    def mode(self) -> Tensor:
        """An end: 1 where the logit is positive, else 0, a constant."""
        return Bernoulli(self.logits).mode

    def entropy(self) -> Tensor:
        """sum log Z - l E[x],  log Z = log(1 + e^l) - log C, at most 0: that of the uniform density.     -> (*batch)"""
        # H(l) = H(-l), and for l < 0 both terms stay small: E[x] is near -1 / l
        l = ops.negative(ops.absolute(self.logits))
        log_z = ops.softplus(l) - ops.continuous_bernoulli_log_normalizer(l)
        return event_sum(log_z - l * ContinuousBernoulli(l).mean, self.event_ndim)

    def terms(self) -> "ContinuousBernoulli":
        return ContinuousBernoulli(self.logits, event_ndim=0)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """By the inverse distribution function, log(1 + u (e^l - 1)) / l, with u uniform.     -> (*n, *batch, *event)"""
        logits = self.logits if isinstance(self.logits, Tensor) else stop_gradient(data_of(self.logits))
        u = stop_gradient(rng.uniform((*lead(n), *logits.shape), like=logits.data))
        flat, positive = constant_of(is_small, logits.data, 0.02), constant_of(is_positive, logits.data)
        # F^-1(u; l) = 1 - F^-1(1 - u; -l): the negative side, where e^l cannot overflow, serves both; w = 1 may be log 0
        w = ops.minimum(ops.where(positive, 1 - u, u), 1 - float(np.finfo(u.dtype).eps) / 2)
        s = ops.where(flat, 1.0, ops.where(positive, ops.negative(logits), logits))
        mirrored = ops.log1p(ops.expm1(s) * w) / s
        # near l = 0 both sides of the fraction vanish: its series, whose coefficients are the cumulants of a Bernoulli(u) over n!
        variance = u * (1 - u)
        third, fourth, fifth = (1 - 2 * u) / 6, (1 - 6 * variance) / 24, (1 - 2 * u) * (1 - 12 * variance) / 120
        series = u + logits * variance * (0.5 + logits * (third + logits * (fourth + logits * fifth)))
        return ops.where(flat, series, ops.where(positive, 1.0 - mirrored, mirrored))
