"""Densities over a latent plane: the exact posterior of each image, and Gaussians that stand for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from ..errors import ShapeError
from .layout import INK, SMALL, TEXT, TITLE, calm

SIGMAS = np.array([1.0, 2.0, 3.0])
MASS = 1 - np.exp(-(SIGMAS**2) / 2)  # of a Gaussian in two dimensions within so many sigmas: 39%, 86%, 99%
GAUSSIANS: tuple[tuple[str, Any], ...] = (("#D55E00", "-"), ("#000000", "--"), ("#CC79A7", ":"))

Spread = tuple[np.ndarray, np.ndarray]  # mean and sigma, (N, 2) both


def posteriors(
    images: np.ndarray,
    axes: Sequence[tuple[np.ndarray, ...]],
    density: Sequence[np.ndarray],
    gaussians: Mapping[str, Spread],
    titles: Sequence[str],
) -> Figure:
    """For each image a column: the image, and its density over the latent plane with the ellipses of Gaussians, 1 and 2 sigma.

    images (N, H, W, C) in [0, 1]; for each of them axes (n,), (m,) and density (n, m), as quadrature.log_marginal gives them; gaussians
    {name: (mean, sigma)}.  The colours of the density change where it holds as much as a Gaussian does in 1, 2 and 3 sigma: 39%, 86% and
    99%.  Raises ShapeError.
    """
    n = len(images)
    if not n or {len(axes), len(density), len(titles)} != {n}:
        raise ShapeError(f"posteriors: {n} images, {len(axes)} axes, {len(density)} densities, {len(titles)} titles; need one of each")
    fig = Figure(figsize=(max(6.4, 1.95 * n + 0.4), 4.2), layout="constrained", facecolor="white")
    fields = fig.subplots(2, n, height_ratios=(1, 2.1), squeeze=False)
    for i in range(n):
        fields[0, i].imshow(np.clip(np.squeeze(images[i]), 0, 1), cmap="gray", vmin=0, vmax=1)
        fields[0, i].set_axis_off()
        fields[0, i].set_title(titles[i], fontsize=SMALL, color=INK)
        draw_posterior(fields[1, i], axes[i], density[i], {name: (mean[i], sigma[i]) for name, (mean, sigma) in gaussians.items()})
        fields[1, i].set_xlabel("$z_1$", fontsize=TEXT, color=INK, labelpad=1)
    fields[1, 0].set_ylabel("$z_2$  (σ of the prior)", fontsize=TEXT, color=INK)
    lines = [Line2D([], [], color=colour, linestyle=style, linewidth=1.6) for colour, style in GAUSSIANS[: len(gaussians)]]
    fig.legend(lines, list(gaussians), loc="outside lower center", ncols=len(lines), fontsize=TEXT, frameon=False)
    fig.suptitle("The exact posterior, filled: 39%, 86% and 99% of it; Gaussians: 1σ and 2σ", fontsize=TITLE, color=INK)
    return fig


def draw_posterior(ax: Axes, axes: tuple[np.ndarray, ...], density: np.ndarray, gaussians: Mapping[str, Spread]) -> Axes:
    """One column's plane of `posteriors`.     axes (n,), (m,), density (n, m), each Gaussian's mean and sigma (2,)"""
    if len(axes) != 2 or np.shape(density) != (len(axes[0]), len(axes[1])):
        raise ShapeError(f"draw_posterior: density is {np.shape(density)}, axes {[len(a) for a in axes]}; need (n, m) and n, m")
    levels = mass_levels(density, MASS)
    seen = np.argwhere(density >= levels[-1])
    low, high = (np.array([axis[at] for axis, at in zip(axes, ends, strict=True)]) for ends in (seen.min(axis=0), seen.max(axis=0)))
    for mean, sigma in gaussians.values():
        low, high = np.minimum(low, mean - 2.3 * sigma), np.maximum(high, mean + 2.3 * sigma)
    ax.contourf(*axes, np.transpose(density), levels=[*levels[::-1], 1.01 * density.max()], cmap="cividis_r")
    for (mean, sigma), (colour, style) in zip(gaussians.values(), GAUSSIANS, strict=False):
        for radius in (1, 2):
            outline = [withStroke(linewidth=3, foreground="white")]
            shape: dict[str, Any] = {
                "facecolor": "none",
                "edgecolor": colour,
                "linestyle": style,
                "linewidth": 1.6,
                "path_effects": outline,
            }
            ax.add_patch(Ellipse(tuple(mean), 2 * radius * sigma[0], 2 * radius * sigma[1], **shape))
    middle, half = (low + high) / 2, 0.53 * (high - low).max()
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
    ax.locator_params(nbins=4)
    return calm(ax)


def mass_levels(density: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """For each mass the density above which so much of it lies: the edges of highest-density regions.     (n, m), (M,) -> (M,)"""
    ordered = np.sort(np.ravel(density))[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    return ordered[np.minimum(np.searchsorted(held, masses), len(ordered) - 1)]
