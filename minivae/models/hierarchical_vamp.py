"""A VampPrior above two stochastic layers: the prior of z2 is what the encoder of z2 makes of some learned z1, the pseudo-codes.

J. M. Tomczak and M. Welling, "VAE with a VampPrior", 2018, section 4, whose pseudo-inputs are images; here q(z2 | z1) sees no image, and
the best prior of z2 is the mean of q(z2 | z1) over the codes z1 of the data.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Autoregressive, Gaussian, GaussianMixture
from ..engine import Tensor
from ..errors import UsageError
from ..random import Stream
from .hierarchical import HierarchicalVAE


class OfMixture(Autoregressive):
    """p(z2) p(z1 | z2), p(z2) a mixture: its KL has no parts that were one latent's alone, so that log q(z) - log p(z) estimates it."""


class HierarchicalVampVAE(HierarchicalVAE):
    """p(z2) = 1/M sum_m q(z2 | u_m), p(z1 | z2), p(x | z1).

    pseudo     M, how many pseudo-codes u_m, of the length of z1.  They start as normal numbers
    options    the HierarchicalVAE's
    """

    def __init__(self, image_shape: Sequence[int], rng: Stream, pseudo: int = 100, **options: Any):
        super().__init__(image_shape, rng, **options)
        if pseudo < 1:
            raise UsageError(f"HierarchicalVampVAE: pseudo is {pseudo}; need at least 1 pseudo-code")
        self.pseudo_codes = Tensor(rng.split("pseudo-codes").normal((pseudo, self.lengths[0])).astype(np.float32))

    def config(self) -> dict[str, Any]:
        return super().config() | {"pseudo": len(self.pseudo_codes)}

    @property
    def prior(self) -> OfMixture:
        """p(z2) p(z1 | z2)"""
        above = GaussianMixture(Gaussian(*ops.split(self.upwards(self.pseudo_codes), 2)))
        return OfMixture(above, super().prior.link, self.lengths, upwards=False)
