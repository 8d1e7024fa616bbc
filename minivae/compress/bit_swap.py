"""Bit-Swap: bits back with two layers of latents, z2 ~ N(0, I), z1 ~ p(z1 | z2), x ~ p(x | z1), and q(z1 | x) q(z2 | z1).

    pop z1 by q(z1 | x);   push x by p(x | z1);   pop z2 by q(z2 | z1);   push z1 by p(z1 | z2);   push z2 by p(z2)

With both latents popped before anything is pushed, the first image would take initial bits for both; here z2 comes from what x has just
left.  What an image adds is the negative ELBO of both layers.

z1 is one of 2^latent_bits bins that N(m, s^2) fills equally, m and s the mean and the standard deviation that the model's own prior gives
each number of z1, over 256 draws of z2.  Here the bins need a slot each, since the bin that q has popped is pushed by p(z1 | z2).

F. H. Kingma, P. Abbeel and J. Ho, "Bit-Swap: recursive bits-back coding for lossless compression with hierarchical latent variables", 2019.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import UsageError
from ..models import VAE, HierarchicalVAE
from .bits_back import MEAN, BitsBack
from .messages import splitmix
from .portable import Portable
from .tables import POSITION

CODERS: dict[type, type[BitsBack]] = {VAE: BitsBack}
DRAWS = 256  # of z2, for the place of the bins of z1
SMALLEST = 2.0**-6  # s is no less


class BitSwap(BitsBack):
    """The coder of a HierarchicalVAE; arguments and methods are those of BitsBack."""

    story = HierarchicalVAE

    def __init__(self, model: Any, latent_bits: int = 8, *others: int, **more: int):
        super().__init__(model, latent_bits, *others, **more)
        self.upwards, self.downwards = Portable(model.upwards, "upwards", self.at), Portable(model.downwards, "downwards", self.at)
        self.networks += [self.upwards, self.downwards]
        self.first, self.second = model.lengths
        draws = splitmix(np.arange(DRAWS * self.second, dtype=np.uint64)) >> np.uint64(64 - latent_bits)
        mean, inverse = self.gaussian(self.downwards(self.inputs(self.centres[draws.astype(np.int64)].reshape(DRAWS, -1))), False)
        # sums of 256 numbers one after the other, so that they are rounded alike everywhere
        m, square = np.zeros(self.first), np.zeros(self.first)
        for mu, v in zip(mean / 2.0**POSITION, 2.0**POSITION / inverse, strict=True):
            m, square = m + mu, square + (mu * mu + v * v)
        m, square = m / DRAWS, square / DRAWS
        self.place = np.floor(m * 2.0**POSITION + 0.5)
        self.spread = np.floor(np.sqrt(np.maximum(square - m * m, SMALLEST**2)) * 2.0**POSITION + 0.5) / 2.0**POSITION

    def inputs(self, positions: np.ndarray) -> np.ndarray:
        """Latents of 2^-POSITION as networks take them."""
        return np.floor(positions * 2.0 ** (self.at.activation - POSITION) + 0.5)

    def on_bins(self, mean: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A Gaussian of z1 in units of its bins: (mean - m) / s, s / sigma."""
        mean = np.clip(np.floor((mean - self.place) / self.spread + 0.5), -MEAN, MEAN).astype(np.int64)
        return mean, np.clip(np.floor(inverse * self.spread + 0.5), 1, 1 << 28).astype(np.int64)

    def posterior(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """q(z1 | x) in units of the bins."""
        return self.on_bins(*super().posterior(pixels))

    def z1(self, bins: np.ndarray) -> np.ndarray:
        """The centres of bins, as networks take them."""
        return self.inputs(np.floor(self.centres[bins] * self.spread + self.place + 0.5))

    def append(self, coder: Any, state: tuple, lows: np.ndarray, q: tuple, noise: np.ndarray, x: np.ndarray) -> None:
        at = self.edges, self.table, self.posterior_bits
        low, high = np.empty((len(x), self.first), np.int64), np.empty((len(x), self.second), np.int64)
        coder.pop_latents(*state, lows, *q, noise[:, : self.first], *at, 0, low)
        z1 = self.z1(low)
        self.pixels.push(coder, state, self.pixels.parameters(self.decoder(z1)), x)
        coder.pop_latents(*state, lows, *self.gaussian(self.upwards(z1), False), noise[:, self.first :], *at, 0, high)
        p = self.on_bins(*self.gaussian(self.downwards(self.inputs(self.centres[high])), False))
        coder.push_latents(*state, *p, np.zeros_like(noise[:, : self.first]), *at, 1, low)
        coder.push_uniform(*state, high, self.latent_bits)

    def take(self, coder: Any, state: tuple, noise: np.ndarray, x: np.ndarray) -> Iterator[None]:
        at, n = (self.edges, self.table, self.posterior_bits), len(noise)
        low, high = np.empty((n, self.first), np.int64), np.empty((n, self.second), np.int64)
        coder.pop_uniform(*state, high, self.latent_bits)
        yield
        p = self.on_bins(*self.gaussian(self.downwards(self.inputs(self.centres[high])), False))
        coder.pop_latents(*state, np.zeros(n, np.int64), *p, np.zeros_like(noise[:, : self.first]), *at, 1, low)
        yield
        z1 = self.z1(low)
        coder.push_latents(*state, *self.gaussian(self.upwards(z1), False), noise[:, self.first :], *at, 0, high)
        yield
        self.pixels.pop(coder, state, self.pixels.parameters(self.decoder(z1)), x)
        yield
        coder.push_latents(*state, *self.posterior(x), noise[:, : self.first], *at, 0, low)
        yield


CODERS[HierarchicalVAE] = BitSwap


def coder_of(model: Any, *bits: int) -> BitsBack:
    """The coder that fits the model: bits-back for a VAE, Bit-Swap for two layers.     bits    those that BitsBack takes, in their order"""
    if type(model) not in CODERS:
        known = " or a ".join(kind.__name__ for kind in CODERS)
        raise UsageError(f"a {type(model).__name__} cannot code images; train a {known}")
    return CODERS[type(model)](model, *bits)
