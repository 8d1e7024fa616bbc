"""What was the image, of which this is a noisy copy?     y = x + sigma n,  n ~ N(0, I)

The likelihood of what is seen is a closed form: of a Gaussian decoder N(y; mu, s^2 + sigma^2), of a Bernoulli one
prod_d sum_{x = 0, 1} p(x | z) N(y; x, sigma^2).  The posterior mean E[x | y] has the least squared error of all answers; a draw of
p(x | y) looks sharper and has, on average, twice that error.
"""

import math
from typing import Any

import numpy as np

from .. import ops
from ..data import to_float
from ..distributions import Bernoulli, Gaussian
from ..engine import Tensor, no_grad
from ..errors import ShapeError, UsageError
from ..inference import looking_at, need
from ..random import Stream
from ..training.measures import like
from .posterior import Restored, on_cpu, part_of, restore


class Noisy:
    """y = x + sigma n of N images, for a model.     y (N, *shape)

    gray    the pixels of a Bernoulli are gray, and an image is the mean of p(x | z); else they are bits
    """

    def __init__(self, model: Any, y: np.ndarray, sigma: float, gray: bool = True):
        self.model, self.y, self.variance, self.gray = model, y, sigma**2, gray

    def decode(self, z: Any) -> tuple[Any, str]:
        p = self.model.decode(z)
        kind = "gaussian" if type(p) is Gaussian else "mean" if self.gray else "bits" if type(p) is Bernoulli else ""
        if not kind:
            raise UsageError(
                f"p(x | z) is {type(p).__name__}, which has no closed form with noise; say gray=True, or train a gaussian model"
            )
        return p, kind

    def evidence_of_one(self) -> np.ndarray:
        """log N(y; 1, sigma^2) / N(y; 0, sigma^2) = (y - 1/2) / sigma^2"""
        return (self.y - np.asarray(0.5, self.y.dtype)) / np.asarray(self.variance, self.y.dtype)

    def log_likelihood(self, z: Any) -> Tensor:
        p, kind = self.decode(z)
        event = self.y.ndim - 1
        noise = np.full((), math.log(self.variance), self.y.dtype)
        if kind == "gaussian":
            return Gaussian(p.mean, ops.log(ops.exp(p.logvar) + self.variance), event).log_prob(self.y)
        if kind == "mean":
            return Gaussian(p.mean, noise, event).log_prob(self.y)
        odds = ops.softplus(p.logits + self.evidence_of_one()) - ops.softplus(p.logits)
        zero = Gaussian(np.zeros_like(self.y), noise, event).log_prob(self.y)
        return odds.sum(axis=tuple(range(-event, 0))) + zero

    def mean(self, z: Any) -> np.ndarray:
        p, kind = self.decode(z)
        if kind == "mean":
            return array(p.mean)
        if kind == "bits":
            return ops.sigmoid(p.logits + self.evidence_of_one()).numpy()
        mu, own = array(p.mean), np.exp(array(p.logvar))
        return mu + own / (own + self.variance) * (self.y - mu)

    def draw(self, z: Any, rng: Stream) -> np.ndarray:
        p, kind = self.decode(z)
        mean = self.mean(z)
        if kind == "mean":
            return mean
        if kind == "bits":
            return (rng.uniform(mean.shape, like=mean) < mean).astype(mean.dtype)
        own = np.exp(array(p.logvar))
        return mean + np.sqrt(own * self.variance / (own + self.variance)).astype(mean.dtype) * rng.normal(mean.shape, like=mean)


def denoise(
    model: Any,
    y: np.ndarray,
    rng: Stream,
    sigma: float | None = None,
    samples: int = 100,
    draws: int = 0,
    steps: int = 150,
    starts: int = 1,
    gray: bool = True,
) -> Restored:
    """E[x | y] and draws of p(x | y) by a model of clean images.     y (N, *shape) floats, not clipped -> Restored

    sigma      the noise's standard deviation; by default measured, `estimate_noise`
    samples    importance samples an image;  draws   images to draw from the posterior
    steps      to fit q(z | y) by, from the encoder's q(z | y) on;  starts   see `restore`
    gray       see `Noisy`

    Raises ShapeError, UsageError.
    """
    need(model, "encode", "places to start from")
    on_cpu(model)
    y = like(model, to_float(np.asarray(y)))
    sigma = estimate_noise(y) if sigma is None else sigma
    if not (math.isfinite(sigma) and sigma > 0):
        raise UsageError(f"denoise: sigma is {sigma}; need a positive number")

    def start(at: slice) -> tuple[np.ndarray, np.ndarray]:
        return encoded(part_of(model, at), y[at] if steps == 0 else np.clip(y[at], 0, 1), steps > 0)

    def observe(at: slice) -> Noisy:
        return Noisy(part_of(model, at), y[at], sigma, gray)

    return restore(model, observe, start, len(y), math.prod(y.shape[1:]), rng, samples, draws, steps, starts)


def encoded(model: Any, x: np.ndarray, wide: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and logvar of q(z | x) to start a fit from.  An encoder is as sure of itself before an image that it has never seen the like of,
    and a narrow Gaussian hardly finds its way: `wide` ones have the logvar -1, or q's own where that is more.     -> (N, K) both"""
    with looking_at(model), no_grad():
        q = model.encode(x)
        mean = array(q.mean)
        known = getattr(q, "logvar", None)
        logvar = np.full_like(mean, -1) if known is None else np.array(np.broadcast_to(array(known), mean.shape))
        return mean, np.maximum(logvar, np.asarray(-1, logvar.dtype)) if wide else logvar


def estimate_noise(y: np.ndarray) -> float:
    """sigma = median |d| / Phi^-1(3/4), d = (y_ij - y_i+1,j - y_i,j+1 + y_i+1,j+1) / 2: where the image is flat, d ~ N(0, sigma^2).

    The median forgives edges while they are a minority.  Noise that was cut off at 0 and 1 comes out too small.
    y (N, H, W, C) floats, H and W at least 2; one number for all.     D. L. Donoho, "De-noising by soft-thresholding", 1995, section 7
    """
    y = np.asarray(y)
    if y.ndim != 4 or min(y.shape[1:3]) < 2 or y.dtype.kind != "f" or not len(y):
        raise ShapeError(f"estimate_noise: y is {y.dtype} {y.shape}; need floats (N, H, W, C), of 2 rows and columns at least")
    y = y.astype(np.float64)
    d = (y[:, :-1, :-1] - y[:, 1:, :-1] - y[:, :-1, 1:] + y[:, 1:, 1:]) / 2
    sigma = float(np.median(abs(d)) / 0.6744897501960817)
    if sigma == 0:
        raise UsageError("estimate_noise: most of the images is flat to the last digit: there is no noise, or it was cut off; give sigma")
    return sigma


def array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)
