"""Two stochastic layers: z2 ~ N(0, I), z1 ~ p(z1 | z2), x ~ p(x | z1), and an encoder q(z1 | x) q(z2 | z1).

The code z holds both, z = [z1 z2]: whoever decodes, weighs or integrates over z needs not know.

Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, sections 2 and 5.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..backend import xp
from ..distributions import Gaussian, StandardGaussian, kl
from ..engine import Tensor
from ..errors import UsageError
from ..random import Stream
from .networks import mlp
from .vae import VAE


class Autoregressive:
    """p(first) p(second | first), over z = [z1 z2]: upwards z1 is first, downwards z2 is.     z (..., K)

    first     a Gaussian
    link      first -> the Gaussian of the second
    cut       the length of z1
    """

    def __init__(self, first: Gaussian, link: Callable[[Any], Gaussian], cut: int, upwards: bool):
        self.first, self.link, self.cut, self.upwards = first, link, cut, upwards
        self.drawn: tuple[Any, Any] = (None, None)  # the last sample and the Gaussian of its second part: asked for log_prob next

    def parts(self, z: Any) -> tuple[Any, Any]:
        """(first, second)"""
        z1, z2 = z[..., : self.cut], z[..., self.cut :]
        return (z1, z2) if self.upwards else (z2, z1)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.concatenate([first, second] if self.upwards else [second, first], axis=-1)

    def second(self, z: Any) -> Gaussian:
        """p(second | the first of z)"""
        return self.drawn[1] if z is self.drawn[0] else self.link(self.parts(z)[0])

    def sample(self, rng: Stream, samples: tuple[int, ...] = ()) -> Tensor:
        first = self.first.sample(rng, samples)
        given = self.link(first)
        z = self.join(first, given.sample(rng))
        self.drawn = z, given
        return z

    def log_prob(self, z: Any) -> Tensor:
        first, second = self.parts(z)
        return self.first.log_prob(first) + self.second(z).log_prob(second)

    @property
    def mean(self) -> Tensor:
        """The mean of the first, and that of the second given it."""
        return self.join(self.first.mean, self.link(self.first.mean).mean)


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
        z1, z2 = latent - self.top, self.top
        self.upwards = mlp((z1, *self.between, 2 * z2), rng, self.activation)
        self.downwards = mlp((z2, *reversed(self.between), 2 * z1), rng, self.activation)

    def config(self) -> dict[str, Any]:
        return super().config() | {"top": self.top, "between": list(self.between)}

    def encode(self, x: Any) -> Autoregressive:
        """q(z1 | x) q(z2 | z1)"""
        return Autoregressive(super().encode(x), lambda z1: Gaussian(*ops.split(self.upwards(z1), 2)), self.latent - self.top, upwards=True)

    @property
    def prior(self) -> Autoregressive:
        """p(z2) p(z1 | z2)"""
        own = self.parameters()[0].data
        nothing = xp(own).zeros(self.top, own.real.dtype)
        standard = Gaussian(nothing, nothing)
        return Autoregressive(standard, lambda z2: Gaussian(*ops.split(self.downwards(z2), 2)), self.latent - self.top, upwards=False)

    def decoder_input(self, z: Any) -> Any:
        return super().decoder_input(z)[..., : self.latent - self.top]

    def divergence(self, q: Autoregressive, z: Any) -> Tensor:
        """log q(z1 | x) - log p(z1 | z2) at the sample, and KL(q(z2 | z1) || p(z2)) in closed form.     -> (N,)

        The first has none: z1 and z2 are dependent under q."""
        return self.latent_kl(q, z).sum(axis=-1)

    def latent_kl(self, q: Autoregressive, z: Any) -> Tensor:
        """Of a latent in z1 the estimate by one sample, which may be negative.     -> (N, K)"""
        z1, _ = q.parts(z)
        below, above, said = q.first, q.second(z), self.prior.second(z)

        def log_prob(p: Gaussian) -> Tensor:
            return Gaussian(p.mean, p.logvar, event_ndim=0).log_prob(z1)

        return ops.concatenate(
            [log_prob(below) - log_prob(said), kl(Gaussian(above.mean, above.logvar, event_ndim=0), StandardGaussian())], axis=-1
        )

    def sample_prior(self, rng: Stream, n: int) -> Tensor:
        return self.prior.sample(rng, (n,))
