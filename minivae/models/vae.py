"""The variational autoencoder: z ~ N(0, I), x ~ p(x | z), and an encoder q(z | x).

D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014.

The other models are this one with another story for z.  What an objective asks of a model:

    q = model.encode(x)      q.sample(rng, samples) -> z (*samples, N, K),  q.log_prob(z) -> (*samples, N),  q.mean (N, K)
    p = model.decode(z)      p.log_prob(x) -> (..., N),  p.mean the pixels
    model.prior              prior.log_prob(z)
    model.divergence(q, z)   KL(q || prior) an image, in closed form or by the sample z;  model.latent_kl(q, z) the same for each latent
    model.sample_and_divergence(q, rng)   one sample and its divergence
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Bernoulli, ContinuousBernoulli, Gaussian, Laplace, StandardGaussian, kl
from ..engine import Tensor, stop_gradient
from ..errors import ShapeError, UsageError
from ..nn import Module
from ..random import Stream
from .networks import ARCHITECTURES, networks

LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "laplace")
HEADS = ("logvar", "log_sigma")


class VAE(Module):
    """Encoder, prior and decoder, for images of any size and number of channels.

    image_shape   (H, W, C)
    latent        K, the length of z
    arch          "dense": layers of `hidden` units; "conv": 4x4 convolutions of stride 2 with `channels`, then layers of `hidden` units;
                  "gru" or "lstm": the rows as a sequence, recurrent layers of `hidden` units
    channels      by default as many as halve the image to 4 to 7 pixels: 32, then 64s
    likelihood    p(x | z): "bernoulli" (also for gray pixels, as is the custom), "continuous_bernoulli" (a density for them), or
                  "gaussian" / "laplace" with one learned scale for all pixels (O. Rybkin et al., "sigma-VAE", 2021)
    head          what the encoder's second half predicts: "logvar" (log sigma^2) or "log_sigma"
    rng           the stream that the initial weights are drawn from
    """

    prior: Any = StandardGaussian()
    statistics = 2  # numbers that the encoder predicts of each latent
    condition_size = 0  # numbers that it is told beside the image
    top = 0  # latents that it does not see: those above others

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        latent: int = 20,
        arch: str = "dense",
        hidden: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        head: str = "logvar",
    ):
        for value, name, known in ((arch, "arch", ARCHITECTURES), (likelihood, "likelihood", LIKELIHOODS), (head, "head", HEADS)):
            if value not in known:
                raise UsageError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ShapeError(f"VAE: image_shape is {tuple(image_shape)}; need (height, width, channels), all at least 1")
        if latent < 1:
            raise UsageError(f"VAE: latent is {latent}; need at least 1")
        self.image_shape = tuple(int(n) for n in image_shape)
        self.latent, self.likelihood, self.head = latent, likelihood, head
        self.arch, self.activation = arch, activation
        seen = latent - self.top
        self.encoder, self.decoder, self.join, self.hidden, self.channels = networks(
            self.image_shape, rng, arch, hidden, channels, activation, self.statistics * seen, seen, self.condition_size
        )
        if likelihood in ("gaussian", "laplace"):
            self.log_scale = Tensor(np.zeros((), np.float32))

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again: VAE(**config, rng=...)."""
        return {
            "image_shape": list(self.image_shape),
            "latent": self.latent,
            "arch": self.arch,
            "hidden": list(self.hidden),
            "channels": list(self.channels),
            "activation": self.activation,
            "likelihood": self.likelihood,
            "head": self.head,
        }

    def encode(self, x: Any) -> Any:
        """q(z | x).     x (N, H, W, C) with pixels in [0, 1] -> mean and logvar (N, K)"""
        mean, second = ops.split(self.encoder_params(x), 2)
        return Gaussian(mean, second) if self.head == "logvar" else Gaussian.from_log_sigma(mean, second)

    def encoder_params(self, x: Any) -> Tensor:
        """What the encoder says of each latent.     (N, H, W, C) -> (N, statistics K)"""
        self.check_images(x)
        return self.encoder(x)

    def check_images(self, x: Any) -> None:
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"VAE.encode: x is {tuple(x.shape)}, the model's images are {self.image_shape}; need (N, H, W, C)")

    def decode(self, z: Any) -> Any:
        """p(x | z), a distribution over images.     z (..., K) -> parameters (..., H, W, C)"""
        code = self.decoder_input(z)
        lead = code.shape[:-1]
        rows = code if len(lead) == 1 else ops.reshape(code, (math.prod(lead), code.shape[-1]))
        h = self.decoder(rows)
        h = h if len(lead) == 1 else ops.reshape(h, (*lead, *self.image_shape))
        if self.likelihood == "bernoulli":
            return Bernoulli(h, event_ndim=3)
        if self.likelihood == "continuous_bernoulli":
            return ContinuousBernoulli(h, event_ndim=3)
        if self.likelihood == "gaussian":
            return Gaussian(h, self.log_scale * 2.0, event_ndim=3)
        return Laplace(h, self.log_scale, event_ndim=3)

    def decoder_input(self, z: Any) -> Any:
        """What of z the decoder is told.     (..., K) -> (..., inputs)"""
        if z.shape[-1] != self.latent:
            raise ShapeError(f"VAE.decode: z is {tuple(z.shape)}, the model has {self.latent} latents; need (..., {self.latent})")
        return z

    def divergence(self, q: Any, z: Any) -> Tensor:
        """KL(q(z | x) || p(z)), in closed form: z is not looked at.     -> (N,)"""
        return kl(q, self.prior)

    def sample_and_divergence(self, q: Any, rng: Stream) -> tuple[Tensor, Tensor]:
        """z ~ q(z | x), and its `divergence`: in one pass where that is KL(N(mean, sigma^2) || N(0, I)).     -> (N, K), (N,)"""
        if type(self).divergence is VAE.divergence and type(q) is Gaussian and type(self.prior) is StandardGaussian:
            return q.sample_and_kl(rng)
        z = q.sample(rng)
        return z, self.divergence(q, z)

    def latent_kl(self, q: Any, z: Any) -> Tensor:
        """The part of each latent in `divergence`, in nats.     -> (N, K)"""
        return kl(Gaussian(q.mean, q.logvar, event_ndim=0), self.prior)

    def sample_prior(self, rng: Stream, n: int) -> Tensor:
        """Codes from the prior, a constant.     -> (n, K)"""
        return self.prior.sample(rng, (n, self.latent), like=self.parameters()[0].data)

    def reconstruct(self, x: Any) -> np.ndarray:
        """E[x | z = the mean of q(z | x)], pixel means.     (N, H, W, C) -> (N, H, W, C)"""
        return self.decode_mean(self.encode(x).mean)

    def decode_mean(self, z: Any) -> np.ndarray:
        """E[x | z], pixel means.     z (..., K) -> (..., H, W, C) on the CPU"""
        mean = self.decode(z).mean
        return (mean if isinstance(mean, Tensor) else stop_gradient(mean)).numpy()
