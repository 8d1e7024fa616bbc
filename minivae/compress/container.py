"""The file of a lossless coder: what it is, for which model, and blocks that can be read one by one.  All numbers little-endian.

    bytes  what
        8  magic, 89 4D 56 4C 0D 0A 1A 0A: "MVL" in what no text is, so that a transfer as text shows
        1  version, 1
        1  likelihood: its place in LIKELIHOODS
        1  bits of a latent
        1  bits of the posterior
        1  bits of a pixel's distribution
        1  bits behind the point of weights
        1  bits behind the point of activations
        1  axes of an image, 1 to 4
      4 a  the image's shape
        4  latents
        8  images
        4  images of a block; the last has what is left
       32  SHA-256 of all that decoding depends on: the model's integers, the tables, the precisions
        4  blocks b
     12 b  of each: where it ends, in words of 4 bytes from the first block on (8), and the CRC32 of its images (4)
        4  CRC32 of everything so far
           the blocks: the words of the message, then its state, low half first

A reader looks at lengths before it believes them: what it holds in memory is bounded by the file's length and by one group of blocks.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .bit_swap import coder_of
from .bits_back import LARGEST_BLOCK, ROOM, TOGETHER, BitsBack, Block
from .integers import FEWEST, MOST

MAGIC = b"\x89MVL\r\n\x1a\n"
VERSION = 1
LIKELIHOODS = ("bernoulli", "beta_binomial", "discretized_logistic")
FIXED, REST, ENTRY = struct.Struct("<8s8B"), struct.Struct("<IQI32sI"), struct.Struct("<QI")


@dataclass(frozen=True)
class Header:
    likelihood: str
    bits: tuple[int, int, int, int, int]  # of a latent, of the posterior, of a pixel; of weights and activations behind the point
    shape: tuple[int, ...]
    latent: int
    images: int
    block: int
    digest: bytes
    ends: tuple[int, ...]  # words
    crcs: tuple[int, ...]
    size: int  # bytes of the header


def pack(coder: BitsBack, blocks: list[Block]) -> bytes:
    """The file of these blocks, all of one length but the last."""
    images, block = sum(b.images for b in blocks), blocks[0].images if blocks else 1
    head = FIXED.pack(
        MAGIC,
        VERSION,
        LIKELIHOODS.index(coder.likelihood),
        coder.latent_bits,
        coder.posterior_bits,
        coder.pixel_bits,
        coder.at.weight,
        coder.at.activation,
        len(coder.shape),
    )
    head += struct.pack(f"<{len(coder.shape)}I", *coder.shape) + REST.pack(coder.latent, images, block, coder.digest, len(blocks))
    end = 0
    for b in blocks:
        end += len(b.words)
        head += ENTRY.pack(end, b.crc)
    head += struct.pack("<I", zlib.crc32(head))
    return head + b"".join(b.words.astype("<u4").tobytes() for b in blocks)


def read_header(data: bytes, name: str = "the file") -> Header:
    """What stands in front of the blocks.  Raises DataError, one sentence, for everything that is not as it should be."""
    cut = f"{name} was cut short: it has {len(data)} bytes"
    if len(data) < FIXED.size or data[: len(MAGIC)] != MAGIC:
        raise DataError(f"{name} is no file of compressed images; name one that minivae compress wrote")
    _, version, likelihood, *bits, axes = FIXED.unpack_from(data)
    if version != VERSION:
        raise DataError(f"{name} is of version {version}, and this minivae reads version {VERSION}; use the one that wrote it")
    at = FIXED.size
    if not 1 <= axes <= 4:
        raise DataError(f"{name} says that an image has {axes} axes; need 1 to 4: it was altered")
    if len(data) < at + 4 * axes + REST.size:
        raise DataError(f"{cut}, which is not all of a header")
    shape = struct.unpack_from(f"<{axes}I", data, at)
    at += 4 * axes
    latent, images, block, digest, count = REST.unpack_from(data, at)
    at += REST.size
    end = at + ENTRY.size * count
    if len(data) < end + 4:
        raise DataError(f"{cut}, and its table of {count} blocks alone ends at {end + 4}")
    if zlib.crc32(data[:end]) != struct.unpack_from("<I", data, end)[0]:
        raise DataError(f"{name} was altered: its header does not match its checksum")
    entries = [ENTRY.unpack_from(data, at + ENTRY.size * i) for i in range(count)]
    found = Header(
        LIKELIHOODS[likelihood] if likelihood < len(LIKELIHOODS) else str(likelihood),
        tuple(bits),
        shape,
        latent,
        images,
        block,
        digest,
        tuple(e for e, _ in entries),
        tuple(c for _, c in entries),
        end + 4,
    )
    _check(found, len(data), name)
    return found


def _check(header: Header, length: int, name: str) -> None:
    """That the lengths fit together and to the file: nothing is allocated before."""
    rounding = header.bits[3:]
    if header.likelihood not in LIKELIHOODS or not all(FEWEST <= bits <= MOST for bits in rounding):
        raise DataError(
            f"{name} is for the likelihood {header.likelihood} and integers of 2^-{rounding[0]} and 2^-{rounding[1]}, which this minivae "
            "does not know; use the one that wrote it"
        )
    count = len(header.ends)
    block, most = header.block, min(LARGEST_BLOCK, ROOM // max(header.latent, 1))
    if not 1 <= block <= most or count != -(-header.images // block):
        raise DataError(f"{name} has {header.images} images in {count} blocks of {block}, which is impossible: it was altered")
    ends = (0, *header.ends)
    if any(b - a < 2 for a, b in itertools.pairwise(ends)):
        raise DataError(f"{name} has a block that ends before it begins: it was altered")
    if header.size + 4 * ends[-1] != length:
        what = "cut short" if header.size + 4 * ends[-1] > length else "appended to"
        raise DataError(f"{name} was {what}: it has {length} bytes, and its blocks end at {header.size + 4 * ends[-1]}")


def compress(coder: BitsBack, images: np.ndarray, block: int = 500) -> bytes:
    """The file of these images.     (N, *shape) uint8 -> bytes"""
    return pack(coder, coder.encode(images, block))


def decompress(coder: BitsBack, data: bytes, name: str = "the file") -> Iterator[np.ndarray]:
    """The images, some blocks at a time, in their order.     -> (n, *shape) uint8 each

    Raises DataError at the first block that is not as it was written."""
    header = read_header(data, name)
    check_model(coder, header, name)
    together = max(1, min(TOGETHER, ROOM // (header.block * coder.size)))
    for first in range(0, len(header.ends), together):
        yield read_blocks(coder, data, header, range(first, min(first + together, len(header.ends))), name)


def read_blocks(coder: BitsBack, data: bytes, header: Header, numbers: range, name: str = "the file") -> np.ndarray:
    """The images of neighbouring blocks alone."""
    blocks = []
    for i in numbers:
        start = header.ends[i - 1] if i else 0
        words = np.frombuffer(data, "<u4", header.ends[i] - start, header.size + 4 * start)
        blocks.append(Block(min(header.block, header.images - i * header.block), words, header.crcs[i]))
    try:
        return coder.decode(blocks, numbers.start)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def check_model(coder: BitsBack, header: Header, name: str) -> None:
    own = (coder.likelihood, coder.shape, coder.latent)
    if own != (header.likelihood, header.shape, header.latent):
        raise DataError(
            f"{name} was made by a model of {_model(header.likelihood, header.shape, header.latent)}, and this one is of {_model(*own)}; "
            "name the run that it was made with"
        )
    if (coder.latent_bits, coder.posterior_bits, coder.pixel_bits, coder.at.weight, coder.at.activation) != header.bits:
        raise DataError(f"{name} has precisions of {header.bits} bits, and the coder has others; make it by coder_for(model, header)")
    if coder.digest != header.digest:
        raise DataError(
            f"{name} was made by another model: its SHA-256 is {header.digest.hex()[:12]}..., this one's {coder.digest.hex()[:12]}...; "
            "name the run that it was made with, as it was then"
        )


def _model(likelihood: str, shape: tuple[int, ...], latent: int) -> str:
    return f"{likelihood} pixels {'x'.join(map(str, shape))} with {latent} latents"


def coder_for(model: Any, header: Header) -> BitsBack:
    """A coder of the model with the precisions of a file."""
    bits = header.bits
    if not (1 <= bits[0] <= 16 and bits[0] <= bits[1] <= 30 and 9 <= bits[2] <= 24):
        raise DataError(f"the file's precisions are {', '.join(map(str, bits))} bits, which no coder has: it was altered")
    return coder_of(model, *bits)


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file that minivae compress wrote") from error
