"""Colours: sRGB, linear light, CIE XYZ and CIE L*a*b* under D65; what sRGB cannot show; and images as lightness and chroma.

All functions take colours in the last axis, (..., 3), and compute in float64.  sRGB is in [0, 1], or bytes, which are taken over 255.

sRGB and its primaries: IEC 61966-2-1 and ITU-R BT.709.  L*a*b*: CIE 15:2004, section 8.2.1, whose constants are the exact fractions.
"""

from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError, UsageError

XYZ_OF_RGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])  # BT.709
WHITE = np.array([0.95047, 1.0, 1.08883])  # X, Y, Z of D65, the 2 degree observer
JOINT = 6 / 29  # of the cube root and the line that takes its place in the dark, as value of f: there both have one value and one slope
CHROMA = 110.0  # units of a* and b* that are 1 to a model: sRGB reaches from -108 to 98
TOLERANCE = 1e-4  # a colour so far outside of [0, 1] is a rounding error: it is 1/39 of a byte's step


def linear_of_srgb(v: Any) -> np.ndarray:
    """Light by the value of a channel: v / 12.92 up to 0.04045, above ((v + 0.055) / 1.055)^2.4.     any shape"""
    v = unit(v)
    return np.where(v <= 0.04045, v / 12.92, ((np.maximum(v, 0.04045) + 0.055) / 1.055) ** 2.4)


def srgb_of_linear(light: Any) -> np.ndarray:
    """The inverse of `linear_of_srgb`; the line goes on below 0, the curve above 1: nothing is clipped.     any shape"""
    light = np.asarray(light, np.float64)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def lab_of_xyz(xyz: Any) -> np.ndarray:
    """L* = 116 f(Y) - 16, a* = 500 (f(X) - f(Y)), b* = 200 (f(Y) - f(Z)), of X, Y, Z over those of white.     (..., 3) -> (..., 3)

    f(t) = t^(1/3) where that is above 6/29, below t / (3 (6/29)^2) + 4/29"""
    f = root(triples("lab_of_xyz", xyz) / WHITE)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def root(t: np.ndarray) -> np.ndarray:
    """f of `lab_of_xyz`."""
    return np.where(t > JOINT**3, np.cbrt(t), t / (3 * JOINT**2) + 4 / 29)


def xyz_of_lab(lab: Any) -> np.ndarray:
    """The inverse of `lab_of_xyz`.     (..., 3) -> (..., 3)"""
    lab = triples("xyz_of_lab", lab)
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    return np.where(f > JOINT, f**3, 3 * JOINT**2 * (f - 4 / 29)) * WHITE


def lab_of_rgb(rgb: Any) -> np.ndarray:
    """L* from 0 to 100, a* (green to red), b* (blue to yellow) of sRGB.     (..., 3) -> (..., 3) float64"""
    return lab_of_xyz(linear_of_srgb(triples("lab_of_rgb", rgb)) @ XYZ_OF_RGB.T)


def lightness_of_gray(gray: Any) -> np.ndarray:
    """L* / 100 of gray sRGB, from 0 to 1.     any shape -> the same, float32"""
    return (1.16 * root(linear_of_srgb(gray)) - 0.16).astype(np.float32)


def rgb_of_lab(lab: Any) -> np.ndarray:
    """sRGB of L*a*b*, outside of [0, 1] where sRGB has no such colour: `into_gamut` brings it in.     (..., 3) -> (..., 3) float64"""
    return srgb_of_linear(xyz_of_lab(lab) @ np.linalg.inv(XYZ_OF_RGB).T)


class Shown(NamedTuple):
    """Colours that a screen can show."""

    rgb: np.ndarray  # (..., 3), in [0, 1]
    outside: float  # the share of the colours that sRGB did not have


def into_gamut(lab: Any) -> Shown:
    """sRGB of L*a*b*; a colour that sRGB has not becomes the one of the same L* and hue with the most chroma that it has.     (..., 3)

    By bisection on the line to the gray of this L*, to 2^-20 of the chroma.  Raises UsageError for an L* outside of 0 to 100, which has
    no gray either."""
    lab = triples("into_gamut", lab)
    if lab.size and not (lab[..., 0].min() >= -1e-6 and lab[..., 0].max() <= 100 + 1e-6):
        raise UsageError(f"into_gamut: L* runs from {lab[..., 0].min():g} to {lab[..., 0].max():g}; need 0 to 100")
    rgb = rgb_of_lab(lab)
    lost = ~inside(rgb)
    if lost.any():
        far = lab[lost]
        low, high = np.zeros(len(far)), np.ones(len(far))  # shares of the chroma: one that fits, one that does not
        for _ in range(20):
            middle = (low + high) / 2
            fits = inside(rgb_of_lab(faded(far, middle)))
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        rgb[lost] = rgb_of_lab(faded(far, low))
    return Shown(np.clip(rgb, 0, 1), float(lost.mean()) if lost.size else 0.0)


def inside(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) -> (...)"""
    return np.asarray(((rgb >= -TOLERANCE) & (rgb <= 1 + TOLERANCE)).all(axis=-1))


def faded(lab: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The same L* and hue with this share of the chroma.     (N, 3), (N,) -> (N, 3)"""
    return lab * np.stack([np.ones_like(share), share, share], axis=-1)


def lightness_and_chroma(rgb: Any, factor: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """L* / 100, and a*, b* / 110 as means over blocks of factor x factor pixels: an eye sees the place of a colour less sharply than light.

    (N, H, W, 3) -> (N, H, W, 1), (N, H / factor, W / factor, 2), float32: the condition and the data of a model that colours images"""
    lab = lab_of_rgb(rgb)
    if lab.ndim != 4 or factor < 1 or lab.shape[1] % factor or lab.shape[2] % factor:
        raise ShapeError(f"lightness_and_chroma: rgb is {lab.shape}; need (N, H, W, 3), H and W multiples of {factor}")
    n, height, width, _ = lab.shape
    blocks = lab[..., 1:].reshape(n, height // factor, factor, width // factor, factor, 2)
    return (lab[..., :1] / 100).astype(np.float32), (blocks.mean(axis=(2, 4)) / CHROMA).astype(np.float32)


def coloured(lightness: Any, chroma: Any) -> Shown:
    """The images of `lightness_and_chroma`, with chroma between the middles of blocks interpolated.     (..., H, W, 1), (..., h, w, 2)

    Axes in front of H and h broadcast, so that one lightness may have several chromas."""
    lightness, chroma = np.asarray(lightness, np.float64), np.asarray(chroma, np.float64)
    if lightness.ndim < 3 or chroma.ndim < 3 or lightness.shape[-1] != 1 or chroma.shape[-1] != 2:
        raise ShapeError(f"coloured: lightness is {lightness.shape}, chroma {chroma.shape}; need (..., H, W, 1) and (..., h, w, 2)")
    large = stretched(stretched(chroma, -3, lightness.shape[-3]), -2, lightness.shape[-2])
    shape = np.broadcast_shapes(lightness.shape[:-1], large.shape[:-1])
    parts = np.broadcast_to(100 * lightness, (*shape, 1)), np.broadcast_to(CHROMA * large, (*shape, 2))
    return into_gamut(np.concatenate(parts, axis=-1))


def stretched(a: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation of samples at the middles of equal cells along an axis, constant beyond the outer middles."""
    n = a.shape[axis]
    place = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    left = np.minimum(place.astype(int), max(n - 2, 0))
    share = (place - left).reshape(-1, *[1] * (-axis - 1))
    return np.take(a, left, axis) * (1 - share) + np.take(a, np.minimum(left + 1, n - 1), axis) * share


def unit(v: Any) -> np.ndarray:
    """Bytes over 255, others as they are.     -> float64"""
    v = np.asarray(v)
    return v / 255.0 if v.dtype == np.uint8 else v.astype(np.float64)


def triples(what: str, a: Any) -> np.ndarray:
    a = unit(a)
    if a.ndim < 1 or a.shape[-1] != 3:
        raise ShapeError(f"{what}: colours are {a.shape}; need three numbers in the last axis")
    return a
