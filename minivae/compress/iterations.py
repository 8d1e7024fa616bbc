"""The file of a progressive codec: the bits of one iteration after the other.

They are written by rANS with probabilities that are counted as they come, or as they are where that is shorter.  How
often bit k was 1 is counted for each of eight cases: bit k to the left, above, and at this place one iteration before.

The file, little-endian; it may end after any iteration:

    bytes  what
        8  magic, 89 4D 56 52 0D 0A 1A 0A
        1  version, 2
        4  height
        4  width
        8  the first of the SHA-256 of all that decoding depends on: the integers of the decoder
    and of each iteration
        1  0 for bits as they are, eight a byte; 1 for words of 4 bytes and a state of 8
        1  what its change is multiplied by: 0, or (1 + m / 8) 2^e for 8 (e + 12) + m below 128; that and 128 for its negative
        4  bytes of its bits
        4  CRC32 of all before it and of its bits, without the CRC32s
           its bits
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .rans import Stack

MAGIC = b"\x89MVR\r\n\x1a\n"
VERSION = 2
HEAD, CHUNK = struct.Struct("<8sBII8s"), struct.Struct("<BBII")
PRECISION = 16
LARGEST = 1 << 22  # pixels: the decoder holds some 300 bytes for each
MOST = 64  # iterations
RAW, CODED = 0, 1
UP = np.array([0.0, *((8 + k % 8) * 2.0 ** (k // 8 - 15) for k in range(1, 128))])
GAINS = np.append(UP, -UP)  # what a byte stands for


class Part(NamedTuple):
    """What an iteration says."""

    gain: int  # a place in GAINS
    bits: np.ndarray  # (h, w, bits) of 0 and 1


def gain_for(missing: np.ndarray, change: np.ndarray) -> int:
    """Least squares: the place in GAINS of the g of the least |missing - g change|^2.  One of them is 0, and so that never rises."""
    power = float((change * change).sum())
    return int(abs(GAINS - float((missing * change).sum()) / power).argmin()) if power > 0 else 0


class Counter:
    """Frequencies of ones, of 2^PRECISION, for each bit and case: (ones + 1/2) / (all + 1), as integers.

    R. Krichevsky and V. Trofimov, "The performance of universal encoding", 1981"""

    def __init__(self, bits: int):
        self.counts = np.ones((bits, 8, 2), np.int64)  # twice what was counted, and 1
        self.rows = np.arange(bits)

    def frequencies(self, case: np.ndarray) -> np.ndarray:
        """(bits,) -> (bits,), at least 1 and less than 2^PRECISION"""
        counts = self.counts[self.rows, case]
        return np.clip((counts[:, 1] << PRECISION) // counts.sum(axis=1), 1, (1 << PRECISION) - 1)

    def count(self, case: np.ndarray, bits: np.ndarray) -> None:
        self.counts[self.rows, case, bits] += 2


def case_of(bits: np.ndarray, before: np.ndarray, i: int, j: int) -> np.ndarray:
    """The case of each bit at a place.     bits (h + 1, w + 1, K) with a row and a column of zeros in front, before (h, w, K) -> (K,)"""
    return 4 * bits[i + 1, j] + 2 * bits[i, j + 1] + before[i, j]


def code_bits(bits: np.ndarray, before: np.ndarray | None) -> tuple[int, bytes]:
    """(how, the bytes) of an iteration's bits.     (h, w, K) of 0 and 1, those of the iteration before likewise"""
    raw = np.packbits(bits.ravel()).tobytes()
    height, width, count = bits.shape
    counter, whole = Counter(count), np.pad(bits, ((1, 0), (1, 0), (0, 0))).astype(np.int64)
    before = np.zeros(bits.shape, np.int64) if before is None else before.astype(np.int64)
    ones = np.empty((height * width, count), np.int64)
    for place, (i, j) in enumerate(np.ndindex(height, width)):
        case = case_of(whole, before, i, j)
        ones[place] = counter.frequencies(case)
        counter.count(case, whole[i + 1, j + 1])
    zeros, flat = (1 << PRECISION) - ones, bits.reshape(-1, count)
    stack = Stack(lanes=1)
    starts, frequencies = np.where(flat, zeros, 0)[::-1], np.where(flat, ones, zeros)[::-1]  # the last place first, to be popped last
    stack.push(starts.ravel(), frequencies.ravel(), PRECISION)
    coded = stack.words().astype("<u4").tobytes() + stack.heads.astype("<u8").tobytes()
    return (CODED, coded) if len(coded) < len(raw) else (RAW, raw)


def unpack_bits(mode: int, body: bytes, shape: tuple[int, int, int], before: np.ndarray | None, name: str) -> np.ndarray:
    """The inverse.  Raises DataError for bytes that are no such bits."""
    height, width, count = shape
    told = f"{name} has an iteration of {len(body)} bytes for {height}x{width}x{count} bits"
    if mode == RAW:
        if len(body) != -(-height * width * count // 8):
            raise DataError(f"{told}: it was altered")
        return np.unpackbits(np.frombuffer(body, np.uint8), count=height * width * count).reshape(shape)
    if mode != CODED or len(body) < 8 or len(body) % 4:
        raise DataError(f"{told}, of kind {mode}, which is none: it was altered")
    stack = Stack(np.frombuffer(body, "<u4", (len(body) - 8) // 4), lanes=1)
    stack.heads = np.frombuffer(body, "<u8", 1, len(body) - 8).astype(np.uint64)
    counter, whole = Counter(count), np.zeros((height + 1, width + 1, count), np.int64)
    earlier = np.zeros(shape, np.int64) if before is None else before.astype(np.int64)
    table = np.empty((count, 3), np.int64)
    table[:, 0], table[:, 2] = 0, 1 << PRECISION
    try:
        for i, j in np.ndindex(height, width):
            case = case_of(whole, earlier, i, j)
            table[:, 1] = (1 << PRECISION) - counter.frequencies(case)
            whole[i + 1, j + 1] = stack.pop(table, PRECISION)
            counter.count(case, whole[i + 1, j + 1])
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if stack.size or int(stack.heads[0]) != 1 << 32:
        raise DataError(f"{told}, which say more than those: it was altered")
    return whole[1:, 1:].astype(np.uint8)


def pack(parts: Sequence[Part], height: int, width: int, digest: bytes) -> bytes:
    """The file of these iterations."""
    data = HEAD.pack(MAGIC, VERSION, height, width, digest)
    crc, before = zlib.crc32(data), None
    for gain, bits in parts:
        mode, body = code_bits(bits, before)
        crc = checksum(mode, gain, body, crc)
        data, before = data + CHUNK.pack(mode, gain, len(body), crc) + body, bits
    return data


def checksum(mode: int, gain: int, body: bytes, crc: int) -> int:
    """Of an iteration and, by their CRC32, of all that stands before it."""
    return zlib.crc32(body, zlib.crc32(struct.pack("<BBI", mode, gain, len(body)), crc))


def read_chunks(data: bytes, name: str = "the file") -> tuple[tuple[int, int], bytes, list[tuple[int, int, bytes]]]:
    """(height, width), digest and (how, gain, bytes) of each iteration, after all checks that need no model.  Raises DataError."""
    if len(data) < len(MAGIC) or data[: len(MAGIC)] != MAGIC:
        raise DataError(f"{name} is no progressive picture; name one that a ProgressiveCoder wrote")
    if len(data) < HEAD.size + CHUNK.size:
        raise DataError(f"{name} was cut short: it has {len(data)} bytes, and no iteration")
    _, version, height, width, digest = HEAD.unpack_from(data)
    if version != VERSION:
        raise DataError(f"{name} is of version {version}, and this minivae reads version {VERSION}; use the one that wrote it")
    at, crc = HEAD.size, zlib.crc32(data[: HEAD.size])
    chunks: list[tuple[int, int, bytes]] = []
    while at < len(data):
        number = len(chunks) + 1
        rest = len(data) - at - CHUNK.size
        mode, gain, length, told = CHUNK.unpack_from(data, at) if rest >= 0 else (0, 0, 0, 0)
        if rest < length:
            way = f"its first {at} bytes are a file of {number - 1}" if chunks else "there is nothing before it"
            raise DataError(f"{name} was cut or altered within iteration {number}; {way}")
        body = data[at + CHUNK.size : at + CHUNK.size + length]
        crc = checksum(mode, gain, body, crc)
        if crc != told:
            raise DataError(f"{name} was altered: iteration {number} does not match its checksum")
        if number > MOST:
            raise DataError(f"{name} has more than {MOST} iterations: it was altered")
        chunks.append((mode, gain, body))
        at += CHUNK.size + length
    if not 1 <= height * width <= LARGEST:
        raise DataError(f"{name} says that its picture is {height}x{width}; need 1 to {LARGEST:,} pixels: it was altered")
    return (height, width), digest, chunks


def ends(data: bytes, name: str = "the file") -> list[int]:
    """How long the file is up to the end of each iteration: data[: ends(data)[k]] is the file of k + 1 iterations."""
    at, found = HEAD.size, []
    for *_, body in read_chunks(data, name)[2]:
        at += CHUNK.size + len(body)
        found.append(at)
    return found
