"""Bounds on log p(x) by importance sampling."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..engine import no_grad
from ..errors import UsageError
from ..random import Stream


def log_weights(model: Any, x: Any, rng: Stream, samples: int) -> Iterator[np.ndarray]:
    """log w = log p(x, z) / q(z | x) in nats, z ~ q(z | x): one draw of (N,) after the other.     x (N, H, W, C)"""
    with no_grad():
        q, prior = model.encode(x), model.prior  # once: a learned prior is a network
    for _ in range(samples):
        with no_grad():
            z = q.sample(rng)
            log_weight = model.decode(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
        yield log_weight.numpy().astype(np.float64)


def log_likelihood(model: Any, x: Any, rng: Stream, samples: int = 100) -> np.ndarray:
    """log 1/k sum_i p(x, z_i) / q(z_i | x), z_i ~ q(z | x): at most log p(x) on average, and closer the larger k = samples.

    In nats.     x (N, H, W, C) -> (N,)        Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8
    """
    largest, total = np.full(len(x), -np.inf), np.zeros(len(x))
    for log_weight in log_weights(model, x, rng, samples):  # one sample at a time: memory does not grow with k
        before, largest = largest, np.maximum(largest, log_weight)  # a running log-sum-exp
        total = total * np.exp(before - largest) + np.exp(log_weight - largest)
    return largest + np.log(total) - math.log(samples)


def log_likelihoods(model: Any, x: Any, rng: Stream, samples: Sequence[int]) -> np.ndarray:
    """`log_likelihood` for several k from the same draws, as many as the largest k: each the mean over all groups of k that they make.

    In nats; memory grows with the largest k.     x (N, H, W, C) -> (len(samples), N)
    """
    if len(samples) == 0 or min(samples) < 1:
        raise UsageError(f"log_likelihoods: samples are {list(samples)}; need numbers of samples from 1 up")
    weights = np.stack(list(log_weights(model, x, rng, max(samples))))  # (draws, N)

    def bound(k: int) -> np.ndarray:
        groups = weights[: len(weights) // k * k].reshape(-1, k, len(x))
        return np.logaddexp.reduce(groups, axis=1).mean(axis=0) - math.log(k)

    return np.stack([bound(k) for k in samples])
