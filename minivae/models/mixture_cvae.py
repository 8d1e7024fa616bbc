"""A conditional VAE whose p(z | c) is a mixture: what is known may leave several answers open, and one Gaussian covers what lies between
them as well.

A. Deshpande et al., "Learning diverse image colorization", 2017: colours for gray images by a mixture density network (C. M. Bishop, 1994).
"""

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..distributions import WeightedMixture
from ..engine import Tensor
from ..errors import UsageError
from ..random import Stream
from .cvae import CVAE
from .networks import mlp


class MixtureCVAE(CVAE):
    """p(z | c) = sum_m w_m(c) N(m_m(c), s_m(c)^2) by a network with one hidden layer.

    components    M, how many: at least as many as there are answers of different kinds
    options       the CVAE's

    At first the weights are equal, the variances 1, and the means draws of N(0, I), without which all components would stay the same.
    """

    def __init__(self, image_shape: Sequence[int], rng: Stream, condition: int, components: int = 8, **options: Any):
        if components < 1 or "prior_kind" in options:
            raise UsageError(f"MixtureCVAE: components is {components}; need 1 or more, and no prior_kind: it is a mixture")
        super().__init__(image_shape, rng, condition, **options)
        self.components = components
        widths = condition, max(self.hidden, default=condition), components * (2 * self.latent + 1)
        self.prior_network = mlp(widths, rng.split("prior"), "silu")
        w, b = self.prior_network.layers[-1].parameters()
        w.data[...], b.data[...] = 0, 0
        b.data[components : components + components * self.latent] = rng.split("means").normal((components * self.latent,), like=b.data)

    def config(self) -> dict[str, Any]:
        own = super().config() | {"components": self.components}
        del own["prior_kind"]
        return own

    @property
    def prior(self) -> WeightedMixture:
        """p(z | c)"""
        h = self.prior_network(self.known_condition())
        n, size = len(h), self.components * self.latent
        shape = (n, self.components, self.latent)
        mean = ops.reshape(h[:, self.components : self.components + size], shape)
        logvar = ops.reshape(h[:, self.components + size :], shape)
        return WeightedMixture(h[:, : self.components], mean, logvar)

    def sample_prior(self, rng: Stream, n: int) -> Tensor:
        prior = self.prior
        rows = len(prior.logits)
        if rows == n:
            return prior.sample(rng)
        if rows != 1:
            raise UsageError(f"MixtureCVAE: the condition is that of {rows} images, {n} codes are asked for; need as many, or 1 for all")
        return ops.reshape(prior.sample(rng, n), (n, self.latent))
