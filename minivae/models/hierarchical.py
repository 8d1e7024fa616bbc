"""Two stochastic layers: z2 ~ N(0, I), z1 ~ p(z1 | z2), x ~ p(x | z1), and an encoder q(z1 | x) q(z2 | z1).

The code z holds both, z = [z1 z2]: whoever decodes, weighs or integrates over z needs not know.

Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, sections 2 and 5.
"""

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..distributions import Autoregressive, Gaussian, StandardGaussian
from ..errors import UsageError
from ..random import Stream
from .networks import mlp
from .vae import VAE


class HierarchicalVAE(VAE):
    """A VAE of z1 with a prior that is itself a decoder, of z2.

    latent    K, the length of z = [z1 z2]
    top       how many of them are z2; by default a third
    between   widths of the hidden layers between z1 and z2, on both ways
    options   the VAE's
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        latent: int = 30,
        top: int | None = None,
        between: Sequence[int] = (100,),
        **options: Any,
    ):
        self.top, self.between = latent // 3 if top is None else top, tuple(between)
        if not 1 <= self.top < latent or min(self.between, default=1) < 1:
            raise UsageError(
                f"HierarchicalVAE: latent is {latent}, top is {self.top}, between is {self.between}; need 1 <= top < latent, 1 unit a layer"
            )
        super().__init__(image_shape, rng, latent=latent, **options)
        z1, z2 = self.lengths
        self.upwards = mlp((z1, *self.between, 2 * z2), rng, self.activation)
        self.downwards = mlp((z2, *reversed(self.between), 2 * z1), rng, self.activation)

    @property
    def lengths(self) -> tuple[int, int]:
        """Of z1 and of z2."""
        return self.latent - self.top, self.top

    def config(self) -> dict[str, Any]:
        return super().config() | {"top": self.top, "between": list(self.between)}

    def posterior(self, parameters: Any) -> Autoregressive:
        """q(z1 | x) q(z2 | z1)"""
        first = super().posterior(parameters)
        return Autoregressive(first, lambda z1: Gaussian(*ops.split(self.upwards(z1), 2)), self.lengths, upwards=True)

    @property
    def prior(self) -> Autoregressive:
        """p(z2) p(z1 | z2)"""
        above = StandardGaussian(self.top)
        return Autoregressive(above, lambda z2: Gaussian(*ops.split(self.downwards(z2), 2)), self.lengths, upwards=False)

    def decoder_input(self, z: Any) -> Any:
        return super().decoder_input(z)[..., : self.latent - self.top]
