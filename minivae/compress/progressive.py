"""Pictures of any size in a progressive codec's file: the bits of one iteration after the other, and a decoder that is the same everywhere.

The writer decodes as the reader will, and codes what is missing of that: so the decoder's networks are those of portable.py, whose sums of
integers are exact; between them stand + - x and tables of sigmoid and tanh, on float64, which IEEE 754 rounds in one way.  The encoder
may compute as it likes.

The bits of an iteration are written by rANS with probabilities that are counted as they come, or as they are where that is shorter.  How
often bit k was 1 is counted for each of eight cases: bit k to the left, above, and at this place one iteration before.

The file, little-endian; it may end after any iteration:

    bytes  what
        8  magic, 89 4D 56 52 0D 0A 1A 0A
        1  version, 1
        4  height
        4  width
        8  the first of the SHA-256 of all that decoding depends on: the integers of the decoder
    and of each iteration
        1  0 for bits as they are, eight a byte; 1 for words of 4 bytes and a state of 8
        4  bytes of its bits
        4  CRC32 of all before it and of its bits, without the CRC32s
           its bits
"""

import hashlib
import struct
import zlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from ..backend import to_device, use_backend, xp
from ..engine import no_grad
from ..errors import DataError, ShapeError, UsageError
from ..models.residual_gru import GRAY, STRIDE
from ..nn import evaluating
from . import tables
from .portable import STANDARD, conv
from .portable import TABLE_END as LAST
from .rans import Stack

MAGIC = b"\x89MVR\r\n\x1a\n"
VERSION = 1
HEAD, CHUNK = struct.Struct("<8sBII8s"), struct.Struct("<BII")
PRECISION = 16
LARGEST = 1 << 22  # pixels: the decoder holds some 300 bytes for each
MOST = 64  # iterations
BAND = 1 << 20  # numbers of a unit that are worked at together
RAW, CODED = 0, 1
ACTIVATION, SUM, LIMIT = STANDARD.activation, STANDARD.sum, STANDARD.limit
TABLE_END = LAST << ACTIVATION


class ProgressiveCoder:
    """A ProgressiveCodec as a writer and a reader of files.  Raises UsageError for weights that no integers stand for."""

    def __init__(self, model: Any):
        lacks = [name for name in ("encode_step", "from_bits", "up", "last") if not hasattr(model, name)]
        if lacks:
            raise UsageError(f"{type(model).__name__} has no {lacks[0]}, so it is no progressive codec; use a models.ProgressiveCodec")
        self.model, self.channels, self.bits = model, int(model.image_shape[2]), int(model.bits)
        digest = hashlib.sha256(repr((VERSION, self.bits, len(model.up))).encode())
        layers = [convolution(layer, name, digest) for layer, name in ((model.from_bits, "from_bits"), (model.last, "last"))]
        self.from_bits, self.last = layers
        self.units = [Unit(unit, f"up.{i}", digest) for i, unit in enumerate(model.up)]
        self.digest = digest.digest()[:8]

    def encode(self, picture: Any, iterations: int = 8) -> list[np.ndarray]:
        """The bits of each iteration.     (H, W, C) uint8 -> (h, w, bits) uint8 of 0 and 1 each, a place for each 16x16 pixels

        The picture is filled up to whole 16s by its edge.  Raises ShapeError, DataError, UsageError."""
        picture = np.asarray(picture)
        if picture.ndim != 3 or picture.shape[2] != self.channels or not picture.size or picture.dtype != np.uint8:
            raise ShapeError(f"a picture is {picture.dtype} {picture.shape}; need bytes, uint8 (H, W, {self.channels})")
        height, width = picture.shape[:2]
        if height * width > LARGEST:
            raise DataError(f"a picture of {height}x{width} has more than {LARGEST:,} pixels; cut it into several")
        if not 1 <= iterations <= MOST:
            raise UsageError(f"iterations is {iterations}; need 1 to {MOST}")
        own = self.model.parameters()[0].data
        x = np.pad(picture, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge") / 255
        now, states = np.full(x.shape, GRAY), (None,) * len(self.model.down)
        found: list[np.ndarray] = []
        decoder = self.decoder()
        with no_grad(), evaluating(self.model):
            for _ in range(iterations):
                missing = to_device((x - now)[None].astype(own.dtype), "cpu" if xp(own) is np else "cuda")
                t, states = self.model.encode_step(missing, states)
                if not np.isfinite(t.numpy()).all():
                    raise DataError(f"the bits of a picture of {height}x{width} are not finite; use an earlier checkpoint")
                found.append((t.numpy()[0] >= 0).astype(np.uint8))
                next(decoder)
                now = decoder.send(found[-1])
        return found

    def decoder(self) -> Generator[Any, Any, None]:
        """A generator that is sent the bits of an iteration (h, w, bits) and gives the reconstruction (16 h, 16 w, C), float64, not cut."""
        states: list[Any] = [None] * len(self.units)
        total: Any = GRAY
        while True:
            bits = yield
            with use_backend("numpy"):  # whose products are a BLAS's, exact in any order
                a = self.from_bits(np.where(bits != 0, 2.0**ACTIVATION, -(2.0**ACTIVATION))[None]) * 2.0**-SUM
                a = read(table_of("tanh"), a)
                for i, unit in enumerate(self.units):
                    a, states[i] = unit(a, states[i])
                    a = depth_to_space(a)
                total = total + self.last(on_grid(a))[0] * 2.0**-SUM
            yield total

    def pictures(self, bits: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The picture after each iteration, the same bytes on every machine.     (h, w, bits) each -> (16 h, 16 w, C) uint8 each"""
        decoder = self.decoder()
        for part in bits:
            next(decoder)
            yield np.clip(np.floor(decoder.send(part) * 255 + 0.5), 0, 255).astype(np.uint8)

    def compress(self, picture: Any, iterations: int = 8) -> bytes:
        """(H, W, C) uint8 -> the file"""
        height, width = np.shape(picture)[:2]
        return pack(self.encode(picture, iterations), height, width, self.digest)

    def read(self, data: bytes, name: str = "the file") -> tuple[list[np.ndarray], tuple[int, int]]:
        """The bits of all iterations that a file has, and (height, width).     Raises DataError, one sentence, for what was altered, cut
        within an iteration, or made by another model."""
        (height, width), digest, chunks = read_chunks(data, name)
        if digest != self.digest:
            raise DataError(
                f"{name} was made by another model: its SHA-256 begins with {digest.hex()[:12]}, this one's with {self.digest.hex()[:12]}; "
                "name the run that it was made with, as it was then"
            )
        shape = (-(-height // STRIDE), -(-width // STRIDE), self.bits)
        found: list[np.ndarray] = []
        for mode, body in chunks:
            found.append(unpack_bits(mode, body, shape, found[-1] if found else None, name))
        return found, (height, width)

    def decompress(self, data: bytes, name: str = "the file") -> np.ndarray:
        """The file -> (H, W, C) uint8, by all iterations that it has.     Raises DataError as `read`"""
        bits, (height, width) = self.read(data, name)
        *_, picture = self.pictures(bits)
        return picture[:height, :width]


# --- the decoder in integers ---


def on_grid(a: np.ndarray) -> np.ndarray:
    """To the nearest integers of 2^-ACTIVATION."""
    return np.clip(np.floor(a * 2.0**ACTIVATION + 0.5), -LIMIT, LIMIT)


def convolution(layer: Any, where: str, digest: Any) -> Any:
    forward, _, arrays, options = conv(layer, where, STANDARD)
    digest.update(repr((where, [a.shape for a in arrays], options)).encode())
    for a in arrays:
        digest.update(a.astype("<i8").tobytes())
    return forward


_tables: dict[str, np.ndarray] = {}


def table_of(name: str) -> np.ndarray:
    """sigmoid or tanh from -32 to 32 in steps of 2^-ACTIVATION."""
    if name not in _tables:
        _tables[name] = getattr(tables, name)(np.arange(-TABLE_END, TABLE_END + 1) / 2.0**ACTIVATION)
    return _tables[name]


def read(table: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Between the entries along a line: within step^2 / 8 times the largest second derivative, 1.5e-6."""
    at = np.clip(x * 2.0**ACTIVATION + TABLE_END, 0, 2 * TABLE_END)
    i = np.minimum(at.astype(np.int64), 2 * TABLE_END - 1)
    low = table[i]
    return low + (at - i) * (table[i + 1] - low)


class Unit:
    """A nn.ConvGRU of stride 1 whose products are exact.     x (1, H, W, inputs), h (1, H, W, units) or None -> output, state, float64"""

    def __init__(self, layer: Any, where: str, digest: Any):
        self.from_input = convolution(layer.from_input, f"{where}.from_input", digest)
        self.from_state = convolution(layer.from_state, f"{where}.from_state", digest)
        self.shortcut, self.units = layer.shortcut, layer.from_state.w.shape[2]
        self.halo = max(layer.from_input.padding[0][0], layer.from_state.padding[0][0])
        digest.update(repr(self.shortcut).encode())

    def __call__(self, x: np.ndarray, h: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """A band of rows at a time: what it looks at beyond its edges is there, and what that makes of them is not taken."""
        height, width = x.shape[1:3]
        h = np.zeros((1, height, width, self.units)) if h is None else h
        output, state = np.empty(h.shape), np.empty(h.shape)
        rows = max(8, BAND // (4 * self.units * width))
        for first in range(0, height, rows):
            low, high = max(first - self.halo, 0), min(first + rows + self.halo, height)
            own = slice(first - low, min(first + rows, height) - low)
            seen = self.from_input(on_grid(x[:, low:high]))[:, own] * 2.0**-SUM
            recalled = self.from_state(on_grid(h[:, low:high]))[:, own] * 2.0**-SUM
            at = slice(first, first + rows)
            output[:, at], state[:, at] = self.step(seen, recalled, h[:, at])
        return output, state

    def step(self, seen: np.ndarray, recalled: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = self.units
        gates = read(table_of("sigmoid"), seen[..., : 2 * u] + recalled[..., : 2 * u])
        r, z = gates[..., :u], gates[..., u:]
        n = read(table_of("tanh"), seen[..., 2 * u : 3 * u] + r * recalled[..., 2 * u : 3 * u])
        state = (n + z * (h - n)) + self.shortcut * recalled[..., 3 * u :]
        return state + self.shortcut * seen[..., 3 * u :], state


def depth_to_space(a: np.ndarray) -> np.ndarray:
    """As ops.depth_to_space, of blocks of 2x2."""
    n, height, width, channels = a.shape
    return a.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * height, 2 * width, channels // 4)


# --- bits and bytes ---


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


def pack(bits: Sequence[np.ndarray], height: int, width: int, digest: bytes) -> bytes:
    """The file of these iterations."""
    data = HEAD.pack(MAGIC, VERSION, height, width, digest)
    crc, before = zlib.crc32(data), None
    for part in bits:
        mode, body = code_bits(part, before)
        crc = checksum(mode, body, crc)
        data, before = data + CHUNK.pack(mode, len(body), crc) + body, part
    return data


def checksum(mode: int, body: bytes, crc: int) -> int:
    """Of an iteration and, by their CRC32, of all that stands before it."""
    return zlib.crc32(body, zlib.crc32(struct.pack("<BI", mode, len(body)), crc))


def read_chunks(data: bytes, name: str = "the file") -> tuple[tuple[int, int], bytes, list[tuple[int, bytes]]]:
    """(height, width), digest and (how, bytes) of each iteration, after all checks that need no model.  Raises DataError."""
    if len(data) < len(MAGIC) or data[: len(MAGIC)] != MAGIC:
        raise DataError(f"{name} is no progressive picture; name one that a ProgressiveCoder wrote")
    if len(data) < HEAD.size + CHUNK.size:
        raise DataError(f"{name} was cut short: it has {len(data)} bytes, and no iteration")
    _, version, height, width, digest = HEAD.unpack_from(data)
    if version != VERSION:
        raise DataError(f"{name} is of version {version}, and this minivae reads version {VERSION}; use the one that wrote it")
    at, crc = HEAD.size, zlib.crc32(data[: HEAD.size])
    chunks: list[tuple[int, bytes]] = []
    while at < len(data):
        number = len(chunks) + 1
        rest = len(data) - at - CHUNK.size
        mode, length, told = CHUNK.unpack_from(data, at) if rest >= 0 else (0, 0, 0)
        if rest < length:
            way = f"its first {at} bytes are a file of {number - 1}" if chunks else "there is nothing before it"
            raise DataError(f"{name} was cut or altered within iteration {number}; {way}")
        body = data[at + CHUNK.size : at + CHUNK.size + length]
        crc = checksum(mode, body, crc)
        if crc != told:
            raise DataError(f"{name} was altered: iteration {number} does not match its checksum")
        if number > MOST:
            raise DataError(f"{name} has more than {MOST} iterations: it was altered")
        chunks.append((mode, body))
        at += CHUNK.size + length
    if not 1 <= height * width <= LARGEST:
        raise DataError(f"{name} says that its picture is {height}x{width}; need 1 to {LARGEST:,} pixels: it was altered")
    return (height, width), digest, chunks


def ends(data: bytes, name: str = "the file") -> list[int]:
    """How long the file is up to the end of each iteration: data[: ends(data)[k]] is the file of k + 1 iterations."""
    at, found = HEAD.size, []
    for _, body in read_chunks(data, name)[2]:
        at += CHUNK.size + len(body)
        found.append(at)
    return found
