"""KL(q || p) = E_q[log q - log p], in nats: closed forms by pairs of classes, and what serves where there is none.

A closed form belongs to exactly two classes: a subclass may have changed the density, and registers its own.

    @register_kl(Mine, StandardGaussian)
    def _(q, p, event_ndim): return ...  # the sum over the last event_ndim axes
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..engine import Tensor, no_grad
from ..errors import ShapeError, UsageError
from ..random import Stream
from .autoregressive import Autoregressive
from .base import Value, broadcast, data_of, event_sum, widened
from .bernoulli import Bernoulli
from .categorical import Categorical
from .delta import Delta, Flat
from .gaussian import Gaussian, StandardGaussian
from .laplace import Laplace

Pair = tuple[type, type]
_closed: dict[Pair, Callable[[Any, Any, int], Tensor]] = {}
_estimates: dict[Pair, Callable[[Any, Any, Value], Tensor]] = {}


def register_kl(q: type, p: type) -> Callable[[Callable], Callable]:
    """A decorator: f(q, p, event_ndim) is KL(q || p), summed over the last event_ndim axes."""
    return lambda f: _registered(_closed, q, p, f)


def register_kl_at(q: type, p: type) -> Callable[[Callable], Callable]:
    """A decorator: f(q, p, z) estimates KL(q || p) at a sample z ~ q, each number of the event alone, and better than log q - log p."""
    return lambda f: _registered(_estimates, q, p, f)


def _registered(table: dict[Pair, Callable], q: type, p: type, f: Callable) -> Callable:
    known = table.get((q, p))
    if known is not None and known.__module__ != f.__module__:  # a cell of a notebook may run twice
        raise UsageError(f"the KL of {q.__name__} against {p.__name__} is registered already; derive a class of your own for another")
    table[q, p] = f
    return f


def _form(q: Any, p: Any) -> Callable[[Any, Any, int], Tensor]:
    form = _closed.get((type(q), type(p)))
    if form is None:
        raise ShapeError(
            f"kl: no closed form for {type(q).__name__} against {type(p).__name__}; register one with register_kl, "
            "or ask for an estimate, kl_monte_carlo(q, p, rng, samples)"
        )
    return form


def kl(q: Any, p: Any) -> Tensor:
    """KL(q || p) in closed form, summed over the event, in nats.     -> (*batch)

    Raises ShapeError where no closed form is registered for the two classes."""
    return _form(q, p)(q, p, q.event_ndim)


def kl_terms(q: Any, p: Any) -> Tensor:
    """The part of each number of the event in `kl`.     -> (*batch, *event)"""
    return _form(q, p)(q, p, 0)


class Estimate(NamedTuple):
    value: np.ndarray
    standard_error: np.ndarray


def kl_monte_carlo(q: Any, p: Any, rng: Stream, samples: int = 1000) -> Estimate:
    """The mean of log q(z) - log p(z) over z ~ q, and its standard error: for pairs without a closed form.     -> (*batch) both"""
    if samples < 2:
        raise UsageError(f"kl_monte_carlo: samples is {samples}; need at least 2, for an error")
    total: Any = 0.0
    squares: Any = 0.0
    with no_grad():
        for _ in range(samples):
            z = q.sample(rng)
            ratio = data_of(ops.subtract(q.log_prob(z), p.log_prob(z))).astype(np.float64)
            total, squares = total + ratio, squares + ratio * ratio
    mean = total / samples
    variance = np.maximum(squares / samples - mean * mean, 0) * samples / (samples - 1)
    return Estimate(mean, np.sqrt(variance / samples))


def kl_at(q: Any, p: Any, z: Value) -> Tensor:
    """KL(q || p) in closed form; where there is none, its estimate by one sample z ~ q, log q(z) - log p(z), which has no bias and may be
    negative.     -> (*batch)"""
    pair = type(q), type(p)
    if pair in _closed:
        return kl(q, p)
    if pair in _estimates:
        return event_sum(_estimates[pair](q, p, z), q.event_ndim)
    return ops.subtract(q.log_prob(z), p.log_prob(z))


def kl_terms_at(q: Any, p: Any, z: Value) -> Tensor:
    """The part of each number of the event in `kl_at`.     -> (*batch, *event)"""
    pair = type(q), type(p)
    if pair in _closed:
        return kl_terms(q, p)
    if pair in _estimates:
        return _estimates[pair](q, p, z)
    for d in (q, p):
        if not hasattr(d, "terms"):
            raise UsageError(
                f"{type(d).__name__} does not tell its numbers apart; give it a method terms() that returns the same distribution with "
                "event_ndim 0, or derive it from distributions.Distribution"
            )
    return ops.subtract(q.terms().log_prob(z), p.terms().log_prob(z))


def sample_and_kl(q: Any, p: Any, rng: Stream) -> tuple[Tensor, Tensor]:
    """z ~ q and `kl_at` of it, in one pass where q is a Gaussian and p is N(0, I).     -> (*batch, *event), (*batch)"""
    if type(q) is Gaussian and type(p) is StandardGaussian:
        shape = broadcast("Gaussian", mean=q.mean, logvar=q.logvar)
        _same_length(q, p)
        return ops.sample_and_kl(q.mean, q.logvar, rng.normal(shape, like=data_of(q.mean)), q.event_ndim)
    z = q.sample(rng)
    return z, kl_at(q, p, z)


def _same_length(q: Any, p: Any) -> None:
    if p.length and q.shape[len(q.shape) - len(p.length) :] != p.length:
        raise ShapeError(f"kl: an event of {type(q).__name__} is {q.event_shape}, of {type(p).__name__} {p.length}; need equal shapes")


@register_kl(Gaussian, StandardGaussian)
def _gaussian_standard(q: Gaussian, p: StandardGaussian, event_ndim: int) -> Tensor:
    """1/2 sum mean^2 + sigma^2 - log sigma^2 - 1"""
    _same_length(q, p)
    return ops.gaussian_kl_standard(q.mean, q.logvar, event_ndim)


@register_kl(Gaussian, Gaussian)
def _gaussian_gaussian(q: Gaussian, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum ((mean - m) / s)^2 + r - 1 - log r,   r = sigma^2 / s^2,   against N(m, s^2)"""
    broadcast("kl", q_mean=q.mean, q_logvar=q.logvar, p_mean=p.mean, p_logvar=p.logvar)
    deviation = ops.subtract(q.mean, p.mean) * ops.exp(ops.multiply(p.logvar, -0.5))
    return event_sum((deviation * deviation + ops.exp_remainder(ops.subtract(q.logvar, p.logvar))) * 0.5, event_ndim)


@register_kl(StandardGaussian, Gaussian)
def _standard_gaussian(q: StandardGaussian, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum m^2 / s^2 + 1 / s^2 - 1 + log s^2,   against N(m, s^2)"""
    precision = ops.exp(ops.negative(p.logvar))
    terms = (ops.multiply(p.mean, p.mean) * precision + ops.exp_remainder(ops.negative(p.logvar))) * 0.5
    return event_sum(widened(terms, p.shape), event_ndim)


@register_kl(StandardGaussian, StandardGaussian)
def _standard_standard(q: StandardGaussian, p: StandardGaussian, event_ndim: int) -> Tensor:
    """0"""
    zeros = np.zeros(q.known_shape("length") or p.length, np.float32)
    return ops.gaussian_kl_standard(zeros, zeros, event_ndim)


@register_kl(Laplace, Laplace)
def _laplace_laplace(q: Laplace, p: Laplace, event_ndim: int) -> Tensor:
    """sum r e^(-d / b) + d / c - 1 - log r,   d = |mean - m|, r = b / c,   against scale c at m"""
    broadcast("kl", q_mean=q.mean, q_log_scale=q.log_scale, p_mean=p.mean, p_log_scale=p.log_scale)
    distance = ops.absolute(ops.subtract(q.mean, p.mean))
    log_ratio = ops.subtract(q.log_scale, p.log_scale)
    u = distance * ops.exp(ops.negative(q.log_scale))  # d / b
    # r (e^-u - 1 + u) + (r - 1 - log r): both are at least 0, and near 0 no digit is lost
    return event_sum(ops.exp(log_ratio) * ops.exp_remainder(ops.negative(u)) + ops.exp_remainder(log_ratio), event_ndim)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli_bernoulli(q: Bernoulli, p: Bernoulli, event_ndim: int) -> Tensor:
    """sum P (l - m) + log(1 + e^m) - log(1 + e^l),   P = sigmoid(l),   against logits m"""
    broadcast("kl", q_logits=q.logits, p_logits=p.logits)
    difference = ops.subtract(q.logits, p.logits)
    terms = ops.sigmoid(q.logits) * difference + ops.softplus(p.logits) - ops.softplus(q.logits)
    return event_sum(terms, event_ndim)


@register_kl(Categorical, Categorical)
def _categorical_categorical(q: Categorical, p: Categorical, event_ndim: int) -> Tensor:
    """sum_k q_k (log q_k - log p_k)"""
    log_q = ops.log_softmax(q.logits)
    return (ops.exp(log_q) * (log_q - ops.log_softmax(p.logits))).sum(axis=-1)


@register_kl(Delta, Flat)
def _delta_flat(q: Delta, p: Flat, event_ndim: int) -> Tensor:
    """0: what is left out is the same for all weights"""
    return event_sum(ops.multiply(q.mean, 0.0), event_ndim)


@register_kl_at(Autoregressive, Autoregressive)
def _two_layers(q: Autoregressive, p: Autoregressive, z: Value) -> Tensor:
    """log q(z1 | x) - log p(z1 | z2) at the sample, since z1 and z2 are dependent under q, and KL(q(z2 | z1) || p(z2)) in closed form."""
    z1, _ = q.parts(z)
    below, above, given = q.first.terms(), q.second(z).terms(), p.second(z).terms()
    return ops.concatenate([below.log_prob(z1) - given.log_prob(z1), kl(above, p.first.terms())], axis=-1)
