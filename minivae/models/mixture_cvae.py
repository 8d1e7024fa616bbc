"""A conditional VAE whose p(z | c) is a mixture: what is known may leave several answers open, and one Gaussian covers what lies between
them as well.

A. Deshpande et al., "Learning diverse image colorization", 2017: colours for gray images by a mixture density network (C. M. Bishop, 1994).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import to_device, xp
from ..data import to_float
from ..distributions import WeightedMixture
from ..engine import no_grad
from ..errors import UsageError
from ..random import Stream
from .cvae import CVAE
from .networks import mlp


class MixtureCVAE(CVAE):
    """p(z | c) = sum_m w_m(c) N(m_m(c), s_m(c)^2) by a network.

    components      M, how many: more than there are answers of different kinds, as some may stay without a use
    prior_hidden    units of the hidden layers of p(z | c), by default one layer of the most that the encoder has: what the condition says
                    of the answer is read by this network alone
    options         the CVAE's

    At first the weights are equal, the variances 1, and the means draws of N(0, I), without which all components would stay the same.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        condition: int,
        components: int = 8,
        prior_hidden: Sequence[int] | None = None,
        **options: Any,
    ):
        if components < 1 or "prior_kind" in options:
            raise UsageError(f"MixtureCVAE: components is {components}; need 1 or more, and no prior_kind: it is a mixture")
        super().__init__(image_shape, rng, condition, **options)
        self.components = components
        self.prior_hidden = tuple(prior_hidden or (max(self.hidden, default=condition),))
        self.prior_network = mlp((condition, *self.prior_hidden, components * (2 * self.latent + 1)), rng.split("prior"), "silu")
        w, b = self.prior_network.layers[-1].parameters()
        w.data[...], b.data[...] = 0, 0
        b.data[components : components + components * self.latent] = rng.split("means").normal((components * self.latent,), like=b.data)

    def config(self) -> dict[str, Any]:
        own = super().config() | {"components": self.components, "prior_hidden": list(self.prior_hidden)}
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

    def start_from(self, x: Any, c: Any, rng: Stream) -> None:
        """Put the components at codes of these images, with equal weights whatever the condition.     x (N, ...), c (N, ...), N >= M

        A component that is the nearest to the codes of two kinds of answers widens to cover both, and what lies between; the others stay
        far away, without a use.  So let the codes part in some first steps of training, call this, and train on.  Each image but the first
        is chosen with a probability in proportion to the squared distance of its code from the nearest one chosen so far, in standard
        deviations of q(z | x, c).  Raises UsageError.
        D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", 2007
        """
        if len(x) < self.components:
            raise UsageError(f"MixtureCVAE.start_from: {len(x)} images for {self.components} components; need at least as many")
        with no_grad():
            own = self.parameters()[0].data
            q = self.condition(c).encode(to_device(to_float(x), "cpu" if xp(own) is np else "cuda").astype(own.dtype, copy=False))
        mean, logvar = q.mean.numpy(), q.logvar.numpy()
        scaled = mean / np.exp(logvar.mean(axis=0) / 2)
        chosen: list[int] = []
        away = np.ones(len(x))
        for u in rng.uniform(self.components):
            upto = np.cumsum(away)
            chosen.append(min(int(np.searchsorted(upto, u * upto[-1], side="right")), len(x) - 1))
            away = np.minimum(np.inf if len(chosen) == 1 else away, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
        w, b = self.prior_network.layers[-1].parameters()
        start = np.concatenate([np.zeros(self.components), mean[chosen].ravel(), logvar[chosen].ravel()])
        w.data[...], b.data[...] = 0, xp(b.data).asarray(start, b.data.dtype)
