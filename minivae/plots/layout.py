"""What every figure shares: sizes, colours, calm axes, room for the texts around them, and words that keep apart."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

PAGE = 8.0  # inches: the type of a wider figure is larger in proportion, so that it can be read when shrunk to a page
MARGIN = 0.12  # inches: text measured at one dpi is a few hundredths longer at another
SMALL, TEXT, TITLE = 8.0, 9.0, 11.0  # points
INK, FRAME, FAINT = "0.15", "0.6", "0.9"

Word = tuple[str, Any, float, Any]  # text, (x, y), points, colour


def axes() -> Axes:
    """Empty, in a figure of their own."""
    return Figure(figsize=(6.4, 6.4), facecolor="white").add_subplot()


def fit(ax: Axes, inches: tuple[float, float], title: str) -> Figure:
    """The figure of the Axes, with a unit of x and of y this long, and just the room that the texts around need."""
    fig, (left, right), (bottom, top) = ax.get_figure(), ax.get_xlim(), ax.get_ylim()
    assert isinstance(fig, Figure)
    span = np.array([abs(right - left) * inches[0], abs(top - bottom) * inches[1]])
    larger = max(1.0, span[0] / PAGE)
    lines = textwrap.wrap(title, int(max(span[0], 4.0) * 72 / (0.6 * TITLE * larger)))  # a letter is about 0.6 of its size wide
    ax.set_title("\n".join(lines), fontsize=TITLE * larger, color=INK, parse_math=False)
    ax.tick_params(labelsize=TEXT * larger)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(TEXT * larger)
    fig.set_size_inches(*span)
    ax.set(aspect=inches[1] / inches[0], position=(0, 0, 1, 1))
    box = ax.get_tightbbox()  # in dots, from the corner of the Axes
    assert box is not None
    low, high = np.asarray(box) / fig.dpi + [[-MARGIN], [MARGIN]]
    size = high - low
    fig.set_size_inches(*size)
    ax.set_position((*(-low / size), *(span / size)))
    return fig


def latent_axes(ax: Axes) -> Axes:
    """Named after the two latents."""
    for axis, name in ((ax.xaxis, "$z_1$"), (ax.yaxis, "$z_2$")):
        axis.set_label_text(f"{name}  (σ of the prior)", fontsize=TEXT, color=INK)
    return calm(ax)


def titled(ax: Axes, title: str, x: str, y: str) -> Axes:
    """A chart's title, and what its axes are, with their units."""
    ax.set_title(title, fontsize=TITLE, color=INK)
    ax.set_xlabel(x, fontsize=TEXT, color=INK)
    ax.set_ylabel(y, fontsize=TEXT, color=INK)
    return calm(ax)


def calm(ax: Axes) -> Axes:
    """Thin gray axes behind the data."""
    ax.spines[:].set(color=FRAME, linewidth=0.7)
    ax.tick_params(color=FRAME, labelcolor=INK, labelsize=TEXT, width=0.7, length=3)
    ax.set_axisbelow(True)
    return ax


def write(ax: Axes, words: list[Word]) -> None:
    """Words in the plane, apart, with an outline that keeps them readable on any points."""
    texts, places, points, colours = zip(*words, strict=True)
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    inches = np.array([ax.bbox.width, ax.bbox.height]) / ax.figure.dpi
    sizes = np.array([(0.7 * len(text) + 0.3, 1.1) for text in texts]) * np.array(points)[:, None] / 72 / inches * (high - low)
    for text, (x, y), size, colour in zip(texts, apart(np.array(places), sizes, low, high), points, colours, strict=True):
        outline = [withStroke(linewidth=size / 4, foreground="white")]
        style = {"fontsize": size, "color": colour, "weight": "bold", "path_effects": outline}
        ax.text(x, y, text, ha="center", va="center", parse_math=False, **style)


def apart(places: np.ndarray, sizes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Centres of boxes, moved little until the boxes lie within low and high and none on another.   (K, 2), (K, 2), (2,), (2,) -> (K, 2)

    Two that overlap each give way by half, along the axis where less is needed; a hundred rounds spread a crowd that has room.
    """
    order = np.arange(len(places))
    later = np.sign(order[:, None] - order)[..., None]  # decides where two centres agree
    for _ in range(100):
        offset = places[:, None] - places  # (K, K, 2)
        overlap = ((sizes[:, None] + sizes) / 2 - np.abs(offset)) * (later != 0)
        touching = (overlap > 1e-9 * (high - low)).all(axis=-1, keepdims=True)
        shorter = overlap == overlap.min(axis=-1, keepdims=True)
        away = np.where(offset == 0, later, np.sign(offset))
        moved = places + np.where(touching & shorter, away * overlap / 2, 0).sum(axis=1)
        moved = np.clip(moved, low + sizes / 2, high - sizes / 2)
        if np.array_equal(moved, places):
            break
        places = moved
    return places
