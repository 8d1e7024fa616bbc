"""Faces: 17 billion colour pictures of a face, drawn from twelve factors that are known exactly.

None of them is stored: an index has the factors as its digits, and a picture is drawn when somebody wants it, of any size.  Sizes and
places below are in 64ths of the canvas, x from the left and y from the top; u = |x - 32| is the distance from the axis, about which all but
the light is symmetric.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError, UsageError
from ..random import Stream

ENDS = {  # what a factor of 0 and of 1 looks like
    "skin": ("dark", "light"),
    "hair colour": ("black", "blond"),
    "hair length": ("short", "long"),
    "brow height": ("low", "high"),
    "eye distance": ("close", "wide"),
    "nose": ("small", "large"),
    "mouth": ("frown", "smile"),
    "glasses": ("none", "worn"),
    "age": ("young", "old"),
    "shape": ("feminine", "masculine"),
    "light": ("on the left", "on the right"),
    "saturation": ("gray", "coloured"),
}
FACTORS = tuple(ENDS)
SIZES = (8, 8, 8, 8, 8, 8, 8, 2, 8, 8, 8, 8)
CANVAS = 64
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: the gray of a colour, of the stored values
PART = 64  # pictures drawn at a time: at 64x64 a layer of them is half a megabyte

BACKGROUND, CLOTHES, LIPS = (0.46, 0.84, 1.00), (0.85, 0.20, 0.28), (0.72, 0.20, 0.24)
FRAMES, LENSES = (0.10, 0.10, 0.14), (0.80, 0.90, 0.96)
WHITE, IRIS, PUPIL = (0.97, 0.97, 0.95), (0.24, 0.36, 0.22), (0.05, 0.05, 0.05)
SKIN = ((0.24, 0.15, 0.10), (0.66, 0.45, 0.32), (1.00, 0.88, 0.80))  # of the factor at 0, 1/2 and 1
HAIR = ((0.07, 0.06, 0.07), (0.40, 0.23, 0.12), (0.72, 0.48, 0.20))
EYES, EARS, MOUTH = 32.5, 34.5, 47.0  # y
AMBIENT, SIDE = 0.87, 0.13  # the light that falls on the middle, and what it gains at one edge and loses at the other


class Window(NamedTuple):
    """The part of the left half in which a shape is drawn: views into all pictures, and the places of the pixels' centres."""

    canvas: np.ndarray  # (n, 3, h, w)
    u: np.ndarray  # (w,)
    y: np.ndarray  # (h, 1)
    pixels: float  # in a unit of length

    def paint(self, distance: Any, colour: Any, alpha: Any = 1.0) -> None:
        """Lay a colour on where the distance to the outline is negative; a pixel that the outline crosses is mixed.     (n, h, w)"""
        self.blend(np.clip(0.5 - distance * self.pixels, 0, 1) * alpha, colour)

    def blend(self, cover: Any, colour: Any) -> None:
        """canvas += cover (colour - canvas).     cover (n, h, w) in [0, 1], colour (n, 3, 1, 1)"""
        self.canvas[...] += cover[..., None, :, :] * (colour - self.canvas)


def ellipse(u: Any, v: Any, a: Any, b: Any, pinch: Any = 0.0) -> Any:
    """Distance, to first order, from U + V + pinch U V = 1 with U = (u / a)^2, V = (v / b)^2; negative inside.

    With pinch 0 an ellipse, with -1 the square about it, above 0 a rhombus with hollow sides.
    """
    across, down = (u / a) ** 2, (v / b) ** 2
    value = across + down + pinch * across * down - 1
    slope = (u / (a * a) * (1 + pinch * down)) ** 2 + (v / (b * b) * (1 + pinch * across)) ** 2
    return value / (2 * np.sqrt(slope) + np.float32(1e-6))


def stroke(u: Any, y: Any, start: tuple[Any, Any], end: tuple[Any, Any], thickness: Any) -> Any:
    """Distance from a line of this half thickness between two points (u, y), with round ends."""
    du, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((u - start[0]) * du + (y - start[1]) * dy) / (du * du + dy * dy), 0, 1)
    return np.sqrt((u - start[0] - along * du) ** 2 + (y - start[1] - along * dy) ** 2) - thickness


def between(colours: Any, t: np.ndarray) -> np.ndarray:
    """Linear from the first of three colours to the second, and on to the third.     (n, 1, 1) in [0, 1] -> (n, 3, 1, 1)"""
    first, second, third = (np.array(c, np.float32)[:, None, None] for c in colours)
    t = 2 * t[:, None]
    return first + np.minimum(t, 1) * (second - first) + np.maximum(t - 1, 0) * (third - second)


def fixed(colour: Any) -> np.ndarray:
    return np.array(colour, np.float32)[:, None, None]


def draw(factors: Any, size: int = CANVAS) -> np.ndarray:
    """Pictures for any values of the factors, between those of the data set too.     (N, 12) in [0, 1] -> (N, size, size, 3) uint8

    A factor of 0 and of 1 looks as ENDS says; glasses between are as transparent.  A pixel is the mean of the colours that meet in it, to
    first order of the distance of its centre from the outline.  Only + - * / and the square root are taken of pixels, which round alike
    wherever a pixel lies: a picture does not depend on those that are drawn with it.
    """
    factors = np.asarray(factors)
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS) or factors.dtype.kind not in "iuf":
        raise ShapeError(f"faces: factors are {factors.dtype} {factors.shape}; need numbers (N, {len(FACTORS)})")
    if not isinstance(size, (int, np.integer)) or size < 8:
        raise UsageError(f"faces: size is {size}; need a whole number of pixels from 8 up")
    for name, a in zip(FACTORS, factors.T, strict=True):
        if a.size and not 0 <= a.min() <= a.max() <= 1:
            raise UsageError(f"faces: {name} runs from {a.min():g} to {a.max():g}; need 0 to 1")
    images = np.empty((len(factors), size, size, 3), np.uint8)
    for start in range(0, len(factors), PART):
        part = factors[start : start + PART].astype(np.float32)
        images[start : start + PART] = lit(half(part, size), part, size)
    return images


def half(factors: np.ndarray, size: int) -> np.ndarray:
    """The left halves, with the middle column of an odd size, before the light falls on them.     (n, 12) -> (n, 3, size, half)"""
    skin, hair_colour, length, brows, eyes, nose, smile, glasses, age, shape, _, _ = factors.T[:, :, None, None]
    unit = CANVAS / size
    places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(unit)
    columns = (size + 1) // 2
    canvas = np.empty((len(factors), 3, size, columns), np.float32)
    canvas[:] = fixed(BACKGROUND)
    skin, hair = between(SKIN, skin), between(HAIR, hair_colour)

    def window(u0: float, u1: float, y0: float, y1: float) -> Window:
        """Of the pixels whose centres have u0 <= u <= u1 and y0 <= y <= y1, and one more on each side for the mixed ones."""
        u, pixels = CANVAS / 2 - places[:columns], 1 / unit
        left, right = np.searchsorted(-u, (-u1 - unit, -u0 + unit))
        top, bottom = np.searchsorted(places, (y0 - unit, y1 + unit))
        return Window(canvas[:, :, top:bottom, left:right], u[left:right], places[top:bottom, None], pixels)

    # behind the face
    w = window(0, 26, 54, 64)
    w.paint(ellipse(w.u, w.y - 70, 25, 15), fixed(CLOTHES))
    w = window(0, 20, 6, 62)
    head = ellipse(w.u, np.minimum(w.y - 29, 0), 19.5, 22)
    w.paint(np.maximum(head, w.y - (32 + 18 * length - 2 * (w.u / 19.5) ** 4)), hair)
    w = window(0, 9, 44, 60)
    w.paint(np.maximum(w.u - (4.5 + 3.5 * shape), w.y - 58), 0.82 * skin)
    w = window(12, 18, EARS - 5, EARS + 5)
    w.paint(ellipse(w.u - 15.0, w.y - EARS, 2.6, 4.3), 0.9 * skin)

    # the face: the upper half of an ellipse, and a jaw that is narrow or square
    w = window(0, 15, 16, 53)
    v = w.y - 33
    w.paint(ellipse(w.u, v, 15, np.where(v < 0, np.float32(17), np.float32(19.5)), np.where(v < 0, 0, 1.5 - 2.4 * shape)), skin)

    # age: rosy cheeks fade, furrows come
    w = window(4, 15, 36, 46)
    rosy = np.maximum(1 - ((w.u - 9.5) ** 2 + (w.y - 41) ** 2) / 25, 0)
    w.blend(rosy * (0.9 * (1 - age)), skin * fixed((1.0, 0.5, 0.5)))
    furrow = 0.4 * skin
    w = window(0, 9, 18, 25)
    for y in (20.4, 22.8):
        w.paint(abs(w.y - y - w.u * w.u / 80) - 0.5, furrow, age * (w.u < 8))
    w = window(3, 15, 28, 50)
    for start, end in (((3.8, 41.5), (8.6, 46.8)), ((13.0, 32.0), (14.3, 30.6)), ((13.0, 33.4), (14.3, 34.6)), ((5.5, 37.4), (10.5, 37.4))):
        w.paint(stroke(w.u, w.y, start, end, 0.55), furrow, age)

    w = window(0, 5, 36, 44)
    w.paint(ellipse(w.u, w.y - 40, 1.4 + 3.4 * nose, 1.0 + 1.9 * nose), 0.64 * skin)
    w = window(0, 7, 42, 52)
    across = np.minimum(w.u / 7, 1) ** 2
    arc = MOUTH + (2 * smile - 1) * 3.0 * (1 - 2 * across)
    w.paint(np.maximum(abs(w.y - arc) - 1.7 * np.sqrt(1 - across), w.u - 7), fixed(LIPS))

    # the eyes, and the brows above them
    middle = 6.3 + 3.2 * eyes
    w = window(1, 15, 27, 38)
    u, v = w.u - middle, w.y - EYES
    w.paint(ellipse(u, v, 3.7, 2.6), fixed(WHITE))
    w.paint(ellipse(u, v, 2.1, 2.1), fixed(IRIS))
    w.paint(ellipse(u, v, 1.1, 1.1), fixed(PUPIL))
    w.paint(ellipse(u + 0.7, v + 0.8, 0.6, 0.6), fixed(WHITE))
    lid = abs(np.sqrt((u / 3.9) ** 2 + (v / 2.8) ** 2) - 1) * 3  # near its outline
    w.paint(np.maximum(lid - (0.5 + 0.5 * (1 - shape)), v + 0.4), fixed(PUPIL))
    w = window(0, 15.5, 20, 31)
    y = 28.0 - 4.7 * brows
    w.paint(stroke(w.u, w.y, (middle - 3.6, y), (middle + 3.6, y + 0.4), 0.75 + 0.6 * shape), 0.45 * hair)

    # the hair above the forehead
    w = window(0, 20, 6, 30)
    w.paint(np.maximum(ellipse(w.u, w.y - 29, 19.5, 22), w.y - (18.6 + w.u * w.u / 28)), hair)

    w = window(0, 17, 26, 39)
    ring = abs(np.sqrt(((w.u - 8) / 6.4) ** 2 + ((w.y - EYES) / 5.2) ** 2) - 1) * 5.8 - 1.1
    w.paint(ellipse(w.u - 8, w.y - EYES, 6.4, 5.2), fixed(LENSES), 0.5 * glasses)
    bar = np.maximum(abs(w.y - 31.4) - 0.7, np.minimum(w.u - 1.8, 14.2 - w.u))  # the bridge, and the temples
    w.paint(np.maximum(np.minimum(ring, bar), w.u - 16.4), fixed(FRAMES), glasses)
    return canvas


def lit(left: np.ndarray, factors: np.ndarray, size: int) -> np.ndarray:
    """Whole pictures: mirrored, in the light, with their share of colour, as bytes.     (n, 3, size, half) -> (n, size, size, 3) uint8"""
    light, saturation = (factors[:, FACTORS.index(name), None, None, None] for name in ("light", "saturation"))
    red, green, blue = (left[:, i : i + 1] * np.float32(LUMA[i]) for i in range(3))
    gray = red + green + blue
    coloured = gray + saturation * (left - gray)
    whole = np.concatenate([coloured, coloured[..., ::-1][..., size % 2 :]], axis=-1)
    side = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1) * np.float32(SIDE)
    whole *= np.float32(AMBIENT) + (2 * light - 1) * side
    return np.floor(np.clip(whole, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8).transpose(0, 2, 3, 1)


class Faces:
    """All pictures by index, none of them stored: `Faces().images([0, 1, 2])`.

    Index and factors are one number: the factors are its digits, of SIZES values each, the saturation the last.
    """

    def __len__(self) -> int:
        return math.prod(SIZES)

    def factors(self, indices: Any) -> np.ndarray:
        """Which value each factor has, counted from 0, in the order of FACTORS.     (N,) ints -> (N, 12) int64"""
        indices = np.asarray(indices)
        if indices.dtype.kind not in "iu" or indices.ndim != 1:
            raise ShapeError(f"Faces: indices are {indices.dtype} {indices.shape}; need integers (N,)")
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise UsageError(f"Faces: indices run from {indices.min()} to {indices.max()}; need 0 to {len(self) - 1}")
        return np.stack(np.unravel_index(indices, SIZES), axis=1).astype(np.int64)

    def index(self, factors: Any) -> np.ndarray:
        """The inverse of `factors`.     (N, 12) ints -> (N,) int64"""
        factors = np.asarray(factors)
        if factors.dtype.kind not in "iu" or factors.ndim != 2 or factors.shape[1] != len(SIZES):
            raise ShapeError(f"Faces: factors are {factors.dtype} {factors.shape}; need integers (N, {len(SIZES)})")
        if factors.size and ((factors < 0) | (factors >= SIZES)).any():
            found = f"{factors.min(0).tolist()} to {factors.max(0).tolist()}"
            raise UsageError(f"Faces: factors run from {found}; need 0 to {[n - 1 for n in SIZES]}")
        return np.ravel_multi_index(tuple(factors.T), SIZES).astype(np.int64)

    def images(self, indices: Any, size: int = CANVAS) -> np.ndarray:
        """(N,) ints -> (N, size, size, 3) uint8; a factor's values are equally far apart, from 0 to 1"""
        return draw(self.factors(indices) / (np.array(SIZES) - 1.0), size)

    def choose(self, n: int, rng: Stream) -> np.ndarray:
        """Indices of n pictures, every factor drawn by itself, all its values alike.     -> (n,) int64"""
        return self.index(np.floor(rng.uniform((n, len(SIZES))) * np.array(SIZES)).astype(np.int64))
