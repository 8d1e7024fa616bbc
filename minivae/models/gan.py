"""The generator of a GAN: z ~ N(0, I), x = G(z).  An image for each z, no density, no encoder; and the critic that it is trained against.

I. Goodfellow et al., "Generative adversarial nets", 2014; the networks: A. Radford, L. Metz and S. Chintala, "DCGAN", 2016, without
batch norm, which a penalty of the critic's gradient does not allow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Delta, StandardGaussian
from ..errors import ShapeError, UsageError
from ..nn import Average, Module, Sequential, SpectralNorm
from ..random import Stream
from .networks import arguments_of, as_they_were, in_rows, networks

HIDDEN: dict[str, tuple[int, ...]] = {"dense": (512, 256), "conv": ()}  # by default
SLOPE = 0.2  # of the critic's leaky relu below 0


class GAN(Module):
    """The generator, and beside it the moving average of its weights, which evaluation and samples take.

    image_shape   (H, W, C), pixels in [0, 1] by a sigmoid at the end; or any other shape, of numbers as they are
    latent        K, the length of z
    arch          "dense": layers of `hidden` units, 512 and 256 by default; "conv": transposed 4x4 convolutions of stride 2 with
                  `channels`, behind layers of `hidden` units, none by default.  Both are named from the image inwards, as those of a
                  VAE's encoder are; the critic has the same, mirrored
    average       the network of averaged weights; see move_average.  They are buffers: in the checkpoint, moved by no gradient
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        latent: int = 64,
        arch: str = "dense",
        hidden: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        activation: str = "relu",
    ):
        if arch not in HIDDEN:
            raise UsageError(f"arch {arch!r} has no generator here; choose one of {', '.join(HIDDEN)}")
        if latent < 1 or not len(image_shape) or min(image_shape) < 1:
            raise UsageError(f"GAN: latent is {latent}, image_shape is {tuple(image_shape)}; need at least 1 each")
        self.image_shape = tuple(int(n) for n in image_shape)
        self.latent, self.arch, self.activation = latent, arch, activation
        hidden = HIDDEN[arch] if hidden is None else hidden
        built = networks(self.image_shape, rng, arch, hidden, default_channels(arch, self.image_shape, channels), activation, 1, latent)
        self.hidden, self.channels, self.net = built.hidden, built.channels, built.decoder
        keep_variance(self.net)
        self.average = Average(self.net)

    @property
    def prior(self) -> StandardGaussian:
        """p(z)"""
        return StandardGaussian(self.latent)

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again: GAN(**config, rng=...)."""
        return arguments_of(self, "image_shape", "latent", "arch", "hidden", "channels", "activation")

    def decode(self, z: Any) -> Delta:
        """The image of each z: by the weights while training, by their average afterwards.     z (..., K) -> (..., *image_shape)"""
        if z.shape[-1] != self.latent:
            raise ShapeError(f"GAN.decode: z is {tuple(z.shape)}, the model has {self.latent} latents; need (..., {self.latent})")
        x = (self.net if self.training else self.average)(in_rows(z))
        x = ops.sigmoid(x) if len(self.image_shape) == 3 else x
        return Delta(as_they_were(x, z.shape[:-1]), event_ndim=len(self.image_shape))

    def critic(self, rng: Stream, pack: int = 1, spectral: bool = False) -> Sequential:
        """Who tells real from made, the mirror image of the generator with leaky relus: large for what looks real.

        pack images at a time, one behind the other in the channels: (N, H, W, pack C) -> (N, 1), or (N, pack D) -> (N, 1)"""
        return critic_of(self.image_shape, rng, self.arch, self.hidden, self.channels, pack, spectral)

    def move_average(self, decay: float) -> None:
        """average <- decay average + (1 - decay) weights, while training; see nn.Average."""
        if self.training:
            self.average.follow(self.net, decay)


def critic_of(
    image_shape: Sequence[int],
    rng: Stream,
    arch: str = "dense",
    hidden: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
    pack: int = 1,
    spectral: bool = False,
) -> Sequential:
    """A critic of images, by default with the layers that a GAN has; see GAN.critic."""
    shape = tuple(int(n) for n in image_shape)
    hidden = HIDDEN[arch] if hidden is None else hidden
    channels = default_channels(arch, shape, channels)
    encoder = networks((*shape[:-1], pack * shape[-1]), rng, arch, hidden, channels, "leaky_relu", 1, 1).encoder
    for layer in encoder.layers[:-1]:
        if hasattr(layer, "activation"):
            layer.activation = leaky_relu
    keep_variance(encoder)
    if spectral:
        power = rng.split("directions of the spectral norms")
        encoder.layers = [SpectralNorm(layer, power) if hasattr(layer, "w") else layer for layer in encoder.layers]
    return encoder


def keep_variance(net: Sequential) -> None:
    """Weights of variance 2 / fan_in, and 1 / fan_in in the last layer, biases of 0: what z or x tells reaches the other end undiminished,
    where no normalization helps.        K. He et al., "Delving deep into rectifiers", 2015, eq. 10"""
    layers: list[Any] = [layer for layer in net.layers if hasattr(layer, "w")]
    for layer in layers:
        layer.w.data *= np.float32(np.sqrt(3 if layer is layers[-1] else 6))  # U(-a, a) has the variance a^2 / 3
        layer.b.data[...] = 0


def default_channels(arch: str, image_shape: tuple[int, ...], channels: Sequence[int] | None) -> Sequence[int] | None:
    """64, 128, 128 ... down to an image of 4 to 7 pixels; for two stages, 64 and 128."""
    if channels is not None or arch != "conv":
        return channels
    stages, side = 0, min(image_shape[:2])
    while side >= 8 or stages == 0:
        side, stages = side // 2, stages + 1
    return (64, *[128] * (stages - 1))


def leaky_relu(x: Any) -> Any:
    """x for x > 0, else 0.2 x"""
    return ops.leaky_relu(x, SLOPE)
