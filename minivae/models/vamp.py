"""VampPrior: the prior is what the encoder makes of some images that nobody has taken, the pseudo-inputs, which are learned.

J. M. Tomczak and M. Welling, "VAE with a VampPrior", 2018, eq. 9.

The best prior for the ELBO is the aggregate posterior, 1/N sum_n q(z | x_n) over the training images: then of the KL only the mutual
information is left (`evaluate.elbo_surgery`).  This is the same sum over M << N images that training chooses.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..data import to_float
from ..distributions import Gaussian, GaussianMixture
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..random import Stream
from .vae import VAE


class VampVAE(VAE):
    """p(z) = 1/M sum_m q(z | u_m), u_m = sigmoid(pseudo-input m).

    pseudo     M, how many.  They start as dark noise; `start_from(images)` makes them images of the data, the paper's other choice
    options    the VAE's
    """

    def __init__(self, image_shape: Sequence[int], rng: Stream, pseudo: int = 100, **options: Any):
        super().__init__(image_shape, rng, **options)
        if pseudo < 1:
            raise UsageError(f"VampVAE: pseudo is {pseudo}; need at least 1 pseudo-input")
        noise = rng.split("pseudo-inputs").normal((pseudo, *self.image_shape))
        self.pseudo_inputs = Tensor((noise - 2).astype(np.float32))  # sigmoid(-2) = 0.12, about the mean of a digit

    def config(self) -> dict[str, Any]:
        return super().config() | {"pseudo": len(self.pseudo_inputs)}

    @property
    def prior(self) -> GaussianMixture:
        q = self.encode(ops.sigmoid(self.pseudo_inputs))
        if type(q) is not Gaussian:
            raise UsageError(f"VampVAE mixes Gaussians, and q(z | x) is {type(q).__name__}; use a Gaussian head")
        return GaussianMixture(q)

    def start_from(self, images: np.ndarray) -> None:
        """Make the pseudo-inputs these images, or as many of them as there are pseudo-inputs.     (>= M, *image_shape), bytes or floats"""
        x = to_float(np.asarray(images))[: len(self.pseudo_inputs)]
        if x.shape != self.pseudo_inputs.shape:
            raise ShapeError(
                f"VampVAE.start_from: images are {np.shape(images)}; need ({len(self.pseudo_inputs)}, *{self.image_shape}) or more"
            )
        inside = np.clip(x, 0.01, 0.99)  # the sigmoid reaches no end
        self.pseudo_inputs.data[...] = np.log(inside / (1 - inside))
