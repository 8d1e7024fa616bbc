"""A lossy codec: a picture becomes few integers, of which a density is learned, and comes back nearly.

J. Balle, V. Laparra and E. P. Simoncelli, "End-to-end optimized image compression", 2017.

    y = analysis(x),  a sixteenth of the sides;    y^ = round(y);    x^ = synthesis(y^)

As a VAE: q(y~ | x) is uniform of width 1 around y, its entropy 0, and p(y~) the density, so that the KL is the rate, -log p(y~).
"""

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import ShapeError, UsageError
from ..nn import GDN, Conv2d, ConvTranspose2d, Module, Sequential
from ..random import Stream

STRIDE = 16  # pixels a side of what a latent stands for
GAIN = 8.0  # of the latents against what a network says: they begin wider than a step of rounding


class Factorized(Module):
    """A density for each channel, alike at each place: a mixture of `components` logistics.

    F(y) = sum_k w_k sigmoid((y - m_k) / s_k), and of an integer P(y) = F(y + 1/2) - F(y - 1/2)
    """

    def __init__(self, channels: int, components: int = 3):
        centres = np.linspace(-1, 1, components) if components > 1 else np.zeros(1)
        self.logits = Tensor(np.zeros((components, channels), np.float32))
        self.means = Tensor(np.repeat(centres[:, None], channels, axis=1).astype(np.float32))
        self.log_scales = Tensor(np.zeros((components, channels), np.float32))

    def log_prob(self, y: Any) -> Tensor:
        """log P(y), nats, also between integers.     (..., C) -> (..., C)

        Each component by sigmoid(a) sigmoid(-b) (1 - e^-(a - b)), a and b its arguments at the two ends: nothing cancels far out."""
        inverse = ops.exp(-self.log_scales)  # (K, C)
        centred = ops.reshape(y, (*y.shape[:-1], 1, y.shape[-1])) - self.means  # (..., K, C)
        a, b = (centred + 0.5) * inverse, (centred - 0.5) * inverse
        within = ops.log(-ops.expm1(-inverse)) - ops.softplus(-a) - ops.softplus(b)
        return ops.logsumexp(within + ops.log_softmax(self.logits, axis=0), axis=-2)


class Codec(Module):
    """4x4 convolutions of stride 2, with GDN between them, and their mirror image.     pixels in [0, 1]

    image_shape  (H, W, C): its channels count; sides may be any multiples of 16
    channels     N, of the three inner layers
    latent       M, of the integers
    components   of the density of each channel
    """

    def __init__(self, image_shape: Any, rng: Stream, channels: int = 32, latent: int = 48, components: int = 3):
        if len(image_shape) != 3 or image_shape[-1] < 1:
            raise ShapeError(f"Codec: image_shape is {tuple(image_shape)}; need (height, width, channels)")
        if min(channels, latent, components) < 1:
            raise UsageError(f"Codec: channels is {channels}, latent {latent}, components {components}; need at least 1 each")
        self.image_shape, self.channels, self.latent, self.components = tuple(map(int, image_shape)), channels, latent, components
        depths = (self.image_shape[2], channels, channels, channels, latent)
        options: dict[str, Any] = {"kernel": 4, "stride": 2, "padding": 1}
        down: list[Module] = []
        up: list[Module] = []
        for i in range(4):
            down += [Conv2d(depths[i], depths[i + 1], rng.split(f"down {i}"), **options), *([GDN(channels)] if i < 3 else [])]
            up += [ConvTranspose2d(depths[4 - i], depths[3 - i], rng.split(f"up {i}"), **options)]
            up += [GDN(channels, inverse=True)] if i < 3 else []
        up[-1].b.data += np.float32(0.5)  # type: ignore[attr-defined]  # gray, before anything is learned
        self.down, self.up, self.density = Sequential(*down), Sequential(*up), Factorized(latent, components)

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again."""
        return {
            "image_shape": list(self.image_shape),
            "channels": self.channels,
            "latent": self.latent,
            "components": self.components,
        }

    def analysis(self, x: Any) -> Tensor:
        """(N, H, W, C) -> (N, H / 16, W / 16, M)"""
        if x.ndim != 4 or x.shape[3] != self.image_shape[2] or x.shape[1] % STRIDE or x.shape[2] % STRIDE or not x.shape[1] * x.shape[2]:
            raise ShapeError(
                f"Codec: x is {tuple(x.shape)}; need (N, H, W, {self.image_shape[2]}), sides multiples of {STRIDE}: fill up by the edge"
            )
        return self.down(x) * GAIN

    def synthesis(self, y: Any) -> Tensor:
        """(N, H / 16, W / 16, M) -> (N, H, W, C), not cut to [0, 1]"""
        return self.up(ops.multiply(y, 1 / GAIN))

    def quantized(self, y: Any, rng: Stream) -> Any:
        """y + U(-1/2, 1/2) while training, which has the density that rounding has at integers; the nearest integers afterwards."""
        if not self.training:
            return constant_of(nearest, y.data)
        u: Any = rng.uniform(y.shape, like=y.data)
        return ops.add(y, ops.subtract(u, 0.5))

    def bits(self, y: Any) -> Tensor:
        """-log2 P(y) of each picture.     (N, h, w, M) -> (N,)"""
        return self.density.log_prob(y).sum(axis=(1, 2, 3)) * (-1 / math.log(2))


def nearest(y: Any) -> Any:
    return xp(y).rint(y)
