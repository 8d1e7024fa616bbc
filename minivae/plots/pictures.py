"""Pictures made of images: reconstructions, samples, interpolations, the latent plane decoded.

Pixels outside [0, 1] are shown as the nearest inside; of other channels than 1 (gray) and 3 (RGB) the mean is shown, and the title says so.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..errors import ShapeError, UsageError
from .layout import FRAME, INK, PAGE, SMALL, TEXT, TITLE, axes, calm, fit, latent_axes

GAP = 0.08  # between images, of the side of a square of their area
BETWEEN = 0.25  # of a column, between groups of them
ENDS = "#CC3311"


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray) -> Figure:
    """Originals above their reconstructions, in bands of at most 10 columns.     both (N, H, W, C), floats in [0, 1]

    Raises ShapeError.
    """
    top, note = _pixels("reconstructions: originals", originals, "N, H, W, C")
    bottom, _ = _pixels("reconstructions: reconstructed", reconstructed, "N, H, W, C")
    if np.shape(originals) != np.shape(reconstructed):
        shapes = f"originals are {np.shape(originals)}, reconstructed {np.shape(reconstructed)}"
        raise ShapeError(f"reconstructions: {shapes}; need the same shape twice")
    columns = _balanced(len(top), 10)
    rows = [part[i : i + columns] for i in range(0, len(top), columns) for part in (top, bottom)]
    ax = _grid(axes(), rows, ["original", "reconstruction"] * (len(rows) // 2), band=2)
    return fit(ax, _inches(rows[0]), f"Originals and reconstructions{note}")


def samples(images: np.ndarray, title: str) -> Figure:
    """A grid of images, about as wide as high.     (N, H, W, C), floats in [0, 1]

    Raises ShapeError.
    """
    images, note = _pixels("samples: images", images, "N, H, W, C")
    N, H, W, _ = images.shape
    columns = _balanced(N, min(N, math.ceil(math.sqrt(N * H / W))))
    rows = [images[i : i + columns] for i in range(0, N, columns)]
    return fit(_grid(axes(), rows), _inches(rows[0]), title + note)


def captioned(images: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    """A grid of images, about as wide as high, with a line below each.     (N, H, W, C), floats in [0, 1]

    Raises ShapeError."""
    shown, note = _pixels("captioned: images", images, "N, H, W, C")
    if len(captions) != len(shown):
        raise ShapeError(f"captioned: {len(shown)} images, {len(captions)} captions; need as many")
    N, H, W, _ = shown.shape
    columns = _balanced(N, max(1, round(math.sqrt(N * H / W))))
    w, h = _inches(shown[:columns])
    w, h = min(max(w, 0.9), 1.1), min(h, 1.1 * h / w) + 0.2  # room for a line
    rows = math.ceil(N / columns)
    figure = Figure(figsize=(columns * w, rows * h + 0.4), facecolor="white", layout="constrained")
    for ax in (every := figure.subplots(rows, columns, squeeze=False).ravel()):
        ax.axis("off")
    for ax, image, caption in zip(every, shown, captions, strict=False):
        _show(ax, image, (0, W, H, 0))
        ax.set_aspect("equal")
        ax.text(0.5, -0.03, caption, transform=ax.transAxes, ha="center", va="top", fontsize=SMALL, color=INK, parse_math=False)
    figure.suptitle(title + note, fontsize=TITLE, color=INK, parse_math=False)
    return figure


def groups(parts: Mapping[str, np.ndarray], title: str, labels: Sequence[str] = ()) -> Figure:
    """Rows of images that belong together, in groups of columns with a name above each.     {name: (R, S, H, W, C)}, floats in [0, 1]

    labels: one for each of the R rows, or none.  Gray groups may stand beside those in colour.  Raises ShapeError.
    """
    checked = {name: _pixels(f"groups: {name}", images, "R, S, H, W, C") for name, images in parts.items()}
    shapes = {name: np.shape(images) for name, images in parts.items()}
    if len({(R, H, W) for R, _, H, W, _ in shapes.values()}) != 1 or len(labels) not in (0, *(shape[0] for shape in shapes.values())):
        raise ShapeError(
            f"groups: {shapes or 'nothing'}, {len(labels)} labels; need equal R, H and W, at least one group, R labels or none"
        )
    rows = list(np.concatenate([np.broadcast_to(images, (*images.shape[:-1], 3)) for images, _ in checked.values()], axis=1))
    widths = np.array([S for _, S, *_ in shapes.values()])
    starts = np.cumsum(widths) - widths + BETWEEN * np.arange(len(widths))
    inches = _inches(rows[0])
    ax = _grid(axes(), rows, labels, places=[start + c for start, S in zip(starts, widths, strict=True) for c in range(S)])
    larger = max(1.0, float(np.ptp(ax.get_xlim())) * inches[0] / PAGE)  # as `fit` has it
    room = (widths + BETWEEN) * inches[0] * 72 / (0.6 * TEXT * larger)  # letters
    names = [textwrap.fill(name, max(int(letters), 1), break_long_words=False) for name, letters in zip(parts, room, strict=True)]
    ax.set_xticks(starts + (widths - 1) / 2, names, parse_math=False)
    ax.xaxis.tick_top()
    note = next((note for _, note in checked.values() if note), "")
    return fit(ax, inches, title + note)


def interpolations(rows: np.ndarray, labels: Sequence[str] | None = None) -> Figure:
    """Each row goes from one image at t = 0 to another at t = 1 in equal steps; the two ends are framed.     (R, S, H, W, C), S >= 2

    labels: one for each of the R rows.  Raises ShapeError.
    """
    images, note = _pixels("interpolations: rows", rows, "R, S, H, W, C")
    R, S, H, W, _ = images.shape
    labels = () if labels is None else labels
    if S < 2 or len(labels) not in (0, R):
        raise ShapeError(f"interpolations: {R} rows of {S} images, {len(labels)} labels; need at least 2 images and one label a row")
    ax = _grid(axes(), list(images), labels)
    ax.add_collection(_frames([(c, r) for r in range(R) for c in (0, S - 1)], H, W, ENDS, 1.8))
    steps = S - 1 if S - 1 in (1, 2, 4, 5, 8, 10) else 4  # round numbers: quarters, between the images, rather than t = 0.0909
    ticks = np.linspace(0, 1, steps + 1)
    ax.set_xticks(ticks * (S - 1), [f"{t:.3g}" for t in ticks])
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("t", style="italic", color=INK)
    return fit(ax, _inches(images[0]), f"From one image to another in the latent space{note}")


def manifold_grid(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z1 (n,), z2 (n,) and z (n, n, 2) with z[r, c] = (z1[c], z2[r]), at the prior's quantiles Phi^-1((i + 1/2) / n), i = 0 ... n - 1.

    Every cell stands for an equal share of the prior.  Kingma and Welling 2014, figure 4.  Raises UsageError.
    """
    if n < 1:
        raise UsageError(f"manifold_grid: n is {n}; need at least 1 value on each axis")
    z = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    return z, z.copy(), np.stack(np.meshgrid(z, z), axis=-1)


def manifold(images: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> Figure:
    """What a decoder with 2 latents makes of the latent plane, joined to one picture.     images (R, S, H, W, C), z1 (S,), z2 (R,)

    images[r, c] is decoded from (z1[c], z2[r]); both increase, z1 to the right and z2 upwards: see `manifold_grid`.  Raises
    ShapeError.
    """
    shown, note = _pixels("manifold: images", images, "R, S, H, W, C")
    return fit(draw_manifold(axes(), shown, z1, z2), _inches(shown[0], gap=0), f"Decoded images over the latent plane{note}")


def draw_manifold(ax: Axes, images: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> Axes:
    """`manifold` in one Axes."""
    images, _ = _pixels("manifold: images", images, "R, S, H, W, C")
    R, S, H, W, C = images.shape
    if np.shape(z1) != (S,) or np.shape(z2) != (R,) or not (np.all(np.diff(z1) > 0) and np.all(np.diff(z2) > 0)):
        shapes = f"images are {images.shape}, z1 {np.shape(z1)} and z2 {np.shape(z2)}"
        raise ShapeError(f"manifold: {shapes}; need ({S},) and ({R},), both increasing")
    joined = images[::-1].transpose(0, 2, 1, 3, 4).reshape(R * H, S * W, C)  # the first row of a picture is its top
    _show(ax, joined, (-0.5, S - 0.5, -0.5, R - 0.5))
    ax.set_aspect(H / W)
    for axis, z in ((ax.xaxis, np.asarray(z1)), (ax.yaxis, np.asarray(z2))):
        ticks = [t for t in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(z[0], z[-1]) if z[0] <= t <= z[-1]]
        ticks = ticks if len(ticks) > 1 else list(z)
        axis.set_ticks(np.interp(ticks, z, np.arange(len(z))), [f"{t:.3g}".replace("-", "\N{MINUS SIGN}") for t in ticks])
    return latent_axes(ax)


def _pixels(what: str, images: np.ndarray, dims: str) -> tuple[np.ndarray, str]:
    """Checked and made fit to show, and what the title must add.     (..., H, W, C) -> (..., H, W, 1 or 3) in [0, 1]"""
    images = np.asarray(images)
    if images.ndim != dims.count(",") + 1 or images.size == 0:
        raise ShapeError(f"{what} are {images.shape}; need ({dims}), all at least 1")
    if images.dtype.kind != "f":
        raise ShapeError(f"{what} are {images.dtype}; need floats in [0, 1], which data.to_float makes of bytes")
    if not np.isfinite(images).all():
        raise ShapeError(f"{what}: {np.isfinite(images).sum()} of {images.size} pixels are finite; need floats in [0, 1]")
    C = images.shape[-1]
    if C in (1, 3):
        return np.clip(images, 0, 1), ""
    return np.clip(images.mean(axis=-1, keepdims=True), 0, 1), f" (mean of {C} channels)"


def _balanced(n: int, most: int) -> int:
    """Columns, at most `most`, that share n images evenly among as few rows as that needs."""
    return math.ceil(n / math.ceil(n / most))


def _inches(row: np.ndarray, gap: float = GAP) -> tuple[float, float]:
    """Width and height of an image with its gap: 1.5 inches where the row fits a page, at least 0.3, and an inch for 150 pixels."""
    S, H, W, _ = row.shape
    side = math.sqrt(H * W)
    inches = max(0.3, side / 150, min(1.5, PAGE / S * side / W))
    return inches * (W / side + gap), inches * (H / side + gap)


def _grid(ax: Axes, rows: list[np.ndarray], labels: Sequence[str] = (), band: int = 1, places: Sequence[float] | None = None) -> Axes:
    """Rows of images; the one in column c and row r is centred at (c, r), save that a wider gap follows every `band` rows, and that
    `places` may tell the columns where to be."""
    _, H, W, _ = rows[0].shape
    w, h = _share(H, W)
    heights = [r + (0.2 * (r // band) if band > 1 else 0.0) for r in range(len(rows))]
    columns = range(len(rows[0])) if places is None else places
    centres = [(x, y) for row, y in zip(rows, heights, strict=True) for x, _ in zip(columns, row, strict=False)]
    for image, (x, y) in zip((image for row in rows for image in row), centres, strict=True):
        _show(ax, image, (x - w / 2, x + w / 2, y + h / 2, y - h / 2))
    ax.add_collection(_frames(centres, H, W, FRAME, 0.5))
    ax.set(xlim=(columns[0] - 0.5, columns[-1] + 0.5), ylim=(heights[-1] + 0.5, -0.5))
    ax.set_xticks([])
    ax.set_yticks(heights if labels else [], labels, parse_math=False)
    calm(ax).tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _share(H: int, W: int) -> tuple[float, float]:
    """Width and height of an image, of the width and height that it takes with its gap."""
    side = math.sqrt(H * W)
    return W / (W + GAP * side), H / (H + GAP * side)


def _frames(centres: Sequence[tuple[float, float]], H: int, W: int, colour: str, points: float) -> PatchCollection:
    """Rectangles around the images at these places of a `_grid`."""
    w, h = _share(H, W)
    patches = [Rectangle((x - w / 2, y - h / 2), w, h) for x, y in centres]
    return PatchCollection(patches, facecolor="none", edgecolor=colour, linewidth=points)


def _show(ax: Axes, image: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """One image (H, W, 1 or 3) at left, right, bottom, top."""
    ax.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
