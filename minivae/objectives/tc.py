"""The total correlation, weighed by itself: beta-TCVAE."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from .. import ops
from ..distributions import Gaussian, kl_at
from ..engine import Tensor
from ..errors import UsageError
from ..models import conditioned
from .base import WARMUP, Objective, kl_scale, setting


class Parts(NamedTuple):
    """The KL of a batch, cut in three; each up to a constant that N and the batch decide (see `minibatch_parts`)."""

    mutual_information: Tensor  # (N,)
    total_correlation: Tensor  # (N,)
    dimension_kl: Tensor  # (N,)


def minibatch_parts(q: Any, prior: Any, z: Any, size: int) -> Parts:
    """log q(z|x) / q(z),  log q(z) / prod_k q(z_k)  and  log prod_k q(z_k) / p(z)  at z ~ q, p the prior, with q(z) and each q(z_k) from
    the batch: q(z) = 1 / (N M) sum_m q(z | x_m) over its M images, of `size` = N in the data.     z (M, K)

    Minibatch-weighted sampling, R. T. Q. Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018, eq. 5.
    It takes the other images of the batch for strangers to z: where the batch is all of the data it is log N too low, for q(z) as for each
    q(z_k), so that the mutual information comes out log N too large, and the total correlation (K - 1) log N.  Their sum has no bias.
    """
    if type(q) is not Gaussian:
        raise UsageError(f"total correlation needs one Gaussian q(z | x), and here it is {type(q).__name__}; train a vae, or take the elbo")
    if z.ndim != 2 or size < len(z):
        raise UsageError(
            f"total correlation: z is {z.shape}, the data are {size} images; need one sample an image, and no more than the data"
        )
    batch, latent = z.shape
    alone = Gaussian(q.mean, q.logvar, event_ndim=0)
    every = alone.log_prob(z.reshape(batch, 1, latent))  # (M, M, K): row n, Gaussian m
    offset = math.log(batch * size)
    joint = ops.logsumexp(every.sum(axis=2), axis=1) - offset
    marginals = ops.logsumexp(every, axis=1) - offset  # (M, K)
    product = marginals.sum(axis=1)
    return Parts(q.log_prob(z) - joint, joint - product, product - prior.log_prob(z))


@dataclass(frozen=True)
class TotalCorrelation(Objective):
    """loss = mean_n -E_q[log p(x | z)] + I(n; z) + beta KL(q(z) || prod_k q(z_k)) + sum_k KL(q(z_k) || p(z_k)): beta-TCVAE.

    A batch stands for q(z), as `minibatch_parts` has it.
    R. T. Q. Chen et al. 2018, eq. 4 with alpha = gamma = 1; at beta = 1 it would be the ELBO.
    """

    name: ClassVar[str] = "tc"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    beta: float = setting(6.0, "weight of the total correlation", 0)
    kl_warmup: float = setting(0.0, WARMUP, 0, "EPOCHS")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta == 1:
            raise UsageError("beta is 1, and there tc is the elbo; give more (the paper's is 6), or take the elbo")

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        q, prior = model.encode(batch.x), model.prior
        z = q.sample(rng)
        log_likelihood = model.decode(z).log_prob(batch.x)
        parts = minibatch_parts(q, prior, z, progress.size)
        correlation = parts.total_correlation * (self.beta * kl_scale(progress, self.kl_warmup))
        loss = (parts.mutual_information + correlation + parts.dimension_kl - log_likelihood).mean()
        return {"model": loss}, {"reconstruction": -log_likelihood, "kl": kl_at(q, prior, z)}

    def evaluation_batch(self, batch_size):
        return batch_size  # the estimate depends on the batch: one size for training and test

    def summary(self, measures):
        # about (beta - 1) (K - 1) log N of it no weight moves: see minibatch_parts
        rest = measures["loss"] - measures["reconstruction"] - measures["kl"]
        parts = f"= {measures['reconstruction']:.2f} + {measures['kl']:.2f} {rest:+.2f}"
        return f"{parts} for the total correlation, with a constant of its estimate"
