"""KL(q || p) = E_q[log q - log p], in nats: closed forms by pairs of classes, and what serves where there is none.

A closed form belongs to exactly two classes: a subclass may have changed the density, and registers its own.

    @register_kl(Mine, StandardGaussian)
    def _(q, p, event_ndim): return ...  # the sum over the last event_ndim axes
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backend import to_device
from ..engine import Tensor, constant_of, no_grad
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
    mean: Any = 0.0
    squares: Any = (
        0.0  # of the deviations from the mean so far: squares of the ratios themselves would lose its digits (B. P. Welford, 1962)
    )
    with no_grad():
        for i in range(1, samples + 1):
            ratio = to_device(data_of(log_q_over_p(q, p, q.sample(rng))), "cpu").astype(np.float64)
            deviation = ratio - mean
            mean = mean + deviation / i
            squares = squares + deviation * (ratio - mean)
    return Estimate(mean, np.sqrt(squares / (samples - 1) / samples))


def log_q_over_p(q: Any, p: Any, z: Value) -> Tensor:
    """log q(z) - log p(z).     z (..., *batch, *event) -> (..., *batch)"""
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    if log_q.shape != log_p.shape and log_q.shape and log_p.shape:
        raise ShapeError(
            f"kl: for z of shape {tuple(z.shape)} log q(z) of {type(q).__name__} is {log_q.shape}, log p(z) of {type(p).__name__} "
            f"{log_p.shape}; need one number an event from both, summed over the event"
        )
    return ops.subtract(log_q, log_p)


def _terms(d: Any) -> Any:
    if not hasattr(d, "terms"):
        raise UsageError(f"{type(d).__name__} has no terms: its numbers may depend on each other; if they do not, define terms()")
    return d.terms()


def kl_at(q: Any, p: Any, z: Value) -> Tensor:
    """KL(q || p) in closed form; where there is none, its estimate by one sample z ~ q, log q(z) - log p(z), which has no bias and may be
    negative.     -> (*batch)"""
    pair = type(q), type(p)
    if pair in _closed:
        return kl(q, p)
    if pair in _estimates:
        return event_sum(_estimates[pair](q, p, z), q.event_ndim)
    return log_q_over_p(q, p, z)


def kl_terms_at(q: Any, p: Any, z: Value) -> Tensor:
    """The part of each number of the event in `kl_at`.     -> (*batch, *event)

    Raises UsageError where the numbers of an event depend on each other, and no part is theirs alone."""
    pair = type(q), type(p)
    if pair in _closed:
        return kl_terms(q, p)
    if pair in _estimates:
        return _estimates[pair](q, p, z)
    return log_q_over_p(_terms(q), _terms(p), z)


def sample_and_kl(q: Any, p: Any, rng: Stream) -> tuple[Tensor, Tensor]:
    """z ~ q and `kl_at` of it, in one pass where q is a Gaussian and p is N(0, I).     -> (*batch, *event), (*batch)"""
    if type(q) is Gaussian and type(p) is StandardGaussian:
        _same_length(q, p)
        return ops.sample_and_kl(q.mean, q.logvar, rng.normal(q.shape, like=data_of(q.mean)), q.event_ndim)
    z = q.sample(rng)
    return z, kl_at(q, p, z)


def _same_length(q: Any, p: StandardGaussian) -> None:
    shape = q.shape
    if p.length and shape[len(shape) - len(p.length) :] != p.length:
        raise ShapeError(f"kl: an event of {type(q).__name__} is {q.event_shape}, of {type(p).__name__} {p.length}; need equal shapes")


def _same_event(q: Any, p: Any) -> None:
    """Refuse two events of which one would be stretched: their KL would count numbers that are not there.  Numbers are of any shape."""
    if q.shape and p.shape and (q.event_ndim, q.event_shape) != (p.event_ndim, p.event_shape):
        raise ShapeError(f"kl: an event of {type(q).__name__} is {q.event_shape}, of {type(p).__name__} {p.event_shape}; need equal shapes")


@register_kl(Gaussian, StandardGaussian)
def gaussian_standard(q: Gaussian, p: StandardGaussian, event_ndim: int) -> Tensor:
    """1/2 sum mean^2 + sigma^2 - log sigma^2 - 1"""
    _same_length(q, p)
    return ops.gaussian_kl_standard(q.mean, q.logvar, event_ndim)


@register_kl(Gaussian, Gaussian)
def gaussian_gaussian(q: Gaussian, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum ((mean - m) / s)^2 + r - 1 - log r,   r = sigma^2 / s^2,   against N(m, s^2)"""
    broadcast("kl", q_mean=q.mean, q_logvar=q.logvar, p_mean=p.mean, p_logvar=p.logvar)
    _same_event(q, p)
    deviation = ops.subtract(q.mean, p.mean) * ops.exp(ops.multiply(p.logvar, -0.5))
    return event_sum((deviation * deviation + ops.exp_remainder(ops.subtract(q.logvar, p.logvar))) * 0.5, event_ndim)


@register_kl(StandardGaussian, Gaussian)
def standard_gaussian(q: StandardGaussian, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum m^2 / s^2 + 1 / s^2 - 1 + log s^2,   against N(m, s^2)"""
    _same_event(q, p)
    precision = ops.exp(ops.negative(p.logvar))
    terms = (ops.multiply(p.mean, p.mean) * precision + ops.exp_remainder(ops.negative(p.logvar))) * 0.5
    return event_sum(widened(terms, p.shape), event_ndim)


@register_kl(StandardGaussian, StandardGaussian)
def standard_standard(q: StandardGaussian, p: StandardGaussian, event_ndim: int) -> Tensor:
    """0"""
    _same_event(q, p)
    zeros = np.zeros(q.length or p.known_shape("length"), np.float32)
    return ops.gaussian_kl_standard(zeros, zeros, event_ndim)


@register_kl(Laplace, Laplace)
def laplace_laplace(q: Laplace, p: Laplace, event_ndim: int) -> Tensor:
    """sum r e^(-d / b) + d / c - 1 - log r,   d = |mean - m|, r = b / c,   against scale c at m"""
    broadcast("kl", q_mean=q.mean, q_log_scale=q.log_scale, p_mean=p.mean, p_log_scale=p.log_scale)
    _same_event(q, p)
    distance = ops.absolute(ops.subtract(q.mean, p.mean))
    log_ratio = ops.subtract(q.log_scale, p.log_scale)
    u = distance * ops.exp(ops.negative(q.log_scale))  # d / b
    # r (e^-u - 1 + u) + (r - 1 - log r): both are at least 0, and near 0 no digit is lost
    return event_sum(ops.exp(log_ratio) * ops.exp_remainder(ops.negative(u)) + ops.exp_remainder(log_ratio), event_ndim)


@register_kl(Laplace, Gaussian)
def laplace_gaussian(q: Laplace, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum ((mean - m) / s)^2 + 2 r^2 - 2 log r + log(pi / 2) - 2,   r = b / s,   against N(m, s^2)"""
    broadcast("kl", q_mean=q.mean, q_log_scale=q.log_scale, p_mean=p.mean, p_logvar=p.logvar)
    _same_event(q, p)
    return laplace_normal(q, p.mean, p.logvar, event_ndim)


@register_kl(Laplace, StandardGaussian)
def laplace_standard(q: Laplace, p: StandardGaussian, event_ndim: int) -> Tensor:
    """1/2 sum mean^2 + 2 b^2 - 2 log b + log(pi / 2) - 2"""
    _same_length(q, p)
    return laplace_normal(q, 0.0, 0.0, event_ndim)


def laplace_normal(q: Laplace, mean: Value, logvar: Value, event_ndim: int) -> Tensor:
    half = ops.multiply(logvar, 0.5)  # log s
    log_ratio = ops.subtract(q.log_scale, half)
    deviation = ops.subtract(q.mean, mean) * ops.exp(ops.negative(half))
    terms = deviation * deviation * 0.5 + ops.exp(log_ratio * 2.0) - log_ratio + (math.log(math.pi / 2) / 2 - 1)
    return event_sum(terms, event_ndim)


@register_kl(Bernoulli, Bernoulli)
def bernoulli_bernoulli(q: Bernoulli, p: Bernoulli, event_ndim: int) -> Tensor:
    """sum P log(P / Q) + (1 - P) log((1 - P) / (1 - Q)),   P = sigmoid(l),   against Q = sigmoid(m)"""
    broadcast("kl", q_logits=q.logits, p_logits=p.logits)
    _same_event(q, p)
    # log sigmoid(l) = -log(1 + e^-l), of x = 1; that of x = 0 has the other sign of l
    one, zero = ([-ops.softplus(ops.multiply(d.logits, sign)) for d in (q, p)] for sign in (-1.0, 1.0))
    return event_sum(of_outcomes(*one) + of_outcomes(*zero), event_ndim)


@register_kl(Categorical, Categorical)
def categorical_categorical(q: Categorical, p: Categorical, event_ndim: int) -> Tensor:
    """sum_k q_k log(q_k / p_k)"""
    broadcast("kl", q_logits=q.logits, p_logits=p.logits)
    classes = [data_of(d.logits).shape[-1] for d in (q, p)]
    if classes[0] != classes[1]:
        raise ShapeError(f"kl: q has {classes[0]} classes, p has {classes[1]}; need as many")
    return of_outcomes(ops.log_softmax(q.logits), ops.log_softmax(p.logits)).sum(axis=-1)


def of_outcomes(log_q: Tensor, log_p: Tensor) -> Tensor:
    """q (e^d - 1 - d) with d = log p - log q.  Over all outcomes it sums to sum q log(q / p), for sum q e^d = sum p = 1 = sum q; and
    since no term is negative, nothing cancels where q is near p."""
    d = log_p - log_q
    far = constant_of(is_above_1, d.data)  # there q may be 0 and e^d infinite, and their product is p
    q, p = ops.exp(log_q), ops.exp(log_p)
    return ops.where(far, p - q - q * d, q * ops.exp_remainder(ops.where(far, 0.0, d)))


def is_above_1(d: Any) -> Any:
    return d.real > 1


@register_kl(Delta, Flat)
def delta_flat(q: Delta, p: Flat, event_ndim: int) -> Tensor:
    """0: what is left out is the same for all weights"""
    return event_sum(ops.multiply(q.mean, 0.0), event_ndim)


@register_kl_at(Autoregressive, Autoregressive)
def two_layers(q: Autoregressive, p: Autoregressive, z: Value) -> Tensor:
    """Where q goes up and p down, log q(z1) - log p(z1 | z2) at the sample, since z1 and z2 are dependent under q, and the KL of
    q(z2 | z1) against p(z2); where both go the same way, the KL of the first and that of the second at the sample of the first.

    These two, and that of z2, are closed forms where there are."""
    if q.lengths != p.lengths:
        raise ShapeError(f"kl: the parts of q have lengths {q.lengths}, those of p {p.lengths}; need equal lengths")
    first, second = q.parts(z)
    if q.upwards == p.upwards:
        return q.join(kl_terms_at(q.first, p.first, first), kl_terms_at(q.second(z), p.second(z), second))
    ratio = log_q_over_p(_terms(q.first), _terms(p.second(z)), first)
    return q.join(ratio, kl_terms_at(q.second(z), p.first, second))
