"""Models side by side: where their codes lie, how wide these are, and what places in the latent plane decode to."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..errors import ShapeError
from .charts import TRAIN, draw_latent_map
from .layout import FRAME, INK, TEXT, TITLE, calm
from .pictures import draw_manifold


def codes(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray | None = None, label_names: Sequence[str] = ()) -> Figure:
    """A column for each model: means of q(z | x) as a `latent_map`, and under it a histogram of its standard deviations.

    panels: {name: (means (N, 2), sigmas (N, 2))}, labels (N,) integers from 0 up.  Classes that are all at one place, within 0.2, are not
    told apart.  Raises ShapeError.
    """
    for name, (means, sigmas) in panels.items():
        if np.shape(means) != np.shape(sigmas) or np.ndim(means) != 2 or not (np.asarray(sigmas) > 0).all():
            raise ShapeError(f"codes: {name!r} has means {np.shape(means)} and sigmas {np.shape(sigmas)}; need (N, 2), sigmas above 0")
    fig = row_of(panels, 5.4)
    tops, bottoms = fig.subplots(2, len(panels), height_ratios=(2.4, 1), squeeze=False)
    low = min(float(np.min(sigmas)) for _, sigmas in panels.values())
    high = max(float(np.max(sigmas)) for _, sigmas in panels.values())
    bins = np.geomspace(min(low, 0.5), max(2.0, high), 50)
    for (name, (means, sigmas)), top, bottom in zip(panels.items(), tops, bottoms, strict=True):
        spread = float(np.ptp(means, axis=0).max())
        draw_latent_map(top, means, labels if spread > 0.2 else None, label_names).set_title(name, fontsize=TITLE, color=INK)
        sigmas = np.asarray(sigmas).ravel()
        bottom.hist(sigmas, bins, weights=np.full(len(sigmas), 100 / len(sigmas)), color=TRAIN)
        bottom.axvline(1, color=INK, linewidth=0.8, linestyle=":")
        bottom.set_xscale("log")
        bottom.set_xlabel("σ of q(z | x)  (the prior's is 1, dotted)", fontsize=TEXT, color=INK)
        calm(bottom)
    bottoms[0].set_ylabel("share of latents (%)", fontsize=TEXT, color=INK)
    return fig


def manifolds(panels: Mapping[str, np.ndarray], z1: np.ndarray, z2: np.ndarray) -> Figure:
    """The same part of the latent plane decoded by each model.     {name: (R, S, H, W, C)}, z1 (S,), z2 (R,), as of `manifold`

    Raises ShapeError.
    """
    fig = row_of(panels, 3.7)
    for (name, images), ax in zip(panels.items(), fig.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw_manifold(ax, images, z1, z2).set_title(name, fontsize=TITLE, color=INK)
        for axis, z in ((ax.xaxis, np.asarray(z1)), (ax.yaxis, np.asarray(z2))):
            whole = np.arange(np.ceil(z[0]), np.floor(z[-1]) + 1)  # a small picture has room for whole numbers
            if len(whole):
                axis.set_ticks(np.interp(whole, z, np.arange(len(z))), [f"{t:.0f}".replace("-", "\N{MINUS SIGN}") for t in whole])
    return fig


def places(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], labels: np.ndarray | None = None, label_names: Sequence[str] = ()
) -> Figure:
    """A column for each model: its means as a `latent_map` with places marked a, b, ... in it, and under it the images decoded there.

    panels: {name: (means (N, 2), places (P, 2), images (P, H, W, C))}, P at most 26, labels (N,) integers from 0 up.  Raises ShapeError.
    """
    for name, (_, where, images) in panels.items():
        if np.ndim(images) != 4 or np.shape(where) != (len(images), 2) or len(images) > len(ascii_lowercase):
            raise ShapeError(
                f"places: {name!r} has places {np.shape(where)}, images {np.shape(images)}; need (P, 2), (P, H, W, C), P <= 26"
            )
    fig = row_of(panels, 5.1)
    tops, bottoms = fig.subplots(2, len(panels), height_ratios=(2.5, 1), squeeze=False)
    for (name, (means, where, images)), top, bottom in zip(panels.items(), tops, bottoms, strict=True):
        draw_latent_map(top, means, labels, label_names).set_title(name, fontsize=TITLE, color=INK)
        draw_marked(bottom, np.asarray(images))
        for letter, (x, y) in zip(ascii_lowercase, np.asarray(where), strict=False):
            outline = [withStroke(linewidth=2.5, foreground="white")]
            top.plot(x, y, marker="x", markersize=5, color="black", path_effects=outline)
            style = {"fontsize": TEXT, "weight": "bold", "color": "black", "path_effects": outline}
            top.annotate(letter, (x, y), (3.5, 3.5), textcoords="offset points", **style)
    return fig


def draw_marked(ax: Axes, images: np.ndarray) -> None:
    """Images in two rows, marked a, b, ..."""
    columns = -(-len(images) // 2)
    H, W = images.shape[1:3]
    for i, image in enumerate(np.clip(images, 0, 1)):
        x, y = 1.12 * W * (i % columns), -1.45 * H * (i // columns)
        ax.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, extent=(x, x + W, y, y + H))
        ax.text(x + W / 2, y + 1.05 * H, ascii_lowercase[i], fontsize=TEXT, weight="bold", color=INK, ha="center", va="bottom")
    ax.set(xlim=(-0.06 * W, (1.12 * columns - 0.06) * W), ylim=(-1.5 * H, 1.4 * H), xticks=[], yticks=[])
    calm(ax).spines[:].set(visible=False)


def row_of(panels: Mapping[str, object], height: float) -> Figure:
    """The figure of one column for each panel."""
    if not panels:
        raise ShapeError("no models to set side by side; need at least one")
    return Figure(figsize=(max(3.4 * len(panels), 4.0), height), layout="constrained", facecolor="white", edgecolor=FRAME)
