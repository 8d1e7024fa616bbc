"""What training minimises: the same model, another objective.

Losses are nats per image: sums over pixels and latents, the mean over the batch.
"""

import math
from typing import Any, NamedTuple

from . import ops
from .distributions import kl
from .engine import Tensor
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

    At beta = 1 it is the negative evidence lower bound, -ELBO >= -log p(x).     x (N, H, W, C)

    D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014, eq. 7; beta: I. Higgins et al., "beta-VAE", 2017, eq. 4.
    """
    q = model.encode(x)
    log_likelihood = model.decode(q.sample(rng)).log_prob(x)
    divergence = kl(q, model.prior)
    loss = ((divergence if beta == 1 else divergence * beta) - log_likelihood).mean()
    return Terms(loss, log_likelihood, divergence)


def iwae(model: Any, x: Any, rng: Stream, samples: int = 50) -> Tensor:
    """loss = mean_n -log 1/k sum_i p(x, z_i) / q(z_i | x), z_i ~ q(z | x), k = samples: a tighter bound than the ELBO for k > 1.     -> ()

    Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """
    q = model.encode(x)
    z = q.sample(rng, (samples,))  # (k, N, K)
    log_weights = model.decode(z).log_prob(x) + (model.prior.log_prob(z) - q.log_prob(z))  # (k, N)
    return math.log(samples) - ops.logsumexp(log_weights, axis=0).mean()
