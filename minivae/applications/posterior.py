"""E[x | y] and draws of x for an image that is known in part: z by importance sampling from Gaussians fitted to what is known.

An observation y of an image (noisy, or with pixels missing) has a likelihood p(y | z) that the decoder gives in closed form.  Gaussians
q_1 ... q_S of z are fitted to it, by the ELBO of y, from S places: a posterior of several modes can be found by several.  Then

    z_i ~ 1/S sum_s q_s(z),   w_i = p(y | z_i) p(z_i) / (1/S sum_s q_s(z_i)),   E[x | y] = sum_i w_i E[x | z_i, y] / sum_i w_i

The mean of w_i is p(y) without bias, and the self-normalized mean converges to E[x | y] whatever the fit; the effective sample size
(sum w)^2 / sum w^2 tells how well it did.     P.-A. Mattei and J. Frellsen, "MIWAE", 2019, eq. 12 to 14
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import ops
from ..backend import xp
from ..distributions import Gaussian, sample_and_kl
from ..engine import Tensor, gradients, no_grad, stop_gradient
from ..errors import UsageError
from ..inference import parts
from ..nn import evaluating
from ..random import Stream
from ..training.optimizers import Adam

POOL = 30
NUMBERS = 2**24  # of decoded pixels at a time: 64 MiB


class Observation(Protocol):
    """What is known of N images.  z is (..., N, K)."""

    model: Any  # whose prior p(z) is that of these N images

    def log_likelihood(self, z: Any) -> Tensor:
        """log p(y | z).     -> (..., N)"""

    def mean(self, z: Any) -> np.ndarray:
        """E[x | z, y].     -> (..., N, *shape of x)"""

    def draw(self, z: Any, rng: Stream) -> np.ndarray:
        """x ~ p(x | z, y).     -> (..., N, *shape of x)"""


class Restored(NamedTuple):
    """What an observation says of the images behind it."""

    mean: np.ndarray  # (N, *shape), E[x | y]
    draws: np.ndarray  # (draws, N, *shape), x ~ p(x | y)
    effective: np.ndarray  # (N,), the effective number of samples
    log_evidence: np.ndarray  # (N,), log p(y), nats


def fit_posterior(
    log_likelihood: Callable[[Any], Tensor],
    prior: Any,
    mean: np.ndarray,
    logvar: np.ndarray,
    rng: Stream,
    steps: int = 100,
    lr: float = 0.1,
) -> Gaussian:
    """q* = argmin KL(q || p(z | y)) over Gaussians with independent latents, from a start.     mean, logvar (..., N, K)

    log_likelihood    z (..., N, K) -> log p(y | z) (..., N)

    Adam on one draw a step, lr falling to 0 along half a cosine; each number is stepped by itself, so that no image knows of another.
    In the first half of the steps the KL to the prior is taken in closed form, where there is one.  In the second the gradient is that of
    the path alone, which has no variance where q is the posterior (G. Roeder et al., "Sticking the landing", 2017); far from there, where q
    is narrow, it has much, epsilon / sigma.
    """
    place, spread = Tensor(np.array(mean)), Tensor(np.array(logvar))
    if not steps:
        return Gaussian(place.data, spread.data)
    optimizer = Adam([place, spread], lr)
    for step in range(steps):
        optimizer.lr = lr * (1 + math.cos(math.pi * step / steps)) / 2
        z, divergence = sample_and_kl(Gaussian(place, spread), prior, rng)
        if 2 * step >= steps:
            divergence = Gaussian(stop_gradient(place), stop_gradient(spread)).log_prob(z) - prior.log_prob(z)
        loss = (divergence - log_likelihood(z)).sum()
        optimizer.step(gradients(loss, [place, spread]))
    return Gaussian(place.data.copy(), spread.data.copy())


def part_of(model: Any, at: slice) -> Any:
    """The model of some of the images, where it was told a condition of each."""
    return model.part(at) if hasattr(model, "part") else model


def restore(
    model: Any,
    observe: Callable[[slice], Observation],
    start: Callable[[slice], tuple[np.ndarray, np.ndarray]],
    count: int,
    pixels: int,
    rng: Stream,
    samples: int = 100,
    draws: int = 0,
    steps: int = 100,
    starts: int = 2,
) -> Restored:
    """`Restored` for `count` images of so many pixels, part by part; start(part) is the first Gaussian's mean and logvar (N, K).

    starts    places that a Gaussian is fitted from: the first, and draws from the prior, see `likely`
    samples   are shared among the Gaussians, in pairs z and its mirror image about the mean, so that what is linear in z has no noise
    """
    if samples < 2 * starts or samples % (2 * starts) or starts < 1 or draws < 0 or steps < 0:
        raise UsageError(
            f"restore: samples {samples}, starts {starts}, draws {draws}, steps {steps}; need a multiple of 2 starts of samples"
        )
    on_cpu(model)
    found = []
    with evaluating(model):
        for at in parts(count, max(1, NUMBERS // (samples * pixels))):
            found.append(restore_part(observe(at), *start(at), rng, samples, draws, steps, starts))
    if not found:
        raise UsageError("restore: there are no images")
    mean, drawn, effective, evidence = zip(*found, strict=True)
    return Restored(np.concatenate(mean), np.concatenate(drawn, axis=1), np.concatenate(effective), np.concatenate(evidence))


def on_cpu(model: Any) -> None:
    if xp(model.parameters()[0].data) is not np:
        raise UsageError("images are restored on the CPU, and the model is on a GPU; move it with model.to('cpu') (--device cpu)")


def restore_part(
    observation: Observation,
    mean: np.ndarray,
    logvar: np.ndarray,
    rng: Stream,
    samples: int,
    draws: int,
    steps: int,
    starts: int,
) -> Restored:
    N, K = mean.shape
    with no_grad():
        prior = observation.model.prior
        means = np.concatenate([mean[None], likely(observation, prior, starts - 1, N, K, rng, mean)])
    q = fit_posterior(observation.log_likelihood, prior, means, np.broadcast_to(logvar, means.shape), rng, steps)
    with no_grad():
        noise = rng.normal((samples // (2 * starts), starts, N, K), like=mean)
        z = np.asarray(q.mean) + np.exp(np.asarray(q.logvar) / 2) * np.concatenate([noise, -noise])  # (2 pairs, S, N, K)
        z = z.reshape(-1, N, K)
        log_q = ops.logsumexp(q.log_prob(z[:, None]), axis=1).numpy().astype(np.float64) - math.log(starts)  # (samples, N)
        log_w = (observation.log_likelihood(z) + prior.log_prob(z)).numpy().astype(np.float64) - log_q
        largest = log_w.max(axis=0)
        w = np.exp(log_w - largest)
        total = w.sum(axis=0)
        share = w / total
        every = observation.mean(z)  # (samples, N, *shape)
        expected = np.einsum("kn,kn...->n...", share, every)
        chosen = np.stack([np.searchsorted(np.cumsum(share[:, n]), rng.uniform(draws, like=np.zeros(0))) for n in range(N)], axis=1)
        chosen = np.minimum(chosen, samples - 1)
        drawn = observation.draw(z[chosen, np.arange(N)], rng) if draws else np.zeros((0, *expected.shape), every.dtype)
    return Restored(expected, drawn, 1 / (share**2).sum(axis=0), largest + np.log(total / samples))


def likely(observation: Observation, prior: Any, starts: int, N: int, K: int, rng: Stream, like: np.ndarray) -> np.ndarray:
    """Places to start from: the s-th is the likeliest of s^2 draws from the prior, of POOL at most.  The first are far afield, so that the
    tails of a posterior are not missed, and the last are near where it is large.     -> (starts, N, K)"""
    found = np.zeros((starts, N, K), like.dtype)
    for s in range(starts):
        pool = min((s + 1) ** 2, POOL)
        z = stop_gradient(prior.sample(rng, pool * N, like=like)).data.reshape(pool, N, K)
        found[s] = z[observation.log_likelihood(z).numpy().argmax(axis=0), np.arange(N)]
    return found
