"""The autoencoder: a code and an image of it, and no distribution over codes.

It is the VAE whose q(z | x) is a point.  The KL of a point against N(0, I) is infinite, so the prior is given up with it: against a flat
one the divergence is the same number for every weight of the encoder, and is left out.  What remains of the ELBO is the reconstruction.
"""

from typing import Any

from ..backend import xp
from ..engine import Tensor, stop_gradient
from ..errors import UsageError
from ..ops import broadcast_to
from ..random import Stream
from .vae import VAE


class Delta:
    """All of the probability at one place, which no density describes.     mean (N, K)"""

    def __init__(self, mean: Tensor):
        self.mean = mean

    def sample(self, rng: Stream, samples: tuple[int, ...] = ()) -> Tensor:
        """The mean, whatever rng holds.     -> (*samples, N, K)"""
        return broadcast_to(self.mean, (*samples, *self.mean.shape)) if samples else self.mean

    def log_prob(self, z: Any) -> Tensor:
        raise UsageError("an autoencoder's code is a point and has no density: there is no bound on log p(x); train a vae for one")


class AE(VAE):
    """x -> z -> p(x | z), the same networks as the VAE's with one number a latent; trained by the same objective, whose KL is 0.

    likelihood    "gaussian" is the squared error, with its scale learned; "bernoulli" the cross-entropy.
    Codes that `draw` takes from N(0, I) are decoded as a VAE's are, but no training has told the decoder of them.
    """

    statistics = 1

    def encode(self, x: Any) -> Delta:
        return Delta(self.encoder_params(x))

    def divergence(self, q: Delta, z: Any) -> Tensor:
        return self.latent_kl(q, z).sum(axis=-1)

    def latent_kl(self, q: Delta, z: Any) -> Tensor:
        return stop_gradient(xp(q.mean.data).zeros_like(q.mean.data))
