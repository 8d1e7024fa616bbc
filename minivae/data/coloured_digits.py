"""Digits in colours of which the distribution is known, and of which a gray picture tells nothing: all have the same lightness."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, ShapeError, UsageError
from ..random import Stream
from .colour import CHROMA, inside, lightness_of_gray, rgb_of_lab

WEIGHTS = (10.0, 1.0, 1.0, 6.0, 1.0, 1.0)  # of a class's own colour, of those behind it, and of the opposite one: their mean is a gray


class ColouredDigits(NamedTuple):
    """The images of `colour.lightness_and_chroma`, and what made them; colour.coloured(lightness, chroma) shows them."""

    lightness: np.ndarray  # (N, H, W, 1) float32, L* / 100: the gray picture
    chroma: np.ndarray  # (N, H / 2, W / 2, 2) float32, a* and b* / 110
    colour: np.ndarray  # (N,) int64


def colour_table(classes: int = 10, weights: Sequence[float] = WEIGHTS) -> np.ndarray:
    """p(colour k | class c) = weights[(k - c) mod K] / sum: each class has its own favourite.     -> (C, K)

    All rows have one entropy, for these six weights 1.3069 nats, of log 6 = 1.7918."""
    own = np.asarray(weights, np.float64)
    return own[(np.arange(len(own)) - np.arange(classes)[:, None]) % len(own)] / own.sum()


def draw_colours(labels: Any, rng: Stream, table: np.ndarray) -> np.ndarray:
    """k ~ p(colour | class) for each label.     (N,), (C, K) -> (N,) int64.  Raises DataError, UsageError"""
    labels = np.asarray(labels)
    if table.ndim != 2 or table.min() < 0 or abs(table.sum(axis=1) - 1).max() > 1e-9:
        raise UsageError(f"draw_colours: the table is {table.shape}, its rows add up to {table.sum(axis=-1)}; need (C, K), rows of sum 1")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(table):
        raise DataError(f"draw_colours: labels run from {labels.min()} to {labels.max()}, the table has {len(table)} classes")
    u = rng.uniform(len(labels), like=table)
    return (u[:, None] >= np.cumsum(table, axis=1)[labels, :-1]).sum(axis=1)


def palette(colours: int = 6, lightness: float = 70.0, chroma: float = 40.0) -> np.ndarray:
    """a*, b* of colours with equal L* and equal chroma, their hues 360 / K degrees apart from 0, a red, on.     -> (K, 2)

    Raises UsageError where sRGB lacks one of them, or one of its shades down to black."""
    hue = 2 * np.pi * np.arange(colours) / colours
    ab = chroma * np.stack([np.cos(hue), np.sin(hue)], axis=-1)
    shades = np.linspace(0, 1, 101)[:, None, None] * np.concatenate([np.full((colours, 1), lightness), ab], axis=-1)
    if not inside(rgb_of_lab(shades)).all():
        raise UsageError(f"palette: sRGB has not all of {colours} hues at L* {lightness:g} with chroma {chroma:g}; take less chroma")
    return ab


def coloured_digits(
    images: Any, labels: Any, rng: Stream, table: np.ndarray | None = None, lightness: float = 70.0, chroma: float = 40.0
) -> ColouredDigits:
    """Each digit in one colour, drawn from p(colour | its class): L* = lightness s, (a*, b*) = s (a_k, b_k), s = L* / 100 of a gray pixel.

    images (N, H, W, 1) bytes, of even sides; labels (N,); table (C, K), by default `colour_table`.  As L* has no k in it, the lightness is
    that of the gray picture to the last bit, whatever the colour.  Raises DataError, ShapeError, UsageError."""
    images, labels = np.asarray(images), np.asarray(labels)
    table = colour_table() if table is None else np.asarray(table, np.float64)
    if images.ndim != 4 or images.shape[3] != 1 or images.shape[1] % 2 or images.shape[2] % 2 or labels.shape != images.shape[:1]:
        raise ShapeError(f"coloured_digits: images {images.shape}, labels {labels.shape}; need (N, H, W, 1), H and W even, and (N,)")
    colour = draw_colours(labels, rng, table)
    ab = palette(table.shape[1], lightness, chroma)[colour] / CHROMA
    s = lightness_of_gray(images)
    n, height, width, _ = s.shape
    blocks = s.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4))[..., None]
    return ColouredDigits(s * np.float32(lightness / 100), (blocks * ab[:, None, None]).astype(np.float32), colour)
