"""Charts of numbers: the latent plane and the curves of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from ..errors import ShapeError
from .layout import FAINT, INK, SMALL, TEXT, TITLE, Word, apart, axes, calm, fit, latent_axes, write

TRAIN, TEST = "#4477AA", "#EE7733"

# distinct for colour-blind eyes: P. Tol, "Colour schemes", SRON/EPS/TN/09-002, 2021, "muted", with a near-black for the tenth
PALETTE = ("#CC6677", "#AA4499", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#332288", "#222222")


def latent_map(means: np.ndarray, labels: np.ndarray | None = None, label_names: Sequence[str] = ()) -> Figure:
    """Posterior means in a latent plane, coloured by class.     means (N, 2), labels (N,) integers from 0 up

    The name of a class (its number, where label_names has none) stands at its median, or beside it where names would overlap; the circles
    are 1 and 2 standard deviations of the prior.  Raises ShapeError.
    """
    n = len(means)
    ax = draw_latent_map(axes(), means, labels, label_names)
    scale = 5.6 / float(np.ptp(ax.get_xlim()))
    return fit(ax, (scale, scale), f"Posterior means of {n} image{'s' * (n != 1)}, and 1σ and 2σ of the prior")


def draw_latent_map(ax: Axes, means: np.ndarray, labels: np.ndarray | None = None, label_names: Sequence[str] = ()) -> Axes:
    """`latent_map` in one Axes."""
    means = np.asarray(means)
    if means.ndim != 2 or means.shape[1] != 2 or len(means) == 0 or not np.isfinite(means).all():
        finite = f"{np.isfinite(means).sum()} of {means.size} numbers finite"
        raise ShapeError(f"latent_map: means are {means.shape}, {finite}; need (N, 2), N at least 1, all finite")
    known = labels is not None
    labels = np.asarray(labels) if known else np.zeros(len(means), np.int64)
    if labels.shape != means.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ShapeError(f"latent_map: labels are {labels.dtype} {labels.shape}; need ({len(means)},) integers from 0 up")
    low, high = np.minimum(means.min(axis=0), -2.1), np.maximum(means.max(axis=0), 2.1)
    middle, half = (low + high) / 2, 0.525 * (high - low).max()
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
    words: list[Word] = []
    for radius in (1, 2):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=0.7, alpha=0.7))
        words.append((f"{radius}σ", (0, -radius), SMALL, "0.35"))
    colours = np.full((len(means), 3), to_rgb(TRAIN))
    if known:
        classes, members = np.unique(labels, return_inverse=True)
        medians = np.array([np.median(means[members == i], axis=0) for i in range(len(classes))])
        palette = np.array([to_rgb(PALETTE[c]) for c in _class_colours(classes, medians)])
        colours = palette[members]
        points = TITLE if len(classes) <= len(PALETTE) else SMALL
        for k, median, colour in zip(classes, medians, palette, strict=True):
            words.append((label_names[k] if k < len(label_names) else str(k), median, points, 0.6 * colour))
    size = float(np.clip(30_000 / len(means), 4, 30))  # points^2
    ax.scatter(means[:, 0], means[:, 1], s=size, c=colours, alpha=0.45, linewidths=0, rasterized=True)  # as they come: no class on top
    write(ax, words)
    return latent_axes(ax)


def loss_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss, reconstruction and KL of the training and the test set over the epochs, in nats per image, with the final values.

    metrics: a dict an epoch, {"epoch": 1, "train": {"loss": ., "reconstruction": ., "kl": .}, "test": {the same}}.  Where an objective
    reports other numbers than a reconstruction and a KL, those are drawn, the first five.  Raises ShapeError.
    """
    fig = Figure(figsize=(10, 3.3), layout="constrained", facecolor="white")
    titles = {"loss": "Loss", "reconstruction": "Reconstruction, \N{MINUS SIGN}log p(x | z)", "kl": "KL(q(z | x) ‖ p(z))"}
    told = list(metrics[0].get("test", {})) if len(metrics) else []
    if told and not {"reconstruction", "kl"} <= set(told):
        titles = {name: titles.get(name, name.replace("_", " ")) for name in told[:5]}
    for ax, (name, title) in zip(np.ravel(fig.subplots(1, len(titles))), titles.items(), strict=True):
        draw_curves(ax, metrics, name).set_title(title, fontsize=TITLE, color=INK)
    if "kl" in titles:
        fig.axes[0].set_ylabel("nats per image", fontsize=TEXT, color=INK)
    return fig


def draw_curves(ax: Axes, metrics: Sequence[Mapping[str, Any]], name: str) -> Axes:
    """One quantity of `loss_curves` in one Axes."""
    if len(metrics) == 0:
        raise ShapeError("loss_curves: 0 epochs; need the metrics of at least 1")
    try:
        epochs = [int(m["epoch"]) for m in metrics]
        curves = {part: [float(m[part][name]) for m in metrics] for part in ("train", "test")}
    except (KeyError, TypeError) as error:
        raise ShapeError(f"loss_curves: one of {len(metrics)} epochs lacks {error}; need epoch, train and test with {name}") from error
    for values, colour in zip(curves.values(), (TRAIN, TEST), strict=True):
        ax.plot(epochs, values, color=colour, linewidth=1.6, marker="o" if len(epochs) <= 30 else None, markersize=4)
    if len(epochs) == 1:
        ax.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch", fontsize=TEXT, color=INK)
    ax.grid(color=FAINT, linewidth=0.7)
    low, high = ax.get_ylim()
    ends = np.array([(0, (values[-1] - low) / (high - low)) for values in curves.values()])
    places = apart(ends, np.array([(1, 0.14)] * 2), np.array([-1, 0]), np.array([1, 1]))  # beside the ends, apart where curves meet
    for (part, values), (_, y), colour in zip(curves.items(), places, (TRAIN, TEST), strict=True):
        text = f"{part}\n{values[-1]:{'.1f' if abs(values[-1]) >= 10 else '.3g'}}"
        ax.text(1.03, y, text, color=colour, fontsize=TEXT, weight="bold", va="center", transform=ax.transAxes, linespacing=1.0)
    return calm(ax)


def _class_colours(classes: np.ndarray, medians: np.ndarray) -> list[int]:
    """Numbers in PALETTE: class k has colour k while there is one, then the colour whose bearers are farthest.     (K,), (K, 2) -> K"""
    chosen: list[int] = []
    for k, place in zip(classes, medians, strict=True):
        distance = np.hypot(*(medians[: len(chosen)] - place).T)
        nearest = [distance[np.array(chosen, int) == colour].min(initial=np.inf) for colour in range(len(PALETTE))]
        chosen.append(int(k) if k < len(PALETTE) else int(np.argmax(nearest)))
    return chosen
