"""The conditional VAE: z ~ p(z | c), x ~ p(x | z, c), and an encoder q(z | x, c).

K. Sohn, H. Lee and X. Yan, "Learning structured output representation using deep conditional generative models", 2015.
"""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..distributions import Gaussian, StandardGaussian
from ..engine import Tensor, constant_of
from ..errors import ShapeError, UsageError
from ..random import Stream
from .networks import mlp
from .vae import VAE

PRIORS = ("fixed", "learned")


def condition_rows(c: Any, size: int, dtype: Any) -> Any:
    """One-hot rows of labels, integers (N,); else the numbers of each as they are, bytes over 255.     -> (N, size)

    The row of a label that is none of 0 ... size - 1 is NaN, and so is the loss then: to refuse it here would mean to wait for a GPU."""
    if c.dtype.kind in "iu" and c.ndim == 1 and c.dtype != np.uint8:
        known = (c >= 0) & (c < size)
        return xp(c).where(known[:, None], c[:, None] == xp(c).arange(size), np.nan).astype(dtype)
    rows = c.reshape(len(c), -1)
    return (rows / np.float32(255) if c.dtype == np.uint8 else rows).astype(dtype)


class CVAE(VAE):
    """A VAE with a condition of each image: a label, or any numbers, such as a part of the image.

    `model.condition(c)` is a model like any other: `elbo(model.condition(labels), x, rng)`.

    condition     classes of a label, or length of the vector c
    prior_kind    "fixed": p(z | c) = N(0, I);  "learned": N(m(c), s(c)^2) by a network with one hidden layer, starting from N(0, I)
    options       the VAE's
    """

    c: Any = None  # (N, condition)

    def __init__(self, image_shape: Sequence[int], rng: Stream, condition: int, prior_kind: str = "fixed", **options: Any):
        if condition < 1 or prior_kind not in PRIORS:
            raise UsageError(f"CVAE: condition is {condition}, prior is {prior_kind!r}; need at least 1, and one of {', '.join(PRIORS)}")
        if "encoder" in options or "decoder" in options:
            raise UsageError("CVAE: the condition joins layers of its own networks; for others write a model with a method condition(c)")
        self.condition_size, self.prior_kind = condition, prior_kind
        super().__init__(image_shape, rng, **options)
        if prior_kind == "learned":
            self.prior_network = mlp((condition, max(self.hidden, default=condition), 2 * self.latent), rng, "tanh")
            for p in self.prior_network.layers[-1].parameters():
                p.data[...] = 0

    def config(self) -> dict[str, Any]:
        return super().config() | {"condition": self.condition_size, "prior_kind": self.prior_kind}

    def condition(self, c: Any) -> "CVAE":
        """The model of images of which c is known; it shares all weights with this one.

        c    labels, integers (N,) from 0 to condition - 1; or numbers (N, ...), condition of them each: floats, or bytes, which are
             taken as pixels are, over 255.  N is 1 where all images share it
        """
        own = self.parameters()[0].data
        module = xp(own)
        # to look at labels on a GPU means to wait for it: a Trainer looks before they go there
        there = module is not np and xp(c) is module
        c = module.atleast_1d(module.asarray(c))
        if c.dtype.kind in "iu" and c.ndim == 1 and c.dtype != np.uint8:
            if c.size and not there and not 0 <= int(c.min()) <= int(c.max()) < self.condition_size:
                raise UsageError(f"CVAE: labels run from {c.min()} to {c.max()}; the model knows 0 to {self.condition_size - 1}")
        elif math.prod(c.shape[1:]) != self.condition_size:
            raise ShapeError(f"CVAE: c is {c.dtype} {c.shape}; need integers (N,), or numbers (N, ...), {self.condition_size} each")
        known = copy(self)
        known.c = constant_of(condition_rows, c, self.condition_size, own.dtype)
        return known

    def part(self, at: slice) -> "CVAE":
        """The model of some of the images of which c is known."""
        if self.c is None or len(self.c) == 1:
            return self
        some = copy(self)
        some.c = self.c[at]
        return some

    @property
    def prior(self) -> Any:
        """p(z | c)"""
        if self.prior_kind == "fixed":
            return StandardGaussian(self.latent)
        return Gaussian(*ops.split(self.prior_network(self.known_condition()), 2))

    def known_condition(self) -> Tensor:
        if self.c is None:
            raise UsageError("CVAE: nothing is known about the images; use model.condition(labels)")
        return self.c

    def with_condition(self, a: Any) -> Tensor:
        """Each row of a, then c.     (..., F) -> (..., F + condition)"""
        c = self.known_condition()
        if len(c) not in (1, a.shape[-2]):
            raise ShapeError(f"CVAE: the condition is that of {len(c)} images, there are {a.shape[-2]}; need as many, or 1 for all")
        return ops.concatenate([a, ops.broadcast_to(c, (*a.shape[:-1], self.condition_size))], axis=-1)

    def encode(self, x: Any) -> Any:
        """q(z | x, c)"""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"VAE.encode: x is {tuple(x.shape)}, the model's images are {self.image_shape}; need (N, *{self.image_shape})")
        layers = self.encoder.layers
        for layer in layers[: self.join]:
            x = layer(x)
        x = self.with_condition(x)
        for layer in layers[self.join :]:
            x = layer(x)
        return self.posterior(x)

    def decoder_input(self, z: Any) -> Any:
        return self.with_condition(super().decoder_input(z))

    def sample_prior(self, rng: Stream, n: int) -> Tensor:
        """Codes from p(z | c), for the c that is known: of one or of n images.     -> (n, K)"""
        prior = self.prior
        if type(prior) is StandardGaussian:
            return super().sample_prior(rng, n)
        (rows,) = prior.batch_shape
        if rows not in (1, n):
            kind = type(self).__name__
            raise UsageError(f"{kind}: the condition is that of {rows} images, {n} codes are asked for; need as many, or 1 for all")
        return prior.sample(rng) if rows == n else ops.reshape(prior.sample(rng, n), (n, self.latent))
