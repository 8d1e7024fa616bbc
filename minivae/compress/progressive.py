"""Pictures of any size in a progressive codec's file: the bits of one iteration after the other, and a decoder that is the same everywhere.

The writer decodes as the reader will, and codes what is missing of that: so the decoder's networks are those of portable.py, whose sums of
integers are exact; between them stand + - x and tables of sigmoid and tanh, on float64, which IEEE 754 rounds in one way.  The encoder
may compute as it likes.  A change is multiplied by what the writer finds by least squares: where the scale of training does not fit a
whole picture, no iteration makes its squared error larger.  The file is that of iterations.py.
"""

import functools
import hashlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import to_device, xp
from ..engine import no_grad
from ..errors import DataError, UsageError
from ..models.residual_gru import GRAY, STRIDE, scale_of
from ..nn import evaluating
from . import tables
from .integers import STANDARD
from .integers import TABLE_END as LAST
from .iterations import GAINS, LARGEST, MOST, VERSION, Part, gain_for, pack, read_chunks, unpack_bits
from .lossy import checked
from .portable import conv

BAND = 1 << 18  # numbers of a unit that are worked at together, so that they stay in a cache
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

    def encode(self, picture: Any, iterations: int = 8) -> list[Part]:
        """What each iteration says.     (H, W, C) uint8 -> a gain and (h, w, bits) uint8 of 0 and 1 each, a place for each 16x16 pixels

        The picture is filled up to whole 16s by its edge.  Raises ShapeError, DataError, UsageError."""
        return [part for part, _ in self.steps(picture, iterations)]

    def steps(self, picture: Any, iterations: int = 8) -> Iterator[tuple[Part, np.ndarray]]:
        """What each iteration says, and the picture (16 h, 16 w, C) uint8 that a reader has after it."""
        picture = checked(picture, self.channels, LARGEST)
        height, width = picture.shape[:2]
        if not 1 <= iterations <= MOST:
            raise UsageError(f"iterations is {iterations}; need 1 to {MOST}")
        own = self.model.parameters()[0].data
        x = np.pad(picture, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge") / 255
        now, states = np.full(x.shape, GRAY), (None,) * len(self.model.down)
        decoder = self.decoder()
        for _ in range(iterations):
            missing = to_device((x - now)[None].astype(own.dtype), "cpu" if xp(own) is np else "cuda")
            with no_grad(), evaluating(self.model):
                t, states = self.model.encode_step(ops.divide(missing, scale_of(missing)), states)
            if not np.isfinite(t.numpy()).all():
                raise DataError(f"the bits of a picture of {height}x{width} are not finite; use an earlier checkpoint")
            bits = (t.numpy()[0] >= 0).astype(np.uint8)
            next(decoder)
            change = decoder.send(bits)
            gain = gain_for((x - now)[:height, :width], change[:height, :width])
            now = now + GAINS[gain] * change
            yield Part(gain, bits), as_bytes(now)

    def decoder(self) -> Generator[Any, Any, None]:
        """A generator that is sent the bits of an iteration (h, w, bits) and gives its change (16 h, 16 w, C), float64, not yet scaled."""
        states: list[Any] = [None] * len(self.units)
        while True:
            bits = yield
            a = self.from_bits(np.where(bits != 0, 2.0**ACTIVATION, -(2.0**ACTIVATION))[None]) * 2.0**-SUM
            a = read(table_of("tanh"), a)
            for i, unit in enumerate(self.units):
                a, states[i] = unit(a, states[i])
                a = depth_to_space(a)
            yield self.last(on_grid(a))[0] * 2.0**-SUM

    def pictures(self, parts: Sequence[Part]) -> Iterator[np.ndarray]:
        """The picture after each iteration, the same bytes on every machine.     a gain, (h, w, bits) each -> (16 h, 16 w, C) uint8 each"""
        decoder, now = self.decoder(), GRAY
        for gain, bits in parts:
            next(decoder)
            now = now + GAINS[gain] * decoder.send(bits)
            yield as_bytes(now)

    def compress(self, picture: Any, iterations: int = 8) -> bytes:
        """(H, W, C) uint8 -> the file"""
        height, width = np.shape(picture)[:2]
        return pack(self.encode(picture, iterations), height, width, self.digest)

    def read(self, data: bytes, name: str = "the file") -> tuple[list[Part], tuple[int, int]]:
        """What all iterations say that a file has, and (height, width).     Raises DataError, one sentence, for what was altered, cut
        within an iteration, or made by another model."""
        (height, width), digest, chunks = read_chunks(data, name)
        if digest != self.digest:
            raise DataError(
                f"{name} was made by another model: its SHA-256 begins with {digest.hex()[:12]}, this one's with {self.digest.hex()[:12]}; "
                "name the run that it was made with, as it was then"
            )
        shape = (-(-height // STRIDE), -(-width // STRIDE), self.bits)
        found: list[Part] = []
        for mode, gain, body in chunks:
            found.append(Part(gain, unpack_bits(mode, body, shape, found[-1].bits if found else None, name)))
        return found, (height, width)

    def decompress(self, data: bytes, name: str = "the file") -> np.ndarray:
        """The file -> (H, W, C) uint8, by all iterations that it has.     Raises DataError as `read`"""
        parts, (height, width) = self.read(data, name)
        *_, picture = self.pictures(parts)
        return picture[:height, :width]


# --- the decoder in integers ---


def as_bytes(a: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(a * 255 + 0.5), 0, 255).astype(np.uint8)


def on_grid(a: np.ndarray) -> np.ndarray:
    """To the nearest integers of 2^-ACTIVATION."""
    return np.clip(np.floor(a * 2.0**ACTIVATION + 0.5), -LIMIT, LIMIT)


def convolution(layer: Any, where: str, digest: Any) -> Any:
    """A layer's convolution of stride 1 in integers, one product of all windows.     (1, H, W, inputs) -> (1, H, W, outputs)"""
    made = conv(layer, where, STANDARD)
    w, b = made.integers
    digest.update(repr((where, w.shape, b.shape, made.options)).encode())
    for array in (w, b):
        digest.update(array.astype("<i8").tobytes())
    kernel, flat = w.shape[:2], np.ascontiguousarray(w.transpose(2, 0, 1, 3)).reshape(-1, w.shape[3])

    def forward(a: np.ndarray) -> np.ndarray:
        padded = np.pad(a, ((0, 0), *layer.padding, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))  # (1, H, W, inputs, KH, KW)
        return (windows.reshape(-1, len(flat)) @ flat + b).reshape(*windows.shape[:3], -1)

    return forward


@functools.cache
def table_of(name: str) -> np.ndarray:
    """sigmoid or tanh from -32 to 32 in steps of 2^-ACTIVATION."""
    return getattr(tables, name)(np.arange(-TABLE_END, TABLE_END + 1) / 2.0**ACTIVATION)


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
