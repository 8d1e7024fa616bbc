"""Layers of networks that know at which noise they work: group norm, FiLM, residual blocks, and a U-Net of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import UsageError
from ..random import Stream
from .layers import Conv2d, ConvTranspose2d, Dense
from .module import Module

FASTEST = 1000.0  # periods of the quickest wave in a time of 1, over 2 pi


class GroupNorm(Module):
    """Normalizes each example over its pixels and over groups of channels, then y gamma + beta a channel.     (N, ..., C) -> (N, ..., C)

    Y. Wu and K. He, "Group normalization", 2018."""

    def __init__(self, channels: int, groups: int = 8, eps: float = 1e-5):
        groups = math.gcd(channels, groups)
        self.gamma, self.beta = Tensor(np.ones(channels, np.float32)), Tensor(np.zeros(channels, np.float32))
        self.groups, self.eps = groups, eps

    def forward(self, x: Any, film: Any = None) -> Tensor:
        """film, if given: (scale, shift), (N, C) both, of each example's own: y (1 + scale) + shift follows."""
        if film is None:
            return ops.group_norm(x, self.gamma, self.beta, groups=self.groups, eps=self.eps)
        scale, shift = film
        more = scale + 1.0
        return ops.group_norm(x, self.gamma * more, self.beta * more + shift, groups=self.groups, eps=self.eps)


class TimeEmbedding(Module):
    """A time t in [0, 1] as waves of many lengths, behind a small network.     (N,) -> (N, units)

    A. Vaswani et al., "Attention is all you need", 2017, 3.5; for noise: J. Ho et al., "DDPM", 2020."""

    def __init__(self, units: int, rng: Stream, waves: int = 16):
        self.waves = waves
        self.net = [Dense(2 * waves, units, rng, "silu"), Dense(units, units, rng, "silu")]

    def forward(self, t: Any) -> Any:
        h = constant_of(waves_of, t, self.waves)
        for layer in self.net:
            h = layer(h)
        return h


def waves_of(t: Any, waves: int) -> Any:
    """sin and cos of w t, w from 1 to FASTEST in equal ratios.     (N,) -> (N, 2 waves)"""
    module = xp(t)
    w = (FASTEST ** (module.arange(waves) / max(waves - 1, 1))).astype(t.dtype)  # made where t is: a graph copies nothing
    return module.concatenate([module.sin(t[:, None] * w), module.cos(t[:, None] * w)], axis=1)


class Film(Module):
    """y (1 + scale(e)) + shift(e), a scale and a shift a channel.     (N, ..., C), e (N, E) -> (N, ..., C)

    E. Perez et al., "FiLM", 2018.  It starts as y: the weights are 0."""

    def __init__(self, channels: int, embedding: int, rng: Stream):
        self.dense = Dense(embedding, 2 * channels, rng)
        self.dense.w.data[...] = 0
        self.dense.b.data[...] = 0

    def of(self, e: Any) -> Any:
        """(scale, shift)     (N, E) -> two (N, C)"""
        return ops.split(self.dense(e), 2)

    def forward(self, y: Any, e: Any) -> Any:
        scale, shift = self.of(e)
        shape = (len(y), *[1] * (y.ndim - 2), y.shape[-1])
        return y * (ops.reshape(scale, shape) + 1.0) + ops.reshape(shift, shape)


class ResidualBlock(Module):
    """x + conv(silu(film(norm(conv(silu(norm(x)))))))     (N, H, W, C), e (N, E) -> (N, H, W, O)"""

    def __init__(self, inputs: int, outputs: int, embedding: int, rng: Stream):
        self.first, self.second = GroupNorm(inputs), GroupNorm(outputs)
        self.conv, self.last = Conv2d(inputs, outputs, rng, 3, padding=1), Conv2d(outputs, outputs, rng, 3, padding=1)
        self.film = Film(outputs, embedding, rng)
        self.skip = Conv2d(inputs, outputs, rng, 1) if inputs != outputs else None

    def forward(self, x: Any, e: Any) -> Any:
        h = self.conv(ops.silu(self.first(x)))
        h = self.last(ops.silu(self.second(h, self.film.of(e))))
        return h + (x if self.skip is None else self.skip(x))


class UNet(Module):
    """An image and a time to an image: down by halves, up again, with what each size saw on the way down handed across.

    inputs, outputs   channels of the image;  channels   of each size, the largest first
    (N, H, W, inputs), t (N,) -> (N, H, W, outputs), which starts as 0        O. Ronneberger et al. 2015; J. Ho et al. 2020
    """

    def __init__(
        self, size: Sequence[int], inputs: int, outputs: int, rng: Stream, channels: Sequence[int] = (16, 32, 64), blocks: int = 2
    ):
        if not channels or min(channels) < 1 or blocks < 1 or min(size) < 2 ** (len(channels) - 1):
            raise UsageError(f"UNet: {tuple(size)} pixels, channels {tuple(channels)}, {blocks} blocks; need 1 each, and pixels to halve")
        e = 4 * channels[0]
        self.time = TimeEmbedding(e, rng)
        self.into = Conv2d(inputs, channels[0], rng, 3, padding=1)
        self.down, self.halve, self.double, self.up = [], [], [], []
        sizes, before = [tuple(size)], channels[0]
        for i, c in enumerate(channels):
            self.down.append([ResidualBlock(before if j == 0 else c, c, e, rng) for j in range(blocks)])
            if i < len(channels) - 1:
                self.halve.append(Conv2d(c, c, rng, 4, stride=2, padding=1))
                sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
            before = c
        for i in reversed(range(len(channels) - 1)):
            c = channels[i]
            self.double.append(ConvTranspose2d(channels[i + 1], c, rng, 4, stride=2, padding=1, size=sizes[i]))
            self.up.append([ResidualBlock(2 * c if j == 0 else c, c, e, rng) for j in range(blocks)])
        self.norm, self.out = GroupNorm(channels[0]), Conv2d(channels[0], outputs, rng, 3, padding=1)
        self.out.w.data[...] = 0
        self.out.b.data[...] = 0

    def forward(self, x: Any, t: Any) -> Any:
        e, seen = self.time(t), []
        h = self.into(x)
        for i, blocks in enumerate(self.down):
            for block in blocks:
                h = block(h, e)
            if i < len(self.halve):
                seen.append(h)
                h = self.halve[i](h)
        for double, blocks in zip(self.double, self.up, strict=True):
            h = ops.concatenate([double(h), seen.pop()], axis=-1)
            for block in blocks:
                h = block(h, e)
        return self.out(ops.silu(self.norm(h)))


class FilmMLP(Module):
    """Layers of `hidden` units that know the time.     (N, D), t (N,) -> (N, D), which starts as 0"""

    def __init__(self, inputs: int, outputs: int, rng: Stream, hidden: Sequence[int] = (256, 256, 256), embedding: int = 64):
        if not hidden or min(hidden) < 1:
            raise UsageError(f"FilmMLP: hidden is {tuple(hidden)}; need at least one layer of at least 1 unit")
        self.time = TimeEmbedding(embedding, rng)
        widths = (inputs, *hidden)
        self.layers = [Dense(widths[i], widths[i + 1], rng) for i in range(len(hidden))]
        self.films = [Film(units, embedding, rng) for units in hidden]
        self.out = Dense(hidden[-1], outputs, rng)
        self.out.w.data[...] = 0
        self.out.b.data[...] = 0

    def forward(self, x: Any, t: Any) -> Any:
        e, h = self.time(t), x
        for i, (layer, film) in enumerate(zip(self.layers, self.films, strict=True)):
            new = ops.silu(film(layer(h), e))
            h = new + h if i and new.shape == h.shape else new
        return self.out(h)
