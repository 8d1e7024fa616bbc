"""FactorVAE: beside the model a critic learns to tell codes from codes with their latents shuffled, and the model to evade it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..backend import xp
from ..distributions import Gaussian, kl_at
from ..engine import constant_of, stop_gradient
from ..errors import UsageError
from ..models import critic
from ..random import Stream
from .base import WARMUP, Objective, kl_scale, setting


@dataclass(frozen=True)
class Factor(Objective):
    """Two players' losses.  The model's: -ELBO + gamma mean_n log D / (1 - D), the critic's estimate of the total correlation at z.
    The critic's: the cross-entropy of telling the codes of other images, with each latent shuffled among them, from those of x.

    The critic (N, K) -> (N, 1) gives the logit log D / (1 - D) that z is from q(z); see models.critic.  Both move once a step, from the
    gradients at the weights before it.        H. Kim and A. Mnih, "Disentangling by factorising", 2018, eq. 2-3 and algorithm 2
    """

    name: ClassVar[str] = "factor"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")
    second_batch: ClassVar[bool] = True

    gamma: float = setting(10.0, "weight of the total correlation", 0)
    critic: int = setting(1000, "units of each of the critic's five layers", 1, "UNITS")
    kl_warmup: float = setting(0.0, WARMUP.replace("beta", "gamma"), 0, "EPOCHS")

    def players(self, model, rng):
        if hasattr(model, "condition"):
            raise UsageError("factor compares codes of all images alike, and here they depend on a condition; train a vae, or take tc")
        return {"model": model, "critic": critic(model.latent, rng.split("weights of the critic"), (self.critic,) * 5)}

    def optimizers(self):
        return {"critic": {"optimizer": "adam", "betas": (0.5, 0.9)}}

    def losses(self, players, batch, rng, progress):
        model, critic = players["model"], players["critic"]
        q, prior = model.encode(batch.x), model.prior
        if type(q) is not Gaussian:
            raise UsageError(f"factor needs one Gaussian q(z | x), and here it is {type(q).__name__}; train a vae, or take the elbo")
        z = q.sample(rng)
        log_likelihood = model.decode(z).log_prob(batch.x)
        divergence = kl_at(q, prior, z)
        loss = (divergence - log_likelihood).mean() + critic(z).mean() * (self.gamma * kl_scale(progress, self.kl_warmup))
        reports = {"reconstruction": -log_likelihood, "kl": divergence}
        if "critic" not in progress.turn:
            return {"model": loss}, reports
        shuffled = shuffle_latents(stop_gradient(model.encode(batch.other.x).sample(rng)), rng)
        fooled = ops.softplus(-critic(stop_gradient(z))).mean() + ops.softplus(critic(shuffled)).mean()
        return {"model": loss, "critic": fooled * 0.5}, reports

    def summary(self, measures):
        rest = measures["loss"] - measures["reconstruction"] - measures["kl"]
        return f"= {measures['reconstruction']:.2f} + {measures['kl']:.2f} {rest:+.2f} for the total correlation"


def shuffle_latents(z: Any, rng: Stream) -> Any:
    """Each column in an order of its own: from q(z), draws of the product of its marginals.     (N, K) -> (N, K)"""
    return constant_of(in_order_of, z.data, rng.uniform(z.shape, like=z.data))


def in_order_of(z: Any, u: Any) -> Any:
    """Each column of z in the order that would sort the column of u.     (N, K), (N, K) -> (N, K)"""
    module = xp(z)
    if module is np:
        return np.take_along_axis(z, u.argsort(axis=0, kind="stable"), axis=0)
    place = module.arange(len(u))  # a GPU compares all pairs: a step that sorts there cannot be captured
    equal = (u == u[:, None]) & (place < place[:, None])[:, :, None]
    rank = ((u < u[:, None]) | equal).sum(axis=1)
    return module.where(rank == place[:, None, None], z, z.dtype.type(0)).sum(axis=1)
