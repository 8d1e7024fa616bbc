"""What each latent stands for, measured: the attribute of the data that explains most of its variance."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import ShapeError
from .attributes import slant, thickness

BINS = 10


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


def appearance(images: np.ndarray) -> dict[str, np.ndarray]:
    """What can be measured in any picture without labels.     (N, H, W, C) in [0, 1] -> {name: (N,)}

    Brightness, and where it lies; of colours how warm they are (red less blue); of gray pictures how strokes lean and how thick they are.
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
        return found | {"warmth": (images[..., 0] - images[..., 2]).mean(axis=(1, 2), dtype=np.float64)}
    return found | {"slant": slant(images), "thickness": thickness(images)}
