"""The variational autoencoder: z ~ N(0, I), x ~ p(x | z), and an encoder q(z | x).

D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Bernoulli, ContinuousBernoulli, Gaussian, Laplace, StandardGaussian
from ..engine import Tensor, constant
from ..errors import ShapeError, UsageError
from ..nn import Conv2d, ConvTranspose2d, Dense, Flatten, Module, Reshape, Sequential
from ..random import Stream

LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "laplace")
ARCHITECTURES = ("dense", "conv")
HEADS = ("logvar", "log_sigma")


class VAE(Module):
    """Encoder, prior and decoder, for images of any size and number of channels.

    image_shape   (H, W, C)
    latent        K, the length of z
    arch          "dense": layers of `hidden` units; "conv": 4x4 convolutions of stride 2 with `channels`, then layers of `hidden` units
    channels      by default as many as halve the image to 4 to 7 pixels: 32, then 64s
    likelihood    p(x | z): "bernoulli" (also for gray pixels, as is the custom), "continuous_bernoulli" (a density for them), or
                  "gaussian" / "laplace" with one learned scale for all pixels (O. Rybkin et al., "sigma-VAE", 2021)
    head          what the encoder's second half predicts: "logvar" (log sigma^2) or "log_sigma"
    rng           the stream that the initial weights are drawn from
    """

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
        hidden = (400,) if hidden is None and arch == "dense" else (256,) if hidden is None else tuple(hidden)
        if latent < 1 or min(hidden, default=1) < 1:
            raise UsageError(f"VAE: latent is {latent}, hidden is {hidden}; need at least 1 latent and 1 unit a layer")
        self.image_shape = tuple(int(n) for n in image_shape)
        self.latent, self.likelihood, self.head = latent, likelihood, head
        self.arch, self.hidden, self.activation = arch, hidden, activation
        self.prior = StandardGaussian()
        encoder: list[Module] = []
        decoder: list[Module] = []  # from the image back to z; reversed at the end
        if arch == "dense":
            self.channels: tuple[int, ...] = ()
            encoder.append(Flatten())
            decoder.append(Reshape(*self.image_shape))
            width = math.prod(self.image_shape)
        else:
            sizes = halvings(self.image_shape[:2], None if channels is None else len(channels))
            self.channels = tuple(channels) if channels is not None else (32, *[64] * (len(sizes) - 2))
            widths = (self.image_shape[2], *self.channels)
            for i in range(len(self.channels)):
                encoder.append(Conv2d(widths[i], widths[i + 1], rng, kernel=4, stride=2, padding=1, activation=activation))
                outer = activation if i else None
                decoder.append(
                    ConvTranspose2d(widths[i + 1], widths[i], rng, kernel=4, stride=2, padding=1, size=sizes[i], activation=outer)
                )
            encoder.append(Flatten())
            decoder.append(Reshape(*sizes[-1], widths[-1]))
            width = math.prod(sizes[-1]) * widths[-1]
        for i, units in enumerate(hidden):
            encoder.append(Dense(width, units, rng, activation))
            decoder.append(Dense(units, width, rng, activation if i or arch == "conv" else None))
            width = units
        encoder.append(Dense(width, 2 * latent, rng))
        decoder.append(Dense(latent, width, rng, activation if hidden or arch == "conv" else None))
        self.encoder, self.decoder = Sequential(*encoder), Sequential(*reversed(decoder))
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

    def encode(self, x: Any) -> Gaussian:
        """q(z | x).     x (N, H, W, C) with pixels in [0, 1] -> mean and logvar (N, K)"""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"VAE.encode: x is {tuple(x.shape)}, the model's images are {self.image_shape}; need (N, H, W, C)")
        mean, second = ops.split(self.encoder(x), 2)
        return Gaussian(mean, second) if self.head == "logvar" else Gaussian.from_log_sigma(mean, second)

    def decode(self, z: Any) -> Any:
        """p(x | z), a distribution over images.     z (..., K) -> parameters (..., H, W, C)"""
        if z.shape[-1] != self.latent:
            raise ShapeError(f"VAE.decode: z is {tuple(z.shape)}, the model has {self.latent} latents; need (..., {self.latent})")
        lead = z.shape[:-1]
        rows = z if len(lead) == 1 else ops.reshape(z, (math.prod(lead), self.latent))
        h = self.decoder(rows)
        h = h if len(lead) == 1 else ops.reshape(h, (*lead, *self.image_shape))
        if self.likelihood == "bernoulli":
            return Bernoulli(h, event_ndim=3)
        if self.likelihood == "continuous_bernoulli":
            return ContinuousBernoulli(h, event_ndim=3)
        if self.likelihood == "gaussian":
            return Gaussian(h, self.log_scale * 2.0, event_ndim=3)
        return Laplace(h, self.log_scale, event_ndim=3)

    def reconstruct(self, x: Any) -> np.ndarray:
        """E[x | z = the mean of q(z | x)], pixel means.     (N, H, W, C) -> (N, H, W, C)"""
        return self.images(self.encode(x).mean)

    def images(self, z: Any) -> np.ndarray:
        """E[x | z], pixel means.     z (..., K) -> (..., H, W, C) on the CPU"""
        mean = self.decode(z).mean
        return (mean if isinstance(mean, Tensor) else constant(mean)).numpy()


def halvings(size: Sequence[int], stages: int | None) -> list[tuple[int, int]]:
    """Image sizes under 4x4 convolutions of stride 2 and padding 1, n -> n // 2; by default until the smaller side is 4 to 7."""
    sizes = [(int(size[0]), int(size[1]))]
    while (len(sizes) - 1 < stages) if stages is not None else (min(sizes[-1]) >= 8 or len(sizes) == 1):
        if min(sizes[-1]) < 2:
            wanted = "a convolution" if stages is None else f"{stages} convolutions"
            raise ShapeError(f"VAE: an image of {size[0]}x{size[1]} cannot be halved by {wanted}; use fewer channels or arch='dense'")
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes
