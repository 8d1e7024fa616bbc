"""VQ-VAE: the code is a few entries of a book of vectors, and what the encoder says is rounded to the nearest of them.

A. van den Oord, O. Vinyals and K. Kavukcuoglu, "Neural discrete representation learning", 2017.

The latents are `groups` vectors, each of them one of M.  q(z | x) is a point, and under the uniform prior its KL is groups log M nats for
every image: what it takes to say which entries they are.  So -log p(x | z) + groups log M is a bound on -log P(x), as the ELBO is.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backend import xp
from ..distributions import Delta, Distribution, register_kl
from ..engine import Tensor, constant_of, no_grad, stop_gradient
from ..errors import ShapeError, UsageError
from ..random import Stream
from .vae import VAE


class Codebook(Distribution):
    """Each of `groups` vectors is one of M entries, all alike: the prior of a VQ-VAE.     entries (M, D), an event (groups D,)"""

    event_ndim = 1

    def __init__(self, entries: Any, groups: int):
        self.entries, self.groups = entries, groups

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.groups * self.entries.shape[1],)

    @property
    def nats(self) -> float:
        """groups log M"""
        return self.groups * math.log(self.entries.shape[0])

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """Entries at random, a constant.     -> (*n, groups D)"""
        entries = self.entries.data if isinstance(self.entries, Tensor) else self.entries
        lead = (int(n),) if isinstance(n, int | np.integer) else tuple(n)
        M, D = entries.shape
        u = rng.uniform((*lead, self.groups), like=entries)
        return stop_gradient(entries[xp(entries).minimum((u * M).astype(np.int64), M - 1)].reshape(*lead, self.groups * D))


@register_kl(Delta, Codebook)
def _(q: Delta, p: Codebook, event_ndim: int) -> Tensor:
    """groups log M for an image; its numbers bear equal shares."""
    mean = q.mean.data if isinstance(q.mean, Tensor) else q.mean
    return constant_of(equal_numbers, mean, p.nats if event_ndim else p.nats / p.shape[0], event_ndim)


def equal_numbers(mean: Any, value: float, drop: int) -> Any:
    """value for each image, or for each number of its code."""
    return xp(mean).full(mean.shape[: mean.ndim - drop], value, mean.dtype)


class Quantized(NamedTuple):
    """What a VQ-VAE makes of a batch."""

    z: Tensor  # (N, groups D), entries of the book; to the encoder's gradient they are what it said: straight through
    codebook: Tensor  # (N,), |sg(said) - entry|^2, which moves the entries
    commitment: Tensor  # (N,), |said - sg(entry)|^2, which moves the encoder


class VQVAE(VAE):
    """x -> vectors -> the nearest entries -> p(x | z).

    latent     numbers of the code, groups * D
    groups     vectors that the code is of; by default vectors of 4 numbers, or fewer where 4 does not divide latent
    entries    M, vectors in the book
    options    the VAE's
    """

    parameters_each = 1

    def __init__(
        self, image_shape: Sequence[int], rng: Stream, latent: int = 32, groups: int | None = None, entries: int = 64, **options: Any
    ):
        groups = latent // max(d for d in range(1, 5) if latent % d == 0) if groups is None else groups
        if groups < 1 or entries < 2 or latent % max(groups, 1):
            raise UsageError(
                f"VQVAE: latent is {latent}, groups {groups}, entries {entries}; need groups that divide latent, and 2 entries or more"
            )
        super().__init__(image_shape, rng, latent=latent, **options)
        self.groups = groups
        self.book = Tensor(
            0.3 * rng.split("codebook").normal((entries, latent // groups))
        )  # about as long as what an untrained encoder says

    def config(self) -> dict[str, Any]:
        return super().config() | {"groups": self.groups, "entries": self.book.shape[0]}

    @property
    def prior(self) -> Codebook:
        return Codebook(self.book, self.groups)

    def posterior(self, parameters: Tensor) -> Delta:
        """The point q(z | x).  A gradient goes to the encoder straight through, and to the entries that were chosen."""
        said, entries = self.rounded(parameters)
        return Delta(ops.subtract(ops.add(entries, said), stop_gradient(said)))

    def quantize(self, x: Any) -> Quantized:
        """As training by `objectives.VectorQuantization` takes it.     x (N, *image_shape)"""
        said, entries = self.rounded(self.encoder(x))
        codebook, commitment = ops.subtract(stop_gradient(said), entries), ops.subtract(said, stop_gradient(entries))
        z = ops.add(said, stop_gradient(ops.subtract(entries, said)))
        return Quantized(z, (codebook * codebook).sum(axis=-1), (commitment * commitment).sum(axis=-1))

    def rounded(self, said: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder said, and the nearest entries; to their gradient the choice is a constant.     (N, groups D) both"""
        if said.ndim != 2 or said.shape[1] != self.latent:
            raise ShapeError(f"VQVAE: the encoder gives {said.shape} for {self.latent} latents; need (N, {self.latent})")
        chosen = constant_of(nearest_entries, said.data, self.book.data)  # (N groups, M), one 1 a row
        return said, ops.reshape(chosen @ self.book, said.shape)

    def indices(self, x: Any) -> np.ndarray:
        """Which entries stand for the images.     (N, *image_shape) -> (N, groups)"""
        with no_grad():
            said = self.encoder(x)
            chosen = nearest_entries(said.data, self.book.data).argmax(axis=1)
        return np.asarray(stop_gradient(chosen).numpy()).reshape(-1, self.groups)


def nearest_entries(said: Any, book: Any) -> Any:
    """One-hot rows of the entry at the least distance, the first where two tie.     (N, groups D), (M, D) -> (N groups, M)"""
    rows = said.reshape(-1, 1, book.shape[1])
    distances = ((rows - book) ** 2).sum(axis=-1)
    return (distances.argmin(axis=1)[:, None] == xp(book).arange(len(book))).astype(book.dtype)


def perplexity(indices: np.ndarray, entries: int) -> np.ndarray:
    """exp of the entropy of how often each entry is used, for each group, over all the images given: 1 to M.     (N, groups) -> (groups,)

    Of a batch it is smaller than of the data, whatever the model: N images cannot use more than N entries.
    """
    indices = np.asarray(indices)
    if indices.ndim != 2 or not len(indices) or indices.min() < 0 or indices.max() >= entries:
        raise ShapeError(f"perplexity: indices are {indices.shape}, entries {entries}; need (N, groups) of 0 to {entries - 1}")
    shares = np.stack([np.bincount(column, minlength=entries) / len(indices) for column in indices.T])
    return np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1))
