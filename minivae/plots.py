"""Arrays in, a matplotlib Figure out: no file is written, no window opened, no global state touched (there is no pyplot here).

Functions named draw_* draw into one Axes and return it; the others make a Figure of the right size around them.  Sizes are in inches and
points, so that a figure looks alike at any dpi; type is at least 8 points, and grows with a figure wider than a page.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from .errors import ShapeError, UsageError

PAGE = 8.0  # inches: wider figures have larger type, which a page shrinks to this
SMALL, TEXT, TITLE = 8.0, 9.0, 11.0  # points
INK, FRAME, FAINT = "0.15", "0.6", "0.9"
ACCENT, TRAIN, TEST = "#CC3311", "#4477AA", "#EE7733"

# P. Tol, "Colour schemes", SRON/EPS/TN/09-002, 2021: "muted", safe for colour-blind eyes, with a tenth, a middle gray, for tenth classes
PALETTE = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#777777")


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray) -> Figure:
    """Originals above their reconstructions, in bands of at most 10 columns.     both (N, H, W, C), floats in [0, 1]

    Pixels outside [0, 1] are shown as the nearest of the two; of other channels than 1 (gray) or 3 (RGB) the mean is shown, and the
    title says so; this holds for every picture here.  Raises ShapeError.
    """
    top, note = _pixels("reconstructions: originals", originals, "N, H, W, C")
    bottom, _ = _pixels("reconstructions: reconstructed", reconstructed, "N, H, W, C")
    if np.shape(originals) != np.shape(reconstructed):
        raise ShapeError(
            f"reconstructions: originals are {np.shape(originals)}, reconstructed {np.shape(reconstructed)}; need the same shape twice"
        )
    columns = _balanced(len(top), 10)
    rows = [part[i : i + columns] for i in range(0, len(top), columns) for part in (top, bottom)]
    return _picture(rows, f"Originals and reconstructions{note}", ["original", "reconstruction"] * (len(rows) // 2), band=2)[0]


def samples(images: np.ndarray, title: str) -> Figure:
    """A grid of images, about as wide as high.     (N, H, W, C), floats in [0, 1]

    See `reconstructions` for pixels and channels.  Raises ShapeError.
    """
    images, note = _pixels("samples: images", images, "N, H, W, C")
    N, H, W, _ = images.shape
    columns = _balanced(N, min(N, math.ceil(math.sqrt(N * H / W))))
    return _picture([images[i : i + columns] for i in range(0, N, columns)], title + note)[0]


def interpolations(rows: np.ndarray, labels: Sequence[str] | None = None) -> Figure:
    """Each row goes from one image at t = 0 to another at t = 1 in equal steps; the two ends are framed.     (R, S, H, W, C), S >= 2

    labels: one for each of the R rows.  See `reconstructions` for pixels and channels.  Raises ShapeError.
    """
    images, note = _pixels("interpolations: rows", rows, "R, S, H, W, C")
    R, S, H, W, _ = images.shape
    if S < 2 or (labels is not None and len(labels) != R):
        count = "no" if labels is None else len(labels)
        raise ShapeError(f"interpolations: {R} rows of {S} images, {count} labels; need at least 2 images a row and a label for each row")
    fig, ax, points = _picture(list(images), f"From one image to another in the latent space{note}", labels or ())
    ax.add_collection(_frames([(c, r) for r in range(R) for c in (0, S - 1)], H, W, ACCENT, 1.8))
    step = next(k for k in range(1, S) if (S - 1) % k == 0 and (S - 1) / k <= 12)  # both ends have their tick
    ax.set_xticks(range(0, S, step), [f"{c / (S - 1):.3g}" for c in range(0, S, step)], fontsize=points)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("t", fontsize=points, style="italic", color=INK)
    return fig


def manifold_grid(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z1 (n,), z2 (n,) and z (n, n, 2) with z[r, c] = (z1[c], z2[r]), at the prior's quantiles: Phi^-1((i + 1/2) / n), i = 0 ... n - 1.

    Every cell stands for an equal share of the prior.  Kingma and Welling 2014, figure 4.  Raises UsageError.
    """
    if n < 1:
        raise UsageError(f"manifold_grid: n is {n}; need at least 1 value on each axis")
    z = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    return z, z.copy(), np.stack(np.meshgrid(z, z), axis=-1)


def manifold(images: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> Figure:
    """The images that a decoder with 2 latents makes over the latent plane, joined.     images (R, S, H, W, C), z1 (S,), z2 (R,)

    images[r, c] is decoded from (z1[c], z2[r]); both increase, z1 to the right and z2 upwards.  See `manifold_grid` for the usual grid, and
    `reconstructions` for pixels and channels.  Raises ShapeError.
    """
    shown, note = _pixels("manifold: images", images, "R, S, H, W, C")
    R, S, H, W, _ = shown.shape
    width, height = _cell(H, W, S)
    fig, larger = _figure(S * width + 0.7, R * height + 0.6, f"Decoded images over the latent plane{note}")
    draw_manifold(fig.add_subplot(), shown, z1, z2, TEXT * larger)
    return fig


def draw_manifold(ax: Axes, images: np.ndarray, z1: np.ndarray, z2: np.ndarray, points: float = TEXT) -> Axes:
    """`manifold` in one Axes, with type of `points`."""
    images, _ = _pixels("manifold: images", images, "R, S, H, W, C")
    R, S, H, W, C = images.shape
    if np.shape(z1) != (S,) or np.shape(z2) != (R,) or not (np.all(np.diff(z1) > 0) and np.all(np.diff(z2) > 0)):
        raise ShapeError(
            f"manifold: images are {images.shape}, z1 {np.shape(z1)} and z2 {np.shape(z2)}; need ({S},) and ({R},) increasing values"
        )
    joined = images[::-1].transpose(0, 2, 1, 3, 4).reshape(R * H, S * W, C)  # the first row of a picture is its top
    _show(ax, joined, (-0.5, S - 0.5, -0.5, R - 0.5))
    ax.set_aspect(H / W)
    for axis, z, name in ((ax.xaxis, np.asarray(z1), "$z_1$"), (ax.yaxis, np.asarray(z2), "$z_2$")):
        ticks = [t for t in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(z[0], z[-1]) if z[0] <= t <= z[-1]]
        ticks = ticks if len(ticks) > 1 else list(z)
        axis.set_ticks(np.interp(ticks, z, np.arange(len(z))), [f"{t:.3g}".replace("-", "−") for t in ticks], fontsize=points)
        axis.set_label_text(f"{name}  (standard deviations of the prior)", fontsize=points, color=INK)
    return _calm(ax)


def latent_map(means: np.ndarray, labels: np.ndarray | None = None, label_names: Sequence[str] = ()) -> Figure:
    """Posterior means in a latent plane, coloured by class.     means (N, 2), labels (N,) integers from 0 up

    Each class's name (its number where label_names has none) stands at its median; the circles are 1 and 2 standard deviations of the
    prior.  Raises ShapeError.
    """
    n = len(means)
    fig, _ = _figure(6.4, 6.6, f"Posterior means of {n} image{'s' * (n != 1)}; circles: 1σ and 2σ of the prior")
    draw_latent_map(fig.add_subplot(), means, labels, label_names)
    return fig


def draw_latent_map(ax: Axes, means: np.ndarray, labels: np.ndarray | None = None, label_names: Sequence[str] = ()) -> Axes:
    """`latent_map` in one Axes."""
    means = np.asarray(means)
    if means.ndim != 2 or means.shape[1] != 2 or len(means) == 0 or not np.isfinite(means).all():
        raise ShapeError(
            f"latent_map: means are {means.shape}, {np.isfinite(means).sum()} of {means.size} finite; need finite (N, 2), N >= 1"
        )
    known = labels is not None
    labels = np.asarray(labels) if known else np.zeros(len(means), np.int64)
    if labels.shape != means.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ShapeError(
            f"latent_map: labels are {labels.dtype} {labels.shape}, means {means.shape}; need ({len(means)},) integers from 0 up"
        )
    colours = np.array(PALETTE)[labels % len(PALETTE)] if known else TRAIN
    size = float(np.clip(30_000 / len(means), 4, 30))  # points^2
    ax.scatter(
        means[:, 0], means[:, 1], s=size, c=colours, alpha=0.45, linewidths=0, rasterized=True
    )  # in the order of the data: no class covers another
    for radius in (1, 2):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=0.7, alpha=0.7))
        _label(ax, 0, -radius, f"{radius}σ", SMALL, FRAME)
    for k in np.unique(labels) if known else ():
        name = label_names[k] if k < len(label_names) else str(k)
        x, y = np.median(means[labels == k], axis=0)
        _label(ax, x, y, name, TITLE)
    low, high = np.minimum(means.min(axis=0), -2.1), np.maximum(means.max(axis=0), 2.1)
    middle, half = (low + high) / 2, 0.525 * (high - low).max()
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
    ax.tick_params(labelsize=TEXT)
    ax.set_xlabel("$z_1$  (standard deviations of the prior)", fontsize=TEXT, color=INK)
    ax.set_ylabel("$z_2$  (standard deviations of the prior)", fontsize=TEXT, color=INK)
    return _calm(ax)


def loss_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss, reconstruction and KL of the training and the test set over the epochs, in nats per image, with the final values.

    metrics: a dict an epoch, {"epoch": 1, "train": {"loss": ., "reconstruction": ., "kl": .}, "test": {the same}}.  Raises ShapeError.
    """
    fig, _ = _figure(10, 3.3, "")
    panels = fig.subplots(1, 3)
    for ax, name, title in zip(panels, ("loss", "reconstruction", "kl"), ("Loss", "Reconstruction", "KL divergence"), strict=True):
        draw_curves(ax, metrics, name).set_title(title, fontsize=TITLE, color=INK)
    panels[0].set_ylabel("nats per image", fontsize=TEXT, color=INK)
    return fig


def draw_curves(ax: Axes, metrics: Sequence[Mapping[str, Any]], name: str) -> Axes:
    """One quantity of `loss_curves` in one Axes."""
    if len(metrics) == 0:
        raise ShapeError("loss_curves: 0 epochs; need the metrics of at least 1")
    try:
        epochs = [m["epoch"] for m in metrics]
        curves = {part: [float(m[part][name]) for m in metrics] for part in ("train", "test")}
    except (KeyError, TypeError) as error:
        raise ShapeError(f"loss_curves: one of {len(metrics)} epochs lacks {error}; need epoch, train and test with {name}") from error
    for (part, values), colour in zip(curves.items(), (TRAIN, TEST), strict=True):
        few = len(epochs) <= 30
        ax.plot(epochs, values, color=colour, linewidth=1.6, marker="o" if few else None, markersize=4, label=part)
    if len(epochs) == 1:
        ax.set_xlim(epochs[0] - 1, epochs[0] + 1)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch", fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=TEXT)
    ax.grid(color=FAINT, linewidth=0.7)
    # the final values stand beside their curves, and apart where the curves meet
    low, high = ax.get_ylim()
    heights = {part: (values[-1] - low) / (high - low) for part, values in curves.items()}
    lower, upper = sorted(heights, key=lambda part: heights[part])
    apart, middle = 0.13, (heights[lower] + heights[upper]) / 2
    if heights[upper] - heights[lower] < apart:
        heights = {lower: middle - apart / 2, upper: middle + apart / 2}
    for part, colour in (("train", TRAIN), ("test", TEST)):
        text = f"{part}\n{curves[part][-1]:.1f}"
        ax.text(1.03, heights[part], text, color=colour, fontsize=TEXT, weight="bold", va="center", transform=ax.transAxes, linespacing=1.0)
    return _calm(ax)


def _pixels(what: str, images: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """Checked and made fit to show, and what the title must add.     (..., H, W, C) -> (..., H, W, 1 or 3) in [0, 1]"""
    images = np.asarray(images)
    if images.ndim != axes.count(",") + 1 or images.size == 0:
        raise ShapeError(f"{what} are {images.shape}; need ({axes}), all at least 1")
    if images.dtype.kind != "f":
        raise ShapeError(f"{what} are {images.dtype}; need floats in [0, 1], which data.to_float makes of bytes")
    if not np.isfinite(images).all():
        raise ShapeError(f"{what}: {images.size - np.isfinite(images).sum()} of {images.size} pixels are not finite; need floats in [0, 1]")
    C = images.shape[-1]
    if C in (1, 3):
        return np.clip(images, 0, 1), ""
    return np.clip(images.mean(axis=-1, keepdims=True), 0, 1), f" (mean of {C} channels)"


def _balanced(n: int, most: int) -> int:
    """Columns, at most `most`, that share n images evenly among as few rows as that needs."""
    return math.ceil(n / math.ceil(n / most))


def _cell(H: int, W: int, columns: int) -> tuple[float, float]:
    """Width and height in inches of an image: as large as a page allows up to 1.5 in, never under 0.3 in or 150 pixels an inch."""
    side = math.sqrt(H * W)
    inches = max(0.3, side / 150, min(1.5, PAGE / columns * math.sqrt(H / W)))
    return inches * W / side, inches * H / side


def _figure(width: float, height: float, title: str) -> tuple[Figure, float]:
    """An empty figure that fits a picture of width x height inches under its title, and how much larger than on a page its type is."""
    width = max(width, 3.5)
    larger = max(1.0, width / PAGE)
    fig = Figure(layout="constrained", facecolor="white")
    lines = textwrap.wrap(title, int(width * 72 / (0.6 * TITLE * larger)))  # a letter is about 0.6 of its size wide
    if lines:
        fig.suptitle("\n".join(lines), fontsize=TITLE * larger, color=INK, parse_math=False)
    fig.set_size_inches(width, height + len(lines) * 1.5 * TITLE * larger / 72)
    return fig, larger


def _picture(rows: list[np.ndarray], title: str, labels: Sequence[str] = (), band: int = 1) -> tuple[Figure, Axes, float]:
    """A figure with a `_grid` in its one Axes, and the size of its type in points."""
    _, H, W, _ = rows[0].shape
    width, height = _cell(H, W, len(rows[0]))
    margin = 0.6 * TEXT / 72 * max(map(len, labels), default=0)
    fig, larger = _figure(len(rows[0]) * width + margin + 0.1, len(rows) * height + 0.1, title)
    return fig, _grid(fig.add_subplot(), rows, labels, band, TEXT * larger), TEXT * larger


def _grid(ax: Axes, rows: list[np.ndarray], labels: Sequence[str], band: int, points: float) -> Axes:
    """Rows of images; the one in column c and row r is centred at (c, r), save that a wider gap follows every `band` rows."""
    _, H, W, _ = rows[0].shape
    w, h, aspect = _slot(H, W)
    heights = [r + (0.2 * (r // band) if band > 1 else 0.0) for r in range(len(rows))]
    centres = [(c, y) for row, y in zip(rows, heights, strict=True) for c in range(len(row))]
    for image, (x, y) in zip((image for row in rows for image in row), centres, strict=True):
        _show(ax, image, (x - w / 2, x + w / 2, y + h / 2, y - h / 2))
    ax.add_collection(_frames(centres, H, W, FRAME, 0.5))
    ax.set(xlim=(-0.52, len(rows[0]) - 0.48), ylim=(heights[-1] + 0.52, -0.52), aspect=aspect)
    ax.set_xticks([])
    ax.set_yticks(heights if labels else [], labels, fontsize=points, parse_math=False)
    ax.spines[:].set_visible(False)
    return _calm(ax)


def _slot(H: int, W: int) -> tuple[float, float, float]:
    """Width and height of an image in a slot of 1 x 1 with its share of the gap, and the slot's height over its width."""
    gap = 0.08 * math.sqrt(H * W)
    return W / (W + gap), H / (H + gap), (H + gap) / (W + gap)


def _frames(centres: Sequence[tuple[float, float]], H: int, W: int, colour: str, points: float) -> PatchCollection:
    """Rectangles around the images at these places of a `_grid`."""
    w, h, _ = _slot(H, W)
    patches = [Rectangle((x - w / 2, y - h / 2), w, h) for x, y in centres]
    return PatchCollection(patches, facecolor="none", edgecolor=colour, linewidth=points)


def _show(ax: Axes, image: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """One image (H, W, 1 or 3) at left, right, bottom, top."""
    ax.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")


def _label(ax: Axes, x: float, y: float, text: str, points: float, colour: str = INK) -> None:
    """A word in the plane, with an outline that keeps it readable on any points."""
    outline = [withStroke(linewidth=points / 4, foreground="white")]
    ax.text(x, y, text, fontsize=points, color=colour, ha="center", va="center", path_effects=outline, parse_math=False)


def _calm(ax: Axes) -> Axes:
    """Thin gray axes behind the data."""
    ax.spines[:].set(color=FRAME, linewidth=0.7)
    ax.tick_params(color=FRAME, labelcolor=INK, width=0.7, length=3 if ax.get_xlabel() else 0)
    ax.set_axisbelow(True)
    return ax
