"""Bounds on log p(x) by importance sampling."""

import math
from typing import Any

import numpy as np

from ..engine import no_graph
from ..random import Stream


def log_likelihood(model: Any, x: Any, rng: Stream, samples: int = 100) -> np.ndarray:
    """log 1/k sum_i p(x, z_i) / q(z_i | x), z_i ~ q(z | x): at most log p(x) on average, and closer the larger k = samples.

    In nats.     x (N, H, W, C) -> (N,)        Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8
    """
    with no_graph():
        q = model.encode(x)
        largest, total = np.full(len(x), -np.inf), np.zeros(len(x))
        for _ in range(samples):  # one sample at a time: memory does not grow with k
            z = q.sample(rng)
            log_weight = (model.decode(z).log_prob(x) + model.prior.log_prob(z) - q.log_prob(z)).numpy().astype(np.float64)
            before, largest = largest, np.maximum(largest, log_weight)  # a running log-sum-exp
            total = total * np.exp(before - largest) + np.exp(log_weight - largest)
    return largest + np.log(total) - math.log(samples)
