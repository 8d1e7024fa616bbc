"""Probability distributions over Tensors: log_prob, sample by reparameterization, kl(q, p).

A distribution holds parameters of shape (*batch, *event); `event_ndim` says how many trailing axes are one event, over which
log-probabilities are summed: 1 for a latent vector, 3 for an image (H, W, C).  Everything is in nats.

Continuous samples are differentiable functions of the parameters and of noise that has none (the reparameterization trick); samples of
Bernoulli and Categorical are constants.
"""

import math
from typing import Any

import numpy as np

from . import ops
from .backend import xp
from .engine import Tensor, stop_gradient
from .errors import ShapeError
from .ops.densities import continuous_bernoulli_log_normalizer_vjp
from .random import Stream

Value = Any  # a Tensor, an array or a number


def _data(value: Value) -> Any:
    if type(value) is Tensor:
        return value.data
    return value if hasattr(value, "dtype") else np.asarray(value, dtype=np.float32)


def _location_scale(kind: str, mean: Value, log_scale: Value, name: str) -> tuple[Value, Value]:
    """Both parameters, with a number made an array of the other's dtype and device: as a float64 scalar it would promote float32."""
    if type(mean) is type(log_scale) is Tensor and mean.data.shape == log_scale.data.shape:
        return mean, log_scale
    like = next((_data(value) for value in (mean, log_scale) if hasattr(value, "dtype")), np.zeros((), np.float32))
    mean, log_scale = (value if hasattr(value, "dtype") else xp(like).asarray(value, like.dtype) for value in (mean, log_scale))
    _broadcast(kind, **{"mean": mean, name: log_scale})
    return mean, log_scale


def _broadcast(kind: str, **named: Value) -> tuple[int, ...]:
    """The shape that the named values broadcast to."""
    shapes = {name: _data(value).shape for name, value in named.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        stated = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise ShapeError(f"{kind}: {stated}; need shapes that broadcast") from None


def _check_event(name: str, x: Value, event_ndim: int, *parameters: Value) -> None:
    shape = _data(x).shape
    if len(shape) >= event_ndim:
        for parameter in parameters:
            if _data(parameter).shape != shape:
                break
        else:
            return
    own = np.broadcast_shapes(*(_data(parameter).shape for parameter in parameters))
    batch, event = own[: max(len(own) - event_ndim, 0)], own[max(len(own) - event_ndim, 0) :]
    if len(shape) < event_ndim or shape[len(shape) - event_ndim :] != event:
        raise ShapeError(f"{name}.log_prob: x is {shape}, one event is {event}; need x of shape (..., {', '.join(map(str, event))})")
    for n, own_n in zip(reversed(shape[: len(shape) - event_ndim]), reversed(batch), strict=False):
        if n != own_n and 1 not in (n, own_n):
            raise ShapeError(f"{name}.log_prob: x is {shape}, the batch is {batch}; need x of shape (..., {', '.join(map(str, own))})")


class Gaussian:
    """N(mean, sigma^2), independent per element, sigma^2 = exp(logvar).     mean, logvar (*batch, *event)

    A head that predicts log sigma instead: `Gaussian.from_log_sigma(mean, log_sigma)`.
    """

    def __init__(self, mean: Value, logvar: Value, event_ndim: int = 1):
        self.mean, self.logvar = _location_scale("Gaussian", mean, logvar, "logvar")
        self.event_ndim = event_ndim

    @classmethod
    def from_log_sigma(cls, mean: Value, log_sigma: Value, event_ndim: int = 1) -> "Gaussian":
        return cls(mean, log_sigma * 2.0, event_ndim)

    @property
    def sigma(self) -> Value:
        return ops.exp(self.logvar * 0.5)

    def log_prob(self, x: Value) -> Tensor:
        """-1/2 sum ((x - mean) / sigma)^2 + log sigma^2 + log 2 pi.     x (*batch, *event) -> (*batch)"""
        _check_event("Gaussian", x, self.event_ndim, self.mean, self.logvar)
        return ops.gaussian_log_prob(x, self.mean, self.logvar, self.event_ndim)

    def sample(self, rng: Stream, samples: tuple[int, ...] = ()) -> Tensor:
        """mean + sigma eps, eps ~ N(0, I) from rng.     -> (*samples, *batch, *event)"""
        shape = self.mean.shape
        if self.logvar.shape != shape:
            shape = _broadcast("Gaussian", mean=self.mean, logvar=self.logvar)
        return ops.reparameterize(self.mean, self.logvar, rng.normal((*samples, *shape), like=_data(self.mean)))

    def sample_and_kl(self, rng: Stream) -> tuple[Tensor, Tensor]:
        """(sample(rng), kl(self, N(0, I))) in one pass.     -> (*batch, *event), (*batch)"""
        shape = _broadcast("Gaussian", mean=self.mean, logvar=self.logvar)
        return ops.sample_and_kl(self.mean, self.logvar, rng.normal(shape, like=_data(self.mean)), self.event_ndim)


class StandardGaussian:
    """N(0, I): the prior of the latent vector."""

    event_ndim = 1

    def log_prob(self, z: Value) -> Tensor:
        """-1/2 sum z^2 + log 2 pi.     z (*batch, K) -> (*batch)"""
        data = _data(z)
        return ops.gaussian_log_prob(z, 0.0, xp(data).zeros((), data.real.dtype), self.event_ndim)

    def sample(self, rng: Stream, shape: tuple[int, ...], like: Any = None) -> Tensor:
        """Standard normal noise, a constant; dtype and device of `like`.     -> shape"""
        return stop_gradient(rng.normal(shape, like=like))


class Bernoulli:
    """p(x = 1) = sigmoid(logits), independent per element.  x may be any number in [0, 1]: then log_prob is minus the cross-entropy,
    which is no density (its exponential does not integrate to one): see ContinuousBernoulli.     logits (*batch, *event)"""

    def __init__(self, logits: Value, event_ndim: int = 1):
        self.logits, self.event_ndim = logits, event_ndim

    @property
    def mean(self) -> Tensor:
        return ops.sigmoid(self.logits)

    def log_prob(self, x: Value) -> Tensor:
        """sum x l - log(1 + e^l).     x (*batch, *event) -> (*batch)"""
        _check_event("Bernoulli", x, self.event_ndim, self.logits)
        return ops.bernoulli_log_prob(self.logits, x, self.event_ndim)

    def sample(self, rng: Stream) -> Tensor:
        """Zeros and ones, a constant.     -> (*batch, *event)"""
        mean = self.mean.data
        return stop_gradient((rng.uniform(mean.shape, like=mean) < mean).astype(mean.dtype))


class ContinuousBernoulli:
    """Density C(l) p^x (1 - p)^(1 - x) on [0, 1] with p = sigmoid(logits): the Bernoulli made a density for gray pixels.

    G. Loaiza-Ganem and J. P. Cunningham, "The continuous Bernoulli", NeurIPS 2019.
    """

    def __init__(self, logits: Value, event_ndim: int = 1):
        self.logits, self.event_ndim = logits, event_ndim

    @property
    def mean(self) -> Tensor:
        """E[x] = d log Z / dl = 1 / (1 - e^-l) - 1 / l, which is sigmoid(l) less the slope of log C; 1/2 at l = 0."""
        (slope,) = continuous_bernoulli_log_normalizer_vjp(1, _data(self.logits))
        return stop_gradient(ops.sigmoid(self.logits).data - slope)

    def log_prob(self, x: Value) -> Tensor:
        """sum x l - log(1 + e^l) + log C(l).     x (*batch, *event) -> (*batch)"""
        _check_event("ContinuousBernoulli", x, self.event_ndim, self.logits)
        normalizer = ops.continuous_bernoulli_log_normalizer(self.logits)
        axes = tuple(range(-self.event_ndim, 0))
        return ops.bernoulli_log_prob(self.logits, x, self.event_ndim) + normalizer.sum(axis=axes)

    def sample(self, rng: Stream) -> Tensor:
        """By the inverse distribution function, log(1 + u (e^l - 1)) / l, with u uniform.     -> (*batch, *event)"""
        logits = self.logits if isinstance(self.logits, Tensor) else stop_gradient(_data(self.logits))
        u = rng.uniform(logits.shape, like=logits.data)
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


class Categorical:
    """p(x = k) = softmax(logits)_k.     logits (*batch, K); x integers (*batch)"""

    event_ndim = 0

    def __init__(self, logits: Value):
        self.logits = logits

    @property
    def probabilities(self) -> Tensor:
        return ops.softmax(self.logits)

    def log_prob(self, x: Any) -> Tensor:
        """log softmax(logits)[x].     x (*batch) -> (*batch)"""
        labels = _data(x) if hasattr(x, "dtype") else np.asarray(x)
        logits = _data(self.logits)
        if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:-1]:
            raise ShapeError(f"Categorical.log_prob: x is {labels.dtype} {labels.shape}; need integers of shape {logits.shape[:-1]}")
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[-1]:
            raise ShapeError(f"Categorical.log_prob: x runs from {labels.min()} to {labels.max()}; need 0 to {logits.shape[-1] - 1}")
        rows = ops.log_softmax(self.logits).reshape(-1, logits.shape[-1])
        return rows[np.arange(labels.size), labels.reshape(-1)].reshape(labels.shape)

    def sample(self, rng: Stream) -> np.ndarray:
        """The index of the largest logit + Gumbel noise, int64.     -> (*batch)"""
        logits = _data(self.logits)
        module = xp(logits)
        u = rng.uniform(logits.shape, like=logits)
        exponential = -module.log1p(-module.maximum(u, module.finfo(u.dtype).eps / 4))  # u = 0 stands for half a step of its grid
        return module.argmax(logits - module.log(exponential), axis=-1)


class Laplace:
    """Density exp(-|x - mean| / b) / 2 b, independent per element, b = exp(log_scale).     mean, log_scale (*batch, *event)"""

    def __init__(self, mean: Value, log_scale: Value, event_ndim: int = 1):
        self.mean, self.log_scale = _location_scale("Laplace", mean, log_scale, "log_scale")
        self.event_ndim = event_ndim

    def log_prob(self, x: Value) -> Tensor:
        """-sum |x - mean| / b + log 2 b.     x (*batch, *event) -> (*batch)"""
        _check_event("Laplace", x, self.event_ndim, self.mean, self.log_scale)
        deviation = ops.absolute(ops.subtract(x, self.mean)) * ops.exp(ops.negative(self.log_scale))
        return -(deviation + self.log_scale + math.log(2)).sum(axis=tuple(range(-self.event_ndim, 0)))

    def sample(self, rng: Stream) -> Tensor:
        """mean - b sign(v) log(1 - 2 |v|), v uniform on (-1/2, 1/2).     -> (*batch, *event)"""
        shape = _broadcast("Laplace", mean=self.mean, log_scale=self.log_scale)
        v = 0.5 - rng.uniform(shape, like=_data(self.mean))  # (-1/2, 1/2]
        module = xp(v)
        noise = -module.sign(v) * module.log1p(-2 * module.minimum(abs(v), 0.5 - module.finfo(v.dtype).eps / 4))
        return self.mean + ops.exp(self.log_scale) * noise


def kl(q: Gaussian, p: Gaussian | StandardGaussian) -> Tensor:
    """KL(q || p) = E_q[log q - log p] in closed form, summed over the event, in nats.     -> (*batch)

    Against N(0, I):    1/2 sum mean^2 + sigma^2 - log sigma^2 - 1
    Against N(m, s^2):  1/2 sum ((mean - m) / s)^2 + r - 1 - log r,   r = sigma^2 / s^2
    """
    if isinstance(q, Gaussian) and isinstance(p, StandardGaussian):
        return ops.gaussian_kl_standard(q.mean, q.logvar, q.event_ndim)
    if isinstance(q, Gaussian) and isinstance(p, Gaussian):
        _broadcast("kl", q_mean=q.mean, q_logvar=q.logvar, p_mean=p.mean, p_logvar=p.logvar)
        deviation = ops.subtract(q.mean, p.mean) * ops.exp(ops.multiply(p.logvar, -0.5))
        terms = (deviation * deviation + ops.exp_remainder(ops.subtract(q.logvar, p.logvar))) * 0.5
        return terms.sum(axis=tuple(range(-q.event_ndim, 0)))
    raise ShapeError(f"kl: no closed form for {type(q).__name__} against {type(p).__name__}; need Gaussian against Gaussian or N(0, I)")
