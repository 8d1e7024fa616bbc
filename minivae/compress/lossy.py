"""Pictures of any size in a lossy codec's file: its latents as integers by rANS, and a synthesis that is the same on every machine.

The encoder may compute as it likes, since what it found is in the file.  What a reader needs is made alike everywhere: the probabilities
of the integers, from the functions of tables.py; the convolutions, whose sums of integers are exact (portable.py); GDN's inverse, by
products, sums in a fixed order and square roots of float64, which IEEE 754 rounds in one way.

A picture of any size is worked at in tiles, so that beside its pixels and its latents there is little in memory.  A tile is computed with
REACH latents more on each side, and what these gave is cut off; what is left does not depend on tiles (of a convolution of 4 with stride
2 and padding 1, the inputs [2a - 1, 2b + 1) make the outputs [a, b): after four of them [16a - 15, 16b + 15), less than a latent more on
each side; backwards [16a, 16b) comes of [a - 1, b + 1)).  So tiles are no part of the format, and each reader chooses its own.

The file, little-endian:

    bytes  what
        8  magic, 89 4D 56 50 0D 0A 1A 0A
        1  version, 1
        4  height
        4  width
        8  the first of the SHA-256 of all that decoding depends on: the tables and the integers of the synthesis
        4  CRC32 of all else
           words of the message, 4 bytes each, and its state, 8
"""

import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import nn
from ..backend import to_device, xp
from ..engine import no_grad
from ..errors import DataError, ShapeError, UsageError
from ..models.codec import GAIN, STRIDE
from ..nn import evaluating
from . import tables
from .integers import STANDARD
from .portable import conv_transpose
from .rans import Stack

MAGIC = b"\x89MVP\r\n\x1a\n"
VERSION = 1
HEAD = struct.Struct("<8sBII8sI")
PRECISION = 16
TAIL = 2.0**-20  # of a channel's density that has no symbols on either side: such latents are cut
ACTIVATION, SUM, LIMIT = STANDARD.activation, STANDARD.sum, STANDARD.limit
WIDEST = 1024  # integers on either side of 0 that a channel may have
TOGETHER = 4096  # symbols that are pushed at once
CELLS = 1 << 16  # of the tables of those that are popped at once
TILE = 512  # pixels a side that are worked at at once
REACH = 1  # latents on each side of a tile that have a say in it
LARGEST = 1 << 28  # pixels


class LossyCoder:
    """A Codec as a writer and a reader of files.  Raises UsageError for weights that no integers stand for.

    tile    pixels a side, a multiple of 16, that are worked at at once: what is in memory besides the picture grows with it, and the
            files and pictures do not depend on it
    low     the least integer of each channel, (M,)
    slots   cumulative slots of each channel, of 2^16: symbol k of channel m is the integer low[m] + k
    """

    def __init__(self, model: Any, tile: int = TILE):
        if tile < STRIDE or tile % STRIDE:
            raise UsageError(f"LossyCoder: tile is {tile}; need a multiple of {STRIDE} pixels")
        lacks = [name for name in ("analysis", "up", "density") if not hasattr(model, name)]
        if lacks:
            raise UsageError(f"{type(model).__name__} has no {lacks[0]}, so it is no codec of photos; use a models.Codec")
        self.model, self.channels, self.latent = model, int(model.image_shape[2]), int(model.latent)
        self.low, self.slots = tables_of(model.density)
        self.layers = []
        digest = hashlib.sha256(repr((VERSION, self.low.tolist(), [table.tolist() for table in self.slots])).encode())
        for i, layer in enumerate(model.up.layers):
            forward, arrays = inverse_gdn(layer) if type(layer) is nn.GDN else portable_convolution(layer, f"up.layers.{i}")
            self.layers.append(forward)
            for a in arrays:
                digest.update(repr(a.shape).encode() + a.astype("<f8").tobytes())
        self.digest = digest.digest()[:8]
        self.tile = tile
        slack = 2.0**-15  # bits a symbol: rANS rounds a state above 2^32 down by less than 2^16, of which log2 is less
        self.least = sum(PRECISION - math.log2(int(np.diff(table).max())) - slack for table in self.slots)  # bits of a place

    def latents(self, picture: Any) -> np.ndarray:
        """The integers of a picture, filled up to whole 16s by its edge.     (H, W, C) uint8 -> (h, w, M) int16

        Raises ShapeError, DataError."""
        picture = checked(picture, self.channels, LARGEST)
        height, width = picture.shape[:2]
        h, w = -(-height // STRIDE), -(-width // STRIDE)
        last = self.low + np.array([len(table) - 2 for table in self.slots])
        latents = np.empty((h, w, self.latent), np.int16)
        for part, wide in tiles(h, w, self.tile // STRIDE):
            x = picture[scaled(wide, STRIDE)]
            y = self.analysis(np.pad(x, (*((0, -n % STRIDE) for n in x.shape[:2]), (0, 0)), mode="edge"))
            if not np.isfinite(y).all():
                raise DataError(f"the latents of a picture of {height}x{width} are not finite; use an earlier checkpoint")
            latents[part] = np.clip(np.rint(y[within(part, wide)]), self.low, last)
        return latents

    def analysis(self, x: np.ndarray) -> np.ndarray:
        """The model's, of one picture.     (16 h, 16 w, C) uint8 -> (h, w, M) floats"""
        own = self.model.parameters()[0].data
        with no_grad(), evaluating(self.model):
            scaled_x = (x[None] / np.float32(255)).astype(own.dtype)
            return self.model.analysis(to_device(scaled_x, "cpu" if xp(own) is np else "cuda")).numpy()[0]

    def picture(self, latents: np.ndarray) -> np.ndarray:
        """What the latents say, the same bytes on every machine.     (h, w, M) integers -> (16 h, 16 w, C) uint8"""
        latents = np.asarray(latents)
        h, w = latents.shape[:2]
        picture = np.empty((h * STRIDE, w * STRIDE, self.channels), np.uint8)
        for part, wide in tiles(h, w, self.tile // STRIDE):
            a = latents[wide].astype(np.float64)[None] * (2.0**ACTIVATION / GAIN)  # exact: GAIN is a power of 2
            for layer in self.layers:
                a = layer(a)
            inner = a[0][scaled(within(part, wide), STRIDE)]
            picture[scaled(part, STRIDE)] = np.clip(np.floor(inner * (255 * 2.0**-SUM) + 0.5), 0, 255)
        return picture

    def compress(self, picture: Any) -> bytes:
        """(H, W, C) uint8 -> the file"""
        y = self.latents(picture)
        stack = Stack(lanes=1)
        for m, table in enumerate(self.slots):
            symbols = y[..., m].ravel() - self.low[m]
            for i in range(0, len(symbols), TOGETHER):
                part = symbols[i : i + TOGETHER]
                stack.push(table[part], table[part + 1] - table[part], PRECISION)
        height, width = np.shape(picture)[:2]
        body = stack.words().astype("<u4").tobytes() + stack.heads.astype("<u8").tobytes()
        return HEAD.pack(MAGIC, VERSION, height, width, self.digest, checksum(height, width, self.digest, body)) + body

    def decompress(self, data: bytes, name: str = "the file") -> np.ndarray:
        """The file -> (H, W, C) uint8.     Raises DataError, one sentence, for what was cut, altered or made by another model."""
        height, width, digest, body = read_head(data, name)
        if digest != self.digest:
            raise DataError(
                f"{name} was made by another model: its SHA-256 begins with {digest.hex()[:12]}, this one's with {self.digest.hex()[:12]}; "
                "name the run that it was made with, as it was then"
            )
        stack = Stack(np.frombuffer(body, "<u4", (len(body) - 8) // 4), lanes=1)
        stack.heads = np.frombuffer(body, "<u8", 1, len(body) - 8).astype(np.uint64)
        h, w = -(-height // STRIDE), -(-width // STRIDE)
        if h * w * self.least > 8 * len(body):  # told before there is memory for them
            raise DataError(f"{name} has {len(body):,} bytes, too few for {height}x{width} pixels: it was altered")
        y = np.empty((h * w, self.latent), np.int16)
        try:
            for m in reversed(range(self.latent)):
                together = CELLS // len(self.slots[m])
                for i in reversed(range(0, h * w, together)):
                    rows = min(together, h * w - i)
                    table = np.broadcast_to(self.slots[m], (rows, len(self.slots[m])))
                    y[i : i + rows, m] = stack.pop(table, PRECISION) + self.low[m]
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        if stack.size or int(stack.heads[0]) != 1 << 32:
            raise DataError(f"{name} says more than its {height}x{width} pixels need: it was altered")
        return self.picture(y.reshape(h, w, self.latent))[:height, :width]


def checked(picture: Any, channels: int, largest: int) -> np.ndarray:
    """A picture as coders take it.     Raises ShapeError, DataError."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != channels or not picture.size or picture.dtype != np.uint8:
        raise ShapeError(f"a picture is {picture.dtype} {picture.shape}; need bytes, uint8 (H, W, {channels})")
    height, width = picture.shape[:2]
    if height * width > largest:
        raise DataError(f"a picture of {height}x{width} has more than {largest:,} pixels; cut it into several")
    return picture


Box = tuple[slice, slice]


def tiles(h: int, w: int, side: int) -> Iterator[tuple[Box, Box]]:
    """(a tile, the same with what has a say in it) of h x w latents, row by row."""
    for i in range(0, h, side):
        for j in range(0, w, side):
            ends = min(i + side, h), min(j + side, w)
            yield (
                (slice(i, ends[0]), slice(j, ends[1])),
                (slice(max(i - REACH, 0), min(ends[0] + REACH, h)), slice(max(j - REACH, 0), min(ends[1] + REACH, w))),
            )


def within(part: Box, wide: Box) -> Box:
    """Where a tile is in its wider one."""
    i, j = (slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in zip(part, wide, strict=True))
    return i, j


def scaled(box: Box, factor: int) -> Box:
    i, j = (slice(part.start * factor, part.stop * factor) for part in box)
    return i, j


def checksum(height: int, width: int, digest: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(HEAD.pack(MAGIC, VERSION, height, width, digest, 0)))


def read_head(data: bytes, name: str) -> tuple[int, int, bytes, bytes]:
    """(height, width, digest, the message) of a file, after all checks that need no model."""
    if len(data) < len(MAGIC) or data[: len(MAGIC)] != MAGIC:
        raise DataError(f"{name} is no compressed photo; name one that minivae compress wrote")
    if len(data) < HEAD.size + 8 or (len(data) - HEAD.size) % 4:
        raise DataError(f"{name} was cut short: it has {len(data)} bytes, which are no header of {HEAD.size} and whole words")
    _, version, height, width, digest, crc = HEAD.unpack_from(data)
    if version != VERSION:
        raise DataError(f"{name} is of version {version}, and this minivae reads version {VERSION}; use the one that wrote it")
    body = data[HEAD.size :]
    if crc != checksum(height, width, digest, body):
        raise DataError(f"{name} was altered or cut: it does not match its checksum")
    if not 1 <= height * width <= LARGEST:
        raise DataError(f"{name} says that its picture is {height}x{width}; need 1 to {LARGEST:,} pixels: it was altered")
    return height, width, digest, body


def tables_of(density: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """The least integer of each channel, and the slots of its integers: where each begins, and 2^16.

    Each has a slot at least, so that every integer between the ends can be written; the ends bear the tails."""
    logits, means, log_scales = (
        np.asarray(to_device(p.data, "cpu"), np.float64) for p in (density.logits, density.means, density.log_scales)
    )
    if not all(np.isfinite(a).all() for a in (logits, means, log_scales)):
        raise UsageError("the density holds numbers that are not finite, and no integers stand for them; use an earlier checkpoint")
    shares, scales = tables.exp(logits - logits.max(axis=0)), tables.exp(log_scales)
    edges = np.arange(-WIDEST, WIDEST + 2) - 0.5
    total, cdf = np.zeros(logits.shape[1]), np.zeros((len(edges), logits.shape[1]))
    for share, mean, scale in zip(shares, means, scales, strict=True):  # in a fixed order
        total = total + share
        cdf = cdf + share * tables.sigmoid((edges[:, None] - mean) / scale)
    cdf = cdf / total
    low, slots = [], []
    for column in cdf.T:
        first = min(max(int((column < TAIL).sum()) - 1, 0), len(edges) - 2)  # the last edge below which there is a tail alone
        last = max(len(edges) - max(int((column > 1 - TAIL).sum()), 1), first + 1)
        inner = column[first : last + 1].copy()
        inner[0], inner[-1] = 0.0, 1.0
        symbols = len(inner) - 1
        low.append(first - WIDEST)
        slots.append(np.rint(inner * (2.0**PRECISION - symbols)).astype(np.int64) + np.arange(symbols + 1))
    return np.array(low), slots


def portable_convolution(layer: Any, where: str) -> tuple[Any, list[np.ndarray]]:
    made = conv_transpose(layer, where)
    return made, list(made.integers)


def inverse_gdn(layer: Any) -> tuple[Any, list[np.ndarray]]:
    """Sums of 2^-SUM -> integers of 2^-ACTIVATION:  x_i sqrt(beta_i + sum_j x_j^2 gamma_ji), the sum over j = 1, 2, ... in this order."""
    b, g = (np.asarray(to_device(p.data, "cpu"), np.float64) for p in (layer.b, layer.g))
    beta, gamma = b * b + 1e-6, g * g

    def forward(a: np.ndarray) -> np.ndarray:
        out = np.empty_like(a)
        for at in np.ndindex(a.shape[:2]):  # a row of the picture: what stands in memory besides is small
            x = a[at] * 2.0**-SUM
            n = np.zeros_like(x) + beta
            squares = x * x
            for j in range(len(beta)):
                n = n + squares[:, j : j + 1] * gamma[j]
            out[at] = np.clip(np.floor(x * np.sqrt(n) * 2.0**ACTIVATION + 0.5), -LIMIT, LIMIT)
        return out

    return forward, [beta, gamma]


def ideal_bytes(coder: LossyCoder, latents: np.ndarray) -> float:
    """-log2 of the tables' probabilities of these latents, in bytes: what the message is made of, without its state."""
    bits = 0.0
    for m, table in enumerate(coder.slots):
        symbols = latents[..., m].ravel() - coder.low[m]
        bits -= float(np.log2(np.diff(table)[symbols] / 2.0**PRECISION).sum())
    return bits / 8 if math.isfinite(bits) else math.inf
