"""Which latents a model uses, and how much is said by each."""

from typing import Any, NamedTuple

import numpy as np

from ..distributions import Delta, kl_terms_at
from ..engine import Tensor, no_grad, stop_gradient
from ..errors import UsageError
from ..random import Stream


class Activity(NamedTuple):
    active: np.ndarray  # (K,) bool
    kl: np.ndarray | None  # (K,), the mean over the images of each latent's part of the KL, in nats; None where there is none


def active_units(means: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Which latents the encoder uses: the variance over the data of q's mean exceeds the threshold.     (N, K) -> (K,) bool

    Burda et al. 2016, section 5.1."""
    return means.var(axis=0) > threshold


def activity(model: Any, x: Any, rng: Stream) -> Activity:
    """Active units and the KL of each latent on these images.     x (N, ...)"""
    with no_grad():
        q, prior = model.encode(x), model.prior
        z = q.sample(rng)
        if not hasattr(q, "mean"):
            raise UsageError(
                f"activity: {type(q).__name__}, the model's q(z | x), has no mean, whose variance tells which latents are used"
            )
        mean = q.mean if isinstance(q.mean, Tensor) else stop_gradient(q.mean)
        active = active_units(mean.numpy().reshape(len(x), -1))
        try:
            by_latent = kl_terms_at(q, prior, z).numpy().mean(axis=0, dtype=np.float64).reshape(-1)
        except UsageError:  # a distribution that cannot tell its numbers apart
            by_latent = None
        return Activity(active, None if isinstance(q, Delta) else by_latent)
