"""Bits-back coding: images in as many bits as the negative ELBO of a VAE.

To append an image x to a message:

    pop z from it by q(z | x)        the message becomes shorter by -log2 q(z | x) bits: it is noise, and serves to draw z
    push x by p(x | z)               longer by -log2 p(x | z)
    push z by p(z)                   longer by -log2 p(z);    in the mean by -ELBO in all

and to take it off again, all is done backwards: pop z by p(z), pop x by p(x | z), push z by q(z | x).  The first image of a message finds
nothing to draw its z with and takes initial bits, which then are in the message and are counted: those that are never touched are cut off.

z is one of 2^latent_bits bins that N(0, I) fills equally, so that p(z) is exact; of q(z | x) the bins have the rounded difference of its
distribution function at their edges, found by halving intervals.  A bin without mass is never popped.  Pixels have one slot at least.

The last bits of a message are the latents of the image before, and like images have like latents: z would be copied and not drawn.  So the
bits that z is drawn by are exclusive-or noise, which writer and reader make alike: whatever the message is, they are noise.

Images are coded in blocks, each a message of its own, so that one can be read without the others, and many are worked at together.

J. Townsend, T. Bird and D. Barber, "Practical lossless compression with latent variables using bits back coding", 2019.
"""

import functools
import hashlib
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..backend import cpu_backend
from ..errors import DataError, ShapeError, UsageError
from ..kernels.cpu import bits_back as kernels
from ..kernels.cpu import jit
from ..models import VAE
from . import reference
from .integers import STANDARD, Precision
from .messages import LOW, Group, Shared, group_bits, initial_words, splitmix
from .pixels import PIXELS
from .portable import Portable
from .tables import POSITION, STEP, bin_centres, bin_edges, exp_table, normal_table

LOG_SIGMA = (-8, 6)  # of the posterior; beyond, it is cut
MEAN = 1 << (POSITION + 6)  # likewise
BLOCK = 500  # images
LARGEST_BLOCK = 1 << 16
TOGETHER = 64  # blocks worked at at once
ROOM = 1 << 22  # words of initial bits, and of pixels of a group of blocks: what memory is bounded by


class Block(NamedTuple):
    """A message: `images` images, the words with the state behind them, and the CRC32 of the images' bytes."""

    images: int
    words: np.ndarray  # uint32
    crc: int


class BitsBack:
    """The coder of a model: a VAE of 8-bit or binary images, on any device and of any backend; its networks are rounded to integers.

    A model on a GPU has its networks there, and the messages on the CPU: of each image of up to 64 blocks together, codes go there and
    what the decoder says of the pixels comes back.  The file is the same to the byte, and any machine reads it.

    latent_bits       the bins of a latent are 2^latent_bits
    posterior_bits    precision of the posterior over them
    pixel_bits        precision of a pixel's distribution
    weight_bits       of the networks' weights, behind the point
    activation_bits   of what flows between their layers
    """

    story: Any = VAE  # the models that it codes with

    def __init__(
        self,
        model: Any,
        latent_bits: int = 8,
        posterior_bits: int = 24,
        pixel_bits: int = 20,
        weight_bits: int = STANDARD.weight,
        activation_bits: int = STANDARD.activation,
    ):
        if type(model) is not self.story:
            raise UsageError(f"{type(self).__name__} codes with a {self.story.__name__}, and this is a {type(model).__name__}")
        if model.likelihood not in PIXELS:
            raise UsageError(
                f"the likelihood is {model.likelihood}, which gives no pixel a probability; train with --likelihood {' or '.join(PIXELS)}"
            )
        if not (1 <= latent_bits <= 16 and latent_bits <= posterior_bits <= 30 and 9 <= pixel_bits <= 24):
            raise UsageError(
                f"bits of latents, posterior and pixels are {latent_bits}, {posterior_bits}, {pixel_bits}; "
                "need 1 to 16, as many to 30, 9 to 24"
            )
        self.shape, self.latent, self.likelihood = model.image_shape, model.latent, model.likelihood
        self.latent_bits, self.posterior_bits, self.pixel_bits = latent_bits, posterior_bits, pixel_bits
        self.is_log_sigma = model.head == "log_sigma"
        self.at = Precision(weight_bits, activation_bits)
        self.encoder, self.decoder = Portable(model.encoder, "encoder", self.at), Portable(model.decoder, "decoder", self.at)
        self.pixels = PIXELS[model.likelihood](pixel_bits, self.at)
        self.edges, self.centres = bin_edges(latent_bits), bin_centres(latent_bits)
        self.codes = np.floor(self.centres * 2.0 ** (self.at.activation - POSITION) + 0.5)  # as the decoder takes them
        self.inverses = exp_table(-LOG_SIGMA[1], -LOG_SIGMA[0], POSITION)
        self.table = normal_table()
        self.networks = [self.encoder, self.decoder]

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of all that decoding depends on: the integers of the networks, the tables, the precisions."""
        found = hashlib.sha256(b"".join(network.digest.digest() for network in self.networks))
        found.update(repr((self.shape, self.latent, self.likelihood, self.is_log_sigma, self.latent_bits, self.posterior_bits)).encode())
        found.update(repr((self.pixel_bits, self.at.weight, self.at.activation)).encode())
        for table in (self.edges, self.centres, self.inverses, self.table, *self.pixels.tables):
            found.update(table.astype("<f8" if table.dtype.kind == "f" else "<i8").tobytes())
        return found.digest()

    @property
    def size(self) -> int:
        """Pixels of an image, times channels."""
        return math.prod(self.shape)

    # --- the networks ---

    @property
    def is_on_gpu(self) -> bool:
        return any(network.is_on_gpu for network in self.networks)

    def posterior(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """q(z | x) as integers of 2^-POSITION.     pixels (N, D) uint8 -> means, 1 / sigma (N, K)"""
        return self.gaussian(self.encoder(self.pixels.inputs(pixels).reshape(len(pixels), *self.shape)), self.is_log_sigma)

    def gaussian(self, y: np.ndarray, is_log_sigma: bool) -> tuple[np.ndarray, np.ndarray]:
        """What a network says of latents, means and then log sigma^2 or log sigma.     sums (N, 2 K) -> means, 1 / sigma (N, K)"""
        to_mean, to_sigma = 2.0 ** (POSITION - self.at.sum), 2.0 ** (STEP - self.at.sum - (not is_log_sigma))
        low, high = LOG_SIGMA[0] << STEP, LOG_SIGMA[1] << STEP
        if cpu_backend() == "numba":
            means, inverses = np.empty((2, len(y), y.shape[1] // 2), np.int64)
            kernels.gaussian(y, to_mean, MEAN, to_sigma, low, high, self.inverses, means, inverses)
            return means, inverses
        mean, second = y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :]
        mean = np.clip(np.floor(mean * to_mean + 0.5), -MEAN, MEAN).astype(np.int64)
        log_sigma = np.clip(np.floor(second * to_sigma + 0.5), low, high).astype(np.int64)
        return mean, self.inverses[high - log_sigma]

    def parameters(self, bins: np.ndarray) -> tuple[Any, ...]:
        """p(x | z) at the centres of the bins (N, K), as the coder of pixels takes it."""
        return self.pixels.parameters(self.decoder(self.codes[bins]))

    def append(self, coder: Any, state: tuple, lows: np.ndarray, q: tuple, noise: np.ndarray, x: np.ndarray) -> None:
        """An image onto each message.     q: its posterior, means and 1 / sigma (B, K), noise (B, K), x (B, D)"""
        bins = np.empty(noise.shape, np.int64)
        coder.pop_latents(*state, lows, *q, noise, self.edges, self.table, self.posterior_bits, 0, bins)
        self.pixels.push(coder, state, self.parameters(bins), x)
        coder.push_uniform(*state, bins, self.latent_bits)

    def take(self, coder: Any, state: tuple, noise: np.ndarray, x: np.ndarray) -> Iterator[None]:
        """The inverse, into x (B, D).  Yields after each step, so that a message that ran out is seen before its numbers are used."""
        bins = np.empty(noise.shape, np.int64)
        coder.pop_uniform(*state, bins, self.latent_bits)
        yield
        self.pixels.pop(coder, state, self.parameters(bins), x)
        yield
        coder.push_latents(*state, *self.posterior(x), noise, self.edges, self.table, self.posterior_bits, 0, bins)
        yield

    # --- images to blocks ---

    def encode(self, images: np.ndarray, block: int = BLOCK, lengths: list[np.ndarray] | None = None) -> list[Block]:
        """Blocks of `block` images, the last of what is left.     images (N, *shape) uint8; 0 and 255 alone for binary pixels

        lengths    a list to which is appended, of each block, the length of its message in bits before the first image and after each
        """
        pixels = self.pixels.of_images(self._checked(images))
        if not 1 <= block <= LARGEST_BLOCK or block * self.latent > ROOM:
            raise UsageError(
                f"blocks of {block} images, {self.latent} latents each: need 1 to {min(LARGEST_BLOCK, ROOM // self.latent)} images"
            )
        starts = list(range(0, len(pixels), block))
        found: list[Block] = []
        for group in self._groups(starts, block):
            parts = [pixels[start : start + block] for start in group]
            found += self._by_threads(
                lambda some: self._encode_group(*some), list(zip(parts, [s // block for s in group], strict=True)), lengths
            )
        return found

    def _checked(self, images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise ShapeError(f"images are {images.dtype} {images.shape}; the model codes uint8 (N, {', '.join(map(str, self.shape))})")
        return images.reshape(len(images), self.size)

    def _groups(self, starts: Sequence[Any], block: int) -> list[Sequence[Any]]:
        """As many blocks as memory is for."""
        together = max(1, min(TOGETHER, 8 * ROOM // (block * (self.size + 8 * self.latent))))
        return [starts[i : i + together] for i in range(0, len(starts), together)]

    def _by_threads(self, work: Any, items: list[Any], lengths: list[np.ndarray] | None = None) -> list[Any]:
        """Neighbouring blocks to each thread, all of them to a GPU: they are independent, so that the bits are the same for any number."""
        workers = 1 if self.is_on_gpu else max(1, min(threads(), len(items)))
        cuts = [len(items) * i // workers for i in range(workers + 1)]
        tasks: list[tuple[list[Any], Any]] = [(items[a:b], None if lengths is None else []) for a, b in itertools.pairwise(cuts)]
        if workers == 1:
            done = [work(task) for task in tasks]
        else:
            with ThreadPoolExecutor(workers) as pool:
                done = list(pool.map(work, tasks))
        for _, told in tasks:
            if lengths is not None and told:
                lengths += told
        return [one for part in done for one in part]

    def _encode_group(self, items: list[tuple[np.ndarray, int]], lengths: list[np.ndarray] | None) -> list[Block]:
        coder = self._coder()
        counts = [len(part) for part, _ in items]
        group = Group(
            np.full(len(items), LOW), [initial_words(number, count * self.latent) for (_, number), count in zip(items, counts, strict=True)]
        )
        pixels = np.zeros((len(items), max(counts), self.size), np.uint8)
        for row, (part, _) in zip(pixels, items, strict=True):
            row[: len(part)] = part
        trace = [group_bits(group)]
        chunk = max(1, BLOCK // len(items))
        for t in range(max(counts)):
            n = sum(count > t for count in counts)  # only the last block may be shorter
            if t % chunk == 0:  # the encoder looks at many images at once
                some = pixels[:n, t : t + chunk]
                ahead = [a.reshape(*some.shape[:2], -1) for a in self.posterior(some.reshape(-1, self.size))]
                noise = self._noise(items[:n], t, some.shape[1])
            x = np.ascontiguousarray(pixels[:n, t])
            means, inverses = (np.ascontiguousarray(a[:n, t % chunk]) for a in ahead)
            group.make_room(self.size + 2 * self.latent)
            self.append(coder, group.first(n), group.lows[:n], (means, inverses), noise[:n, t % chunk], x)
            if lengths is not None:
                trace.append(group_bits(group))
        if lengths is not None:
            lengths += [np.array([row[b] for row in trace[: count + 1]]) for b, count in enumerate(counts)]
        blocks = []
        for b, (part, _) in enumerate(items):
            words = group.words[b, group.lows[b] : group.sizes[b]]
            head = np.array([group.heads[b] & np.uint64(LOW - 1), group.heads[b] >> np.uint64(32)], np.uint32)
            blocks.append(Block(len(part), np.concatenate([words, head]), zlib.crc32(np.ascontiguousarray(part).tobytes())))
        return blocks

    # --- and back ---

    def decode(self, blocks: Sequence[Block], first: int = 0) -> np.ndarray:
        """The images of these blocks, of which the first is number `first` of its file.     -> (N, *shape) uint8

        Raises DataError for a block that was altered, or made by another model."""
        found = [np.zeros((0, self.size), np.uint8)]
        for block in blocks:
            if not 1 <= block.images <= LARGEST_BLOCK or block.images * self.latent > ROOM or len(block.words) < 2:
                raise DataError(f"a block of {block.images} images in {len(block.words)} words is none of ours: the file was altered")
        items = [(block, first + i) for i, block in enumerate(blocks)]
        at = 0
        while at < len(items):  # blocks of one length together; the last is shorter
            count = items[at][0].images
            end = next((i for i in range(at, len(items)) if items[i][0].images != count), len(items))
            for group in self._groups(items[at:end], count):
                found += self._by_threads(lambda some: self._decode_group(some[0]), list(group))
            at = end
        return self.pixels.to_images(np.concatenate(found)).reshape(-1, *self.shape)

    def _decode_group(self, items: list[tuple[Block, int]]) -> list[np.ndarray]:
        coder = self._coder()
        heads = np.array([int(block.words[-2]) | int(block.words[-1]) << 32 for block, _ in items], np.uint64)
        group, count = Group(heads, [block.words[:-2] for block, _ in items]), items[0][0].images
        if (heads < LOW).any():
            raise DataError(f"block {items[int((heads < LOW).argmax())][1]} has no state: the file was altered")
        pixels, x = (np.empty((len(items), *shape, self.size), np.uint8) for shape in ((count,), ()))
        chunk = max(1, BLOCK // len(items))
        for t in reversed(range(count)):
            if t == count - 1 or t % chunk == chunk - 1:
                noise = self._noise(items, t - t % chunk, chunk)
            group.make_room(self.latent)
            state = group.first(len(items))
            for _ in self.take(coder, state, noise[:, t % chunk], x):
                if group.sizes.min() < 0:
                    number = items[int(group.sizes.argmin())][1]
                    raise DataError(f"block {number} ends before its images do: the file was cut or altered")
            pixels[:, t] = x
        for b, (block, number) in enumerate(items):
            rest, initial = group.words[b, : group.sizes[b]], initial_words(number, count * self.latent)
            # the initial bits come back last, those from the first that was touched on
            fits = group.heads[b] == LOW and len(rest) <= len(initial) and (rest == initial[len(initial) - len(rest) :]).all()
            if not fits or zlib.crc32(pixels[b].tobytes()) != block.crc:
                raise DataError(f"block {number} does not decode to the images that were coded: the file was altered")
        return list(pixels)

    def _coder(self) -> Any:
        if cpu_backend() != "numba":
            return reference
        return Shared(kernels, threads()) if self.is_on_gpu and threads() > 1 else kernels

    def _noise(self, items: Sequence[tuple[Any, int]], image: int, count: int) -> np.ndarray:
        """For so many images from that number on, in each block.     -> (blocks, count, latents) uint64 below 2^posterior_bits"""
        start = np.array([number << 32 for _, number in items], np.uint64)[:, None] + np.uint64(image * self.latent)
        found = splitmix(start + np.arange(count * self.latent, dtype=np.uint64)) >> np.uint64(64 - self.posterior_bits)
        return found.reshape(len(items), count, self.latent)


def threads() -> int:
    """That may work at blocks."""
    return jit.threads() if cpu_backend() == "numba" else 1


def total_bits(blocks: Sequence[Block]) -> int:
    """Of all messages, the initial bits among them."""
    return sum(32 * len(block.words) for block in blocks)
