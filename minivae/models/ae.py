"""The autoencoder: a code and an image of it, and no distribution over codes.

It is the VAE whose q(z | x) is a point.  The KL of a point against N(0, I) is infinite, so the prior is given up with it: against a flat
one the divergence is the same number for every weight of the encoder, and is left out.  What remains of the ELBO is the reconstruction.
"""

from ..distributions import Delta, Flat, StandardGaussian
from ..engine import Tensor
from ..errors import ShapeError
from ..random import Stream
from .vae import VAE


class AE(VAE):
    """x -> z -> p(x | z), the same networks as the VAE's with one number a latent; trained by the same objective, whose KL is 0.

    likelihood    "gaussian" is the squared error, with its scale learned; "bernoulli" the cross-entropy.
    """

    parameters_each = 1

    def posterior(self, parameters: Tensor) -> Delta:
        if parameters.ndim != 2 or parameters.shape[1] != self.latent:
            raise ShapeError(f"AE: the encoder gives {parameters.shape} for {self.latent} latents; need (N, {self.latent})")
        return Delta(parameters)

    @property
    def prior(self) -> Flat:
        return Flat(self.latent)

    def sample_prior(self, rng: Stream, n: int) -> Tensor:
        """Codes from N(0, I), which are decoded as a VAE's are; but no training has shown them to the decoder.     -> (n, K)"""
        return StandardGaussian(self.latent).sample(rng, n, like=self.parameters()[0].data)
