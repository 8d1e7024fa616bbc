"""The Bernoulli, and the density on [0, 1] that is made of it."""

from typing import Any

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, stop_gradient
from ..ops.densities import continuous_bernoulli_log_normalizer_vjp
from ..random import Stream
from .base import Distribution, Value, check_event, data_of, event_sum, lead


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
        """1 where the logit is positive, a constant."""
        logits = data_of(self.logits)
        return stop_gradient((logits.real > 0).astype(logits.real.dtype))

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
        """E[x] = d log Z / dl = 1 / (1 - e^-l) - 1 / l, which is sigmoid(l) less the slope of log C; 1/2 at l = 0."""
        (slope,) = continuous_bernoulli_log_normalizer_vjp(1, data_of(self.logits))
        return stop_gradient(ops.sigmoid(self.logits).data - slope)

    def log_prob(self, x: Value) -> Tensor:
        """sum x l - log(1 + e^l) + log C(l).     x (*batch, *event) -> (*batch)"""
        check_event("ContinuousBernoulli", x, self.event_ndim, self.logits)
        normalizer = ops.continuous_bernoulli_log_normalizer(self.logits)
        return ops.bernoulli_log_prob(self.logits, x, self.event_ndim) + event_sum(normalizer, self.event_ndim)

    @property
    def mode(self) -> Tensor:
        """An end: 1 where the logit is positive, else 0."""
        logits = data_of(self.logits)
        return stop_gradient((logits.real > 0).astype(logits.real.dtype))

    def terms(self) -> "ContinuousBernoulli":
        return ContinuousBernoulli(self.logits, event_ndim=0)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """By the inverse distribution function, log(1 + u (e^l - 1)) / l, with u uniform.     -> (*n, *batch, *event)"""
        logits = self.logits if isinstance(self.logits, Tensor) else stop_gradient(data_of(self.logits))
        u = rng.uniform((*lead(n), *logits.shape), like=logits.data)
        l = logits.data.real
        module = xp(l)
        flat, positive = abs(l) < 0.02, l > 0
        # F^-1(u; l) = 1 - F^-1(1 - u; -l): the negative side, where e^l cannot overflow, serves both; w = 1 may be log 0
        w = module.minimum(module.where(positive, 1 - u, u), 1 - module.finfo(u.dtype).eps / 2)
        s = ops.where(flat, 1.0, ops.where(positive, ops.negative(logits), logits))
        mirrored = ops.log1p(ops.expm1(s) * w) / s
        # near l = 0 both sides of the fraction vanish: its series, whose coefficients are the cumulants of a Bernoulli(u) over n!
        variance = u * (1 - u)
        third, fourth, fifth = (1 - 2 * u) / 6, (1 - 6 * variance) / 24, (1 - 2 * u) * (1 - 12 * variance) / 120
        series = u + logits * variance * (0.5 + logits * (third + logits * (fourth + logits * fifth)))
        return ops.where(flat, series, ops.where(positive, 1.0 - mirrored, mirrored))
