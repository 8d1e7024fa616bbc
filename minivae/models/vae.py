"""The variational autoencoder: z ~ N(0, I), x ~ p(x | z), and an encoder q(z | x).

D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014.

The other models are this one with another story for z.  What objectives, inference and evaluation ask of any model:

    model.encode(x)     q(z | x), a distribution over codes
    model.decode(z)     p(x | z), a distribution over data
    model.prior         p(z), a distribution over codes

and, where it has a condition c, model.condition(c), the model of data of which c is known.  All else is derived from these.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Gaussian, StandardGaussian
from ..engine import Tensor, stop_gradient
from ..errors import ShapeError, UsageError
from ..nn import Module
from ..random import Stream
from .likelihoods import LIKELIHOODS
from .networks import ARCHITECTURES, arguments_of, as_they_were, in_rows, networks

HEADS = ("logvar", "log_sigma")


class VAE(Module):
    """Encoder, prior and decoder, for images of any size and number of channels, and for data of any other shape.

    image_shape   (H, W, C); or (D,), vectors, or any shape that the networks take
    rng           the stream that the initial weights are drawn from; networks of your own need none
    latent        K, the length of z
    arch          "dense": layers of `hidden` units; "conv": 4x4 convolutions of stride 2 with `channels`, then layers of `hidden` units;
                  "gru" or "lstm": the rows as a sequence, recurrent layers of `hidden` units
    channels      by default as many as halve the image to 4 to 7 pixels: 32, then 64s
    likelihood    p(x | z): "bernoulli" (also for gray pixels, as is the custom), "continuous_bernoulli" (a density for them);
                  "gaussian" / "laplace" with one learned scale for all pixels (O. Rybkin et al., "sigma-VAE", 2021); or the
                  probability of a byte over 255, of which the decoder says two numbers: "beta_binomial", "discretized_logistic"
    head          what the encoder's second half predicts: "logvar" (log sigma^2) or "log_sigma"
    encoder       networks of your own in the place of arch, hidden, channels and activation: the encoder (N, *image_shape) -> (N, 2 K),
    decoder       the decoder (N, K) -> (N, *image_shape), the logits or the means; for two numbers a pixel (N, H, W, 2 C), first all
                  of the one
    """

    parameters_each = 2  # numbers that the encoder predicts of each latent
    condition_size = 0  # numbers of the condition of an image
    top = 0  # latents that it does not see: those above others

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream | None = None,
        latent: int = 20,
        arch: str = "dense",
        hidden: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        head: str = "logvar",
        encoder: Module | None = None,
        decoder: Module | None = None,
    ):
        for value, name, known in ((arch, "arch", ARCHITECTURES), (likelihood, "likelihood", LIKELIHOODS), (head, "head", HEADS)):
            if value not in known:
                raise UsageError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        if not len(image_shape) or min(image_shape) < 1:
            raise ShapeError(f"VAE: image_shape is {tuple(image_shape)}; need (height, width, channels), or (D,), all at least 1")
        if arch != "dense" and len(image_shape) != 3:
            raise ShapeError(f"VAE: image_shape is {tuple(image_shape)}, and {arch!r} takes (height, width, channels); use arch='dense'")
        if latent < 1:
            raise UsageError(f"VAE: latent is {latent}; need at least 1")
        if (encoder is None) != (decoder is None):
            raise UsageError("VAE: one of encoder and decoder is missing; give both, or neither for those of arch")
        self.image_shape = tuple(int(n) for n in image_shape)
        self.latent, self.likelihood, self.head = latent, likelihood, head
        self.arch, self.activation = arch, activation
        self.encoder: Any
        self.decoder: Any
        self.hidden: tuple[int, ...]
        self.channels: tuple[int, ...]
        if encoder is not None and decoder is not None:
            self.arch, self.encoder, self.decoder, self.join, self.hidden, self.channels = "own", encoder, decoder, 0, (), ()
        elif rng is None:
            raise UsageError("VAE: no rng, the stream that the initial weights are drawn from; pass one, Stream(0)")
        else:
            seen = latent - self.top
            self.encoder, self.decoder, self.join, self.hidden, self.channels = networks(
                self.image_shape,
                rng,
                arch,
                hidden,
                channels,
                activation,
                self.parameters_each * seen,
                seen,
                self.condition_size,
                LIKELIHOODS[likelihood].numbers,
            )
        if LIKELIHOODS[likelihood].has_scale:
            self.log_scale = Tensor(np.zeros((), np.float32))

    @property
    def prior(self) -> Any:
        """p(z)"""
        return StandardGaussian(self.latent)

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again: VAE(**config, rng=...)."""
        return arguments_of(self, "image_shape", "latent", "arch", "hidden", "channels", "activation", "likelihood", "head")

    def encode(self, x: Any) -> Any:
        """q(z | x).     x (N, *image_shape), pixels in [0, 1] -> mean and logvar (N, K)"""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"VAE.encode: x is {tuple(x.shape)}, the model's images are {self.image_shape}; need (N, *{self.image_shape})")
        return self.posterior(self.encoder(x))

    def posterior(self, parameters: Tensor) -> Any:
        """q(z | x) by what the encoder predicts.     (N, 2 K) -> mean and logvar (N, K)"""
        seen = self.latent - self.top
        wanted = self.parameters_each * seen
        if parameters.ndim != 2 or parameters.shape[1] != wanted:
            raise ShapeError(f"VAE: the encoder gives {parameters.shape} for {seen} latents; need (N, {wanted})")
        mean, second = ops.split(parameters, 2)
        return Gaussian(mean, second) if self.head == "logvar" else Gaussian.from_log_sigma(mean, second)

    def decode(self, z: Any) -> Any:
        """p(x | z), a distribution over images.     z (..., K) -> parameters (..., *image_shape)"""
        code = self.decoder_input(z)
        rows = in_rows(code)
        h = self.decoder(rows)
        likelihood = LIKELIHOODS[self.likelihood]
        pixels = (*self.image_shape[:-1], likelihood.numbers * self.image_shape[-1])
        if h.shape != (len(rows), *pixels):
            raise ShapeError(f"VAE: the decoder gives {h.shape} for {len(rows)} codes; need {(len(rows), *pixels)}")
        return likelihood.of(as_they_were(h, code.shape[:-1]), getattr(self, "log_scale", None), len(self.image_shape))

    def decoder_input(self, z: Any) -> Any:
        """What of z the decoder takes.     (..., K) -> (..., inputs)"""
        if z.shape[-1] != self.latent:
            raise ShapeError(f"VAE.decode: z is {tuple(z.shape)}, the model has {self.latent} latents; need (..., {self.latent})")
        return z

    def sample_prior(self, rng: Stream, n: int) -> Tensor:
        """Codes from the prior, a constant.     -> (n, K)"""
        return self.prior.sample(rng, n, like=self.parameters()[0].data)

    def reconstruct(self, x: Any) -> np.ndarray:
        """E[x | z = the mean of q(z | x)], pixel means.     (N, *image_shape) -> (N, *image_shape)"""
        return self.decode_mean(self.encode(x).mean)

    def decode_mean(self, z: Any) -> np.ndarray:
        """E[x | z], pixel means.     z (..., K) -> (..., *image_shape) on the CPU"""
        mean = self.decode(z).mean
        return (mean if isinstance(mean, Tensor) else stop_gradient(mean)).numpy()
