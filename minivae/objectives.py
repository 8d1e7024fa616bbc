"""What training minimises: the same model, another objective.

Losses are nats per image: sums over pixels and latents, the mean over the batch.
"""

import math
from typing import Any, NamedTuple

from . import ops
from .backend import xp
from .distributions import Gaussian
from .engine import Tensor, stop_gradient
from .errors import UsageError
from .random import Stream


class Terms(NamedTuple):
    """A loss and what it is made of."""

    loss: Tensor  # (), what is minimised
    log_likelihood: Tensor  # (N,), log p(x | z), one sample of z an image
    kl: Tensor  # (N,), KL(q(z | x) || p(z))

    @property
    def reconstruction(self) -> Tensor:
        """-log p(x | z).     -> (N,)"""
        return -self.log_likelihood


def elbo(model: Any, x: Any, rng: Stream, beta: float = 1.0) -> Terms:
    """loss = mean_n -E_q[log p(x | z)] + beta KL(q(z | x) || p(z)), the expectation by one reparameterized sample.

    At beta = 1 it is the negative evidence lower bound, -ELBO >= -log p(x); at beta = 0 the reconstruction alone.     x (N, H, W, C)

    D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014, eq. 7; beta: I. Higgins et al., "beta-VAE", 2017, eq. 4.
    """
    q = model.encode(x)
    z, divergence = model.sample_and_divergence(q, rng)
    log_likelihood = model.decode(z).log_prob(x)
    loss = ((divergence if beta == 1 else divergence * beta) - log_likelihood).mean()
    return Terms(loss, log_likelihood, divergence)


def iwae(model: Any, x: Any, rng: Stream, samples: int = 50) -> Tensor:
    """loss = mean_n -log 1/k sum_i p(x, z_i) / q(z_i | x), z_i ~ q(z | x), k = samples: a tighter bound than the ELBO for k > 1.     -> ()

    Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """
    return importance_weighted(model, x, rng, samples).loss


def importance_weighted(model: Any, x: Any, rng: Stream, samples: int = 50) -> Terms:
    """The loss of `iwae`, beside the means over its samples of log p(x | z) and of log q(z | x) / p(z), which at k = 1 are its parts."""
    q = model.encode(x)
    z = q.sample(rng, (samples,))  # (k, N, K)
    log_likelihood = model.decode(z).log_prob(x)  # (k, N)
    log_ratio = model.prior.log_prob(z) - q.log_prob(z)
    loss = math.log(samples) - ops.logsumexp(log_likelihood + log_ratio, axis=0).mean()
    return Terms(loss, stop_gradient(log_likelihood.data.mean(axis=0)), stop_gradient(-log_ratio.data.mean(axis=0)))


def regularizer(model: Any, x: Any, rng: Stream) -> Terms:
    """loss = mean_n KL(q(z | x) || p(z)) alone: no gradient reaches the decoder, and every q becomes the prior."""
    terms = elbo(model, x, rng)
    return terms._replace(loss=terms.kl.mean())


def capacity(model: Any, x: Any, rng: Stream, beta: float = 1000.0, capacity: float = 25.0) -> Terms:
    """loss = mean_n -E_q[log p(x | z)] + beta |mean_n KL - capacity|: the code is asked for so many nats, neither more nor fewer.

    C. P. Burgess et al., "Understanding disentangling in beta-VAE", 2018, eq. 8; capacity rises during training, and beta is their gamma.
    """
    terms = elbo(model, x, rng)
    excess = ops.absolute(terms.kl.mean() - capacity)
    return terms._replace(loss=terms.reconstruction.mean() + excess * beta)


def free_bits(model: Any, x: Any, rng: Stream, beta: float = 1.0, free: float = 0.1) -> Terms:
    """loss = mean_n -E_q[log p(x | z)] + beta sum_k max(free, mean_n KL_k): the first `free` nats of each latent cost nothing.

    D. P. Kingma et al., "Improving variational inference with inverse autoregressive flow", 2016, eq. 15, each latent a group.
    """
    q = model.encode(x)
    z = q.sample(rng)
    log_likelihood = model.decode(z).log_prob(x)
    by_latent = model.latent_kl(q, z)  # (N, K)
    cost = ops.maximum(by_latent.mean(axis=0), free).sum()
    return Terms(cost * beta - log_likelihood.mean(), log_likelihood, by_latent.sum(axis=-1))


class Parts(NamedTuple):
    """The KL of a batch, cut in three; each up to a constant that N and the batch decide (see `minibatch_parts`)."""

    mutual_information: Tensor  # (N,)
    total_correlation: Tensor  # (N,)
    dimension_kl: Tensor  # (N,)


def minibatch_parts(q: Gaussian, prior: Any, z: Any, size: int) -> Parts:
    """log q(z|x) / q(z),  log q(z) / prod_k q(z_k)  and  log prod_k q(z_k) / p(z)  at z ~ q, p the prior, with q(z) and each q(z_k) from
    the batch: q(z) = 1 / (N M) sum_m q(z | x_m) over its M images, of `size` = N in the data.     z (M, K)

    Minibatch-weighted sampling, R. T. Q. Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018, eq. 5.
    It takes the other images of the batch for strangers to z: where the batch is all of the data it is log N too low, for q(z) as for each
    q(z_k), so that the mutual information comes out log N too large, and the total correlation (K - 1) log N.  Their sum has no bias.
    """
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


def total_correlation(model: Any, x: Any, rng: Stream, size: int, beta: float = 6.0) -> Terms:
    """loss = mean_n -E_q[log p(x | z)] + I(n; z) + beta KL(q(z) || prod_k q(z_k)) + sum_k KL(q(z_k) || p(z_k)): beta-TCVAE.

    A batch stands for q(z), as `minibatch_parts` has it; `size` is the number of images in the data.

    R. T. Q. Chen et al. 2018, eq. 4 with alpha = gamma = 1; beta = 1 is the ELBO.
    """
    q = model.encode(x)
    z = q.sample(rng)
    log_likelihood = model.decode(z).log_prob(x)
    parts = minibatch_parts(q, model.prior, z, size)
    loss = (parts.mutual_information + parts.total_correlation * beta + parts.dimension_kl - log_likelihood).mean()
    return Terms(loss, log_likelihood, model.divergence(q, z))


def factor_vae(model: Any, critic: Any, x: Any, others: Any, rng: Stream, gamma: float = 10.0) -> tuple[Terms, Tensor]:
    """Two players' losses.  The model's: -ELBO + gamma mean_n log D / (1 - D), the critic's estimate of the total correlation at z.
    The critic's: the cross-entropy of telling the codes of `others`, with each latent shuffled among them, from those of x.

        terms, loss = factor_vae(model, critic, x, others, rng)
        gs, hs = gradients(terms.loss, model.parameters()), gradients(loss, critic.parameters())

    critic (N, K) -> (N, 1), the logit log D / (1 - D) that z is from q(z); see models.critic.  Both gradients are those at the weights
    before either step.        H. Kim and A. Mnih, "Disentangling by factorising", 2018, eq. 2-3 and algorithm 2
    """
    q = model.encode(x)
    z = q.sample(rng)
    log_likelihood = model.decode(z).log_prob(x)
    divergence = model.divergence(q, z)
    logits = critic(z)
    terms = Terms((divergence - log_likelihood).mean() + logits.mean() * gamma, log_likelihood, divergence)
    shuffled = shuffle_latents(model.encode(others).sample(rng).data, rng)
    true = critic(stop_gradient(z))
    loss = ops.softplus(-true).mean() + ops.softplus(critic(shuffled)).mean()
    return terms, loss * 0.5


def shuffle_latents(z: Any, rng: Stream) -> Any:
    """Each column in an order of its own: from q(z), draws of the product of its marginals.     array (N, K) -> (N, K)"""
    module = xp(z)
    return module.stack([z[module.asarray(rng.permutation(len(z))), k] for k in range(z.shape[1])], axis=1)
