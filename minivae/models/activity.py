"""Which latents a model uses, and how much is said by each."""

from typing import Any, NamedTuple

import numpy as np

from ..engine import no_grad
from ..random import Stream


class Activity(NamedTuple):
    active: np.ndarray  # (K,) bool
    kl: np.ndarray  # (K,), the mean over the images of each latent's part of the KL, in nats


def active_units(means: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Which latents the encoder uses: the variance over the data of q's mean exceeds the threshold.     (N, K) -> (K,) bool

    Burda et al. 2016, section 5.1."""
    return means.var(axis=0) > threshold


def activity(model: Any, x: Any, rng: Stream) -> Activity:
    """Active units and the KL of each latent on these images.     x (N, H, W, C)"""
    with no_grad():
        q = model.encode(x)
        by_latent = model.latent_kl(q, q.sample(rng)).numpy()
        return Activity(active_units(q.mean.numpy()), by_latent.mean(axis=0, dtype=np.float64))
