"""What each latent stands for, measured: the attribute of the data that explains most of its variance, and what can be read from it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import ShapeError
from .attributes import slant, thickness

BINS = 10
CELLS = 30  # of a latent, from which a factor is read


class Role(NamedTuple):
    name: str  # of the attribute
    share: float  # of the latent's variance that it explains, 0 to 1


def correlation_ratio(z: np.ndarray, groups: np.ndarray) -> float:
    """eta^2 = Var(E[z | group]) / Var(z), from 0 to 1: the share of z's variance that lies between the groups.     (N,), (N,) ints

    Where the two have nothing to do with each other it is (groups - 1) / (N - 1) on average, not 0.        R. A. Fisher, 1925
    """
    z = np.asarray(z, np.float64)
    if z.ndim != 1 or groups.shape != z.shape:
        raise ShapeError(f"correlation_ratio: z is {z.shape}, groups are {groups.shape}; need (N,) twice")
    total = ((z - z.mean()) ** 2).sum()
    if not total > 0:
        return 0.0
    between = sum((groups == g).sum() * (z[groups == g].mean() - z.mean()) ** 2 for g in np.unique(groups))
    return float(between / total)


def grouped(values: np.ndarray) -> np.ndarray:
    """Values as group numbers: each its own where there are few, else ten groups of equal size.     (N,) -> (N,) ints"""
    distinct, index = np.unique(values, return_inverse=True)
    if len(distinct) <= BINS:
        return index
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def roles(codes: np.ndarray, attributes: Mapping[str, np.ndarray], least: float = 0.25) -> list[Role | None]:
    """For each latent the attribute that explains most of its variance, if it explains `least` of it.     (N, K), {name: (N,)} -> K of them

    An attribute may be a class or a number; numbers are put into ten groups, so that the dependence may have any form.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or any(np.shape(a) != codes.shape[:1] for a in attributes.values()):
        shapes = {name: np.shape(a) for name, a in attributes.items()}
        raise ShapeError(f"roles: codes are {codes.shape}, attributes {shapes}; need (N, K) and (N,) each")
    groups = {name: grouped(np.asarray(a)) for name, a in attributes.items()}
    found: list[Role | None] = []
    for z in codes.T:
        best = max((Role(name, correlation_ratio(z, g)) for name, g in groups.items()), key=lambda role: role.share, default=None)
        found.append(best if best is not None and best.share >= least else None)
    return found


class Readings(NamedTuple):
    """Of K latents and F factors, in the order of their names."""

    names: tuple[str, ...]
    r2: np.ndarray  # (K, F), the share of the factor's variance that the latent alone tells
    purity: np.ndarray  # (K, F), the share of the latent's variance that the factor alone makes

    def best(self) -> np.ndarray:
        """The latent from which each factor is read best.     -> (F,) ints"""
        return self.r2.argmax(axis=0)


def readings(codes: np.ndarray, factors: Mapping[str, np.ndarray]) -> Readings:
    """How well each factor is read from each latent alone, and how much of the latent is that factor.     (N, K), {name: (N,)}

    r2 = 1 - sum (v - m(z))^2 / sum (v - mean v)^2, m(z) being the mean of the factor v in the latent's cell, of 30 that hold equally many
    images: the dependence may have any form.  m is learned from every other image and judged by those between, so that what tells nothing
    has 0 or a little less.  Of a factor of two values, r2 is of the value as a number, 0 or 1; one whose values lie on a circle, or have no
    order, belongs in as many columns as it has coordinates.

    purity = Var(E[z | v]) / Var(z), the `correlation_ratio`: where the factors are independent, its sum over all of them is 1 at most.
    """
    codes = np.asarray(codes, np.float64)
    values = {name: np.asarray(v, np.float64) for name, v in factors.items()}
    if codes.ndim != 2 or not values or any(v.shape != codes.shape[:1] for v in values.values()):
        shapes = {name: v.shape for name, v in values.items()}
        raise ShapeError(f"readings: codes are {codes.shape}, factors {shapes}; need (N, K) and (N,) each, at least one")
    if len(codes) < 8 or not np.isfinite(codes).all():
        finite = int(np.isfinite(codes).all(axis=1).sum())
        raise ShapeError(f"readings: {finite} of the codes of {len(codes)} images are finite; need all of them, and at least 8 images")
    table = np.stack(list(values.values()), axis=1)  # (N, F)
    learn, judge = table[::2], table[1::2]
    mean = learn.mean(axis=0)
    total = ((judge - mean) ** 2).sum(axis=0)
    cells = max(2, min(CELLS, len(learn) // 10))
    r2, purity = np.zeros((2, codes.shape[1], table.shape[1]))
    groups = [grouped(v) for v in values.values()]
    for k, z in enumerate(codes.T):
        edges = np.unique(np.quantile(z[::2], np.linspace(0, 1, cells + 1)[1:-1]))
        cell = np.searchsorted(edges, z, side="right")
        count = np.bincount(cell[::2], minlength=len(edges) + 1)
        means = np.stack([np.bincount(cell[::2], v, len(edges) + 1) for v in learn.T], axis=1)
        means = np.where(count[:, None] > 0, means / np.maximum(count, 1)[:, None], mean)
        error = ((judge - means[cell[1::2]]) ** 2).sum(axis=0)
        r2[k] = np.where(total > 0, 1 - error / np.where(total > 0, total, 1), 0)
        purity[k] = [correlation_ratio(z, g) for g in groups]
    return Readings(tuple(values), r2, purity)


def appearance(images: np.ndarray) -> dict[str, np.ndarray]:
    """What can be measured in any picture without labels.     (N, H, W, C) in [0, 1] -> {name: (N,)}

    Brightness, and where it lies; of colours how warm they are (red less blue) and how saturated (the largest of a pixel's three numbers
    less the smallest); of gray pictures how strokes lean and how thick they are.
    """
    light = images.mean(axis=-1, dtype=np.float64)
    total = np.maximum(light.sum(axis=(1, 2)), 1e-12)
    rows, columns = (np.arange(n) for n in light.shape[1:])
    found = {
        "brightness": light.mean(axis=(1, 2)),
        "position across": light.sum(axis=1) @ columns / total,
        "position down": light.sum(axis=2) @ rows / total,
    }
    if images.shape[-1] == 3:
        warmth, spread = images[..., 0] - images[..., 2], images.max(axis=-1) - images.min(axis=-1)
        return found | {"warmth": warmth.mean(axis=(1, 2), dtype=np.float64), "saturation": spread.mean(axis=(1, 2), dtype=np.float64)}
    return found | {"slant": slant(images), "thickness": thickness(images)}
