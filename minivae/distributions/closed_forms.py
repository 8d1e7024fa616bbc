"""Closed forms of KL(q || p), by pairs of classes, in nats; and the estimate that two dependent parts of a code have.

Each is the sum over the last event_ndim axes.  They are written so that nothing cancels where q is near p.
"""

import math
from typing import Any

import numpy as np

from .. import ops
from ..engine import Tensor, constant_of
from ..errors import ShapeError
from .autoregressive import Autoregressive
from .base import Value, broadcast, data_of, event_sum, widened
from .bernoulli import Bernoulli
from .categorical import Categorical
from .delta import Delta, Flat
from .gaussian import Gaussian, StandardGaussian
from .kl import kl_terms_at, log_q_over_p, register_kl, register_kl_at, same_event, same_length, terms_of
from .laplace import Laplace


@register_kl(Gaussian, StandardGaussian)
def gaussian_standard(q: Gaussian, p: StandardGaussian, event_ndim: int) -> Tensor:
    """1/2 sum mean^2 + sigma^2 - log sigma^2 - 1"""
    same_length(q, p)
    return ops.gaussian_kl_standard(q.mean, q.logvar, event_ndim)


@register_kl(Gaussian, Gaussian)
def gaussian_gaussian(q: Gaussian, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum ((mean - m) / s)^2 + r - 1 - log r,   r = sigma^2 / s^2,   against N(m, s^2)"""
    broadcast("kl", q_mean=q.mean, q_logvar=q.logvar, p_mean=p.mean, p_logvar=p.logvar)
    same_event(q, p)
    deviation = ops.subtract(q.mean, p.mean) * ops.exp(ops.multiply(p.logvar, -0.5))
    return event_sum((deviation * deviation + ops.exp_remainder(ops.subtract(q.logvar, p.logvar))) * 0.5, event_ndim)


@register_kl(StandardGaussian, Gaussian)
def standard_gaussian(q: StandardGaussian, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum m^2 / s^2 + 1 / s^2 - 1 + log s^2,   against N(m, s^2)"""
    same_event(q, p)
    precision = ops.exp(ops.negative(p.logvar))
    terms = (ops.multiply(p.mean, p.mean) * precision + ops.exp_remainder(ops.negative(p.logvar))) * 0.5
    return event_sum(widened(terms, p.shape), event_ndim)


@register_kl(StandardGaussian, StandardGaussian)
def standard_standard(q: StandardGaussian, p: StandardGaussian, event_ndim: int) -> Tensor:
    """0"""
    same_event(q, p)
    zeros = np.zeros(q.length or p.known_shape("length"), np.float32)
    return ops.gaussian_kl_standard(zeros, zeros, event_ndim)


@register_kl(Laplace, Laplace)
def laplace_laplace(q: Laplace, p: Laplace, event_ndim: int) -> Tensor:
    """sum r e^(-d / b) + d / c - 1 - log r,   d = |mean - m|, r = b / c,   against scale c at m"""
    broadcast("kl", q_mean=q.mean, q_log_scale=q.log_scale, p_mean=p.mean, p_log_scale=p.log_scale)
    same_event(q, p)
    distance = ops.absolute(ops.subtract(q.mean, p.mean))
    log_ratio = ops.subtract(q.log_scale, p.log_scale)
    u = distance * ops.exp(ops.negative(q.log_scale))  # d / b
    # r (e^-u - 1 + u) + (r - 1 - log r): both are at least 0, and near 0 no digit is lost
    return event_sum(ops.exp(log_ratio) * ops.exp_remainder(ops.negative(u)) + ops.exp_remainder(log_ratio), event_ndim)


@register_kl(Laplace, Gaussian)
def laplace_gaussian(q: Laplace, p: Gaussian, event_ndim: int) -> Tensor:
    """1/2 sum ((mean - m) / s)^2 + 2 r^2 - 2 log r + log(pi / 2) - 2,   r = b / s,   against N(m, s^2)"""
    broadcast("kl", q_mean=q.mean, q_log_scale=q.log_scale, p_mean=p.mean, p_logvar=p.logvar)
    same_event(q, p)
    return laplace_normal(q, p.mean, p.logvar, event_ndim)


@register_kl(Laplace, StandardGaussian)
def laplace_standard(q: Laplace, p: StandardGaussian, event_ndim: int) -> Tensor:
    """1/2 sum mean^2 + 2 b^2 - 2 log b + log(pi / 2) - 2"""
    same_length(q, p)
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
    same_event(q, p)
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
    ratio = log_q_over_p(terms_of(q.first), terms_of(p.second(z)), first)
    return q.join(ratio, kl_terms_at(q.second(z), p.first, second))
