"""Sprites: 737,280 binary images of a square, an ellipse or a heart, with the five factors that made each known exactly.

    L. Matthey, I. Higgins, D. Hassabis and A. Lerchner, "dSprites: disentanglement testing sprites dataset", 2017

The original is a file of images; these are drawn again from their factors, by index, with the outlines measured on it: squares to the
pixel, ellipses and hearts to within a few pixels of the edge.
"""

import math
from typing import Any

import numpy as np

from ..errors import ShapeError, UsageError

SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "posX", "posY")  # in the order of the original; posY is the fastest
SIZES = (3, 6, 40, 32, 32)
CANVAS = 64  # pixels
MARGIN, SPAN = 16.0, 32.0  # pixels: posX = 0 ... 1 moves the centre over columns 16 ... 48, posY over rows
SCALES = np.linspace(0.5, 1, SIZES[1])
ANGLES = np.linspace(0, 2 * math.pi, SIZES[2])  # the last is the first again, as in the original: 39 different ones, a step of 9.2 degrees
POSITIONS = np.linspace(0, 1, SIZES[3])

# outlines at scale 1, about the centre, v downwards
SQUARE_HALF_SIDE = 9.5995  # pixels
ELLIPSE_AXES = (12.78, 7.22)  # pixels along u and v
ELLIPSE_VERTICES = 64
# distance of the heart's vertices from the centre, in canvases, at 61 angles from the tip (+v) to the dip (-v); both halves are alike
# fmt: off
HEART_RADII = np.array([
    0.14907, 0.13412, 0.12307, 0.11640, 0.11071, 0.10794, 0.10355, 0.10076, 0.09697, 0.09692, 0.09692, 0.09440, 0.09174, 0.09174,
    0.09174, 0.09174, 0.09174, 0.09174, 0.09174, 0.09692, 0.09692, 0.09692, 0.10065, 0.10305, 0.10423, 0.10793, 0.11067, 0.11480,
    0.11840, 0.12270, 0.12635, 0.13138, 0.13707, 0.14199, 0.14732, 0.15124, 0.15553, 0.16122, 0.16425, 0.16719, 0.17008, 0.17294,
    0.17503, 0.17503, 0.17503, 0.17503, 0.17503, 0.17503, 0.17294, 0.17152, 0.16732, 0.16390, 0.15895, 0.15445, 0.14717, 0.13856,
    0.12977, 0.12013, 0.10800, 0.09434, 0.08448,
])
# fmt: on

WINDOW = 29  # pixels: the largest outline, the square's diagonal, ends 13.58 from the centre
PART = 1024  # images drawn at a time: their coordinates fit the cache of a small machine


def in_square(u, v):
    return np.maximum(abs(u), abs(v)) <= SQUARE_HALF_SIDE


def in_ellipse(u, v):
    """In a regular 64-gon stretched: in the circle within it surely, in the circle around it perhaps."""
    u, v = u / ELLIPSE_AXES[0], v / ELLIPSE_AXES[1]
    sector, apothem = 2 * math.pi / ELLIPSE_VERTICES, math.cos(math.pi / ELLIPSE_VERTICES)
    square = u * u + v * v
    inside = square <= apothem**2
    perhaps = (square > apothem**2) & (square <= 1)
    angle = np.arctan2(v[perhaps], u[perhaps]) % sector - sector / 2  # from the middle of its side
    inside[perhaps] = np.sqrt(square[perhaps]) * np.cos(angle) <= apothem
    return inside


def in_heart(u, v):
    """In the triangle of the centre and two neighbouring vertices a, b: a point p of their sector is inside if n p <= 1, n a = n b = 1."""
    radii = HEART_RADII * CANVAS
    angles = np.linspace(0, math.pi, len(radii))
    vertices = radii[:, None] * np.stack([np.sin(angles), np.cos(angles)], 1)
    normals = np.linalg.solve(np.stack([vertices[:-1], vertices[1:]], 1), np.ones((len(radii) - 1, 2, 1)))[..., 0]
    square = u * u + v * v
    surely = (radii.min() * math.cos(angles[1] / 2)) ** 2  # no side comes nearer to the centre
    inside = square <= surely
    perhaps = (square > surely) & (square <= radii.max() ** 2)
    p, q = abs(u[perhaps]), v[perhaps]
    sector = np.minimum((np.arctan2(p, q) * ((len(radii) - 1) / math.pi)).astype(np.intp), len(radii) - 2)
    inside[perhaps] = normals[sector, 0] * p + normals[sector, 1] * q <= 1
    return inside


OUTLINES = (in_square, in_ellipse, in_heart)  # (u, v) -> bool, in pixels


def draw(shape: Any, scale: Any, angle: Any, x: Any, y: Any) -> np.ndarray:
    """Images for any values of the factors, between those of the data set too; a pixel is 255 if its centre is inside, else 0.

    shape 0, 1, 2 (SHAPES); 0 < scale <= 1; angle in radians; x, y in [0, 1].     (N,) each, or numbers -> (N, 64, 64, 1) uint8

    A point at (dx, dy) from the centre has u = cos(t) dx - sin(t) dy and v = sin(t) dx + cos(t) dy in the frame of the shape.
    """
    shape, *values = np.broadcast_arrays(*(np.atleast_1d(a) for a in (shape, scale, angle, x, y)))
    scale, angle, x, y = (a.astype(np.float64) for a in values)
    if shape.ndim != 1 or shape.dtype.kind not in "iu":
        raise ShapeError(f"sprites: shape is {shape.dtype} {shape.shape}; need integers (N,)")
    for name, a, least, most in (("shape", shape, 0, len(SHAPES) - 1), ("scale", scale, 1e-3, 1), ("x", x, 0, 1), ("y", y, 0, 1)):
        if a.size and not least <= a.min() <= a.max() <= most:
            raise UsageError(f"sprites: {name} runs from {a.min():g} to {a.max():g}; need {least:g} to {most:g}")
    images = np.zeros((len(shape), CANVAS, CANVAS, 1), np.uint8)
    for kind, outline in enumerate(OUTLINES):
        members = np.flatnonzero(shape == kind)
        for n in np.array_split(members, -(-len(members) // PART)) if len(members) else ():
            corner, offset = zip(*(window(position[n]) for position in (x, y)), strict=True)  # columns, rows
            cos, sin = (f(angle[n])[:, None, None] / scale[n][:, None, None] for f in (np.cos, np.sin))
            dx, dy = offset[0][:, None, :], offset[1][:, :, None]
            inside = outline(cos * dx - sin * dy, sin * dx + cos * dy)  # (n, WINDOW, WINDOW)
            # the window's pixels as places in the flat array of all images
            start = (n * CANVAS + corner[1]) * CANVAS + corner[0]
            pixel = np.arange(WINDOW)[:, None] * CANVAS + np.arange(WINDOW)
            images.reshape(-1)[start[:, None, None] + pixel] = inside * np.uint8(255)
    return images


def window(position):
    """The first pixel near the centre, and the pixels' centres from it on, relative to the shape's.     (n,) -> (n,), (n, WINDOW)"""
    centre = MARGIN + SPAN * position
    first = np.floor(centre).astype(np.intp) - WINDOW // 2
    return first, (first - centre)[:, None] + (np.arange(WINDOW) + 0.5)


class Sprites:
    """All images by index, none of them stored: `Sprites().images([0, 1, 2])`.

    Index and factors are one number: the factors are its digits, of SIZES values each, posY the last.
    """

    def __len__(self) -> int:
        return math.prod(SIZES)

    def factors(self, indices: Any) -> np.ndarray:
        """Which value each factor has, counted from 0, in the order of FACTORS.     (N,) ints -> (N, 5) int64"""
        indices = np.asarray(indices)
        if indices.dtype.kind not in "iu" or indices.ndim != 1:
            raise ShapeError(f"Sprites: indices are {indices.dtype} {indices.shape}; need integers (N,)")
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise UsageError(f"Sprites: indices run from {indices.min()} to {indices.max()}; need 0 to {len(self) - 1}")
        return np.stack(np.unravel_index(indices, SIZES), axis=1).astype(np.int64)

    def index(self, factors: Any) -> np.ndarray:
        """The inverse of `factors`.     (N, 5) ints -> (N,) int64"""
        factors = np.asarray(factors)
        if factors.dtype.kind not in "iu" or factors.ndim != 2 or factors.shape[1] != len(SIZES):
            raise ShapeError(f"Sprites: factors are {factors.dtype} {factors.shape}; need integers (N, {len(SIZES)})")
        if factors.size and ((factors < 0) | (factors >= SIZES)).any():
            found = f"{factors.min(0).tolist()} to {factors.max(0).tolist()}"
            raise UsageError(f"Sprites: factors run from {found}; need 0 to {[n - 1 for n in SIZES]}")
        return np.ravel_multi_index(tuple(factors.T), SIZES).astype(np.int64)

    def images(self, indices: Any) -> np.ndarray:
        """(N,) ints -> (N, 64, 64, 1) uint8, 0 or 255"""
        shape, scale, orientation, x, y = self.factors(indices).T
        return draw(shape, SCALES[scale], ANGLES[orientation], POSITIONS[x], POSITIONS[y])
