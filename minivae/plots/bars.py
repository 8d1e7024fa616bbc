"""Bars: quantities made of parts, and what each latent says."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import ShapeError
from .layout import FAINT, INK, SMALL, TEXT, TITLE, calm

# M. Okabe and K. Ito, "Color universal design", 2008: blue, orange, green, purple, vermilion, sky
PARTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")


def stacked_bars(names: Sequence[str], parts: Mapping[str, np.ndarray], title: str, unit: str = "nats per image") -> Figure:
    """A bar for each name, made of parts, with its total above.     names (B,), each part (B,)

    Raises ShapeError.
    """
    fig = Figure(figsize=(max(4.8, 0.62 * len(names) + 1.6), 3.8), layout="constrained", facecolor="white")
    ax = draw_stacked_bars(fig.add_subplot(), names, parts)
    ax.set_ylabel(unit, fontsize=TEXT, color=INK)
    fig.suptitle(title, fontsize=TITLE, color=INK)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(parts), 4), fontsize=SMALL, frameon=False)
    return fig


def draw_stacked_bars(ax: Axes, names: Sequence[str], parts: Mapping[str, np.ndarray]) -> Axes:
    """`stacked_bars` in one Axes, without its legend.  Negative parts, which estimates can have, hang below zero."""
    wrong = {name: np.shape(part) for name, part in parts.items() if np.shape(part) != (len(names),) or not np.isfinite(part).all()}
    if not parts or not len(names) or len(parts) > len(PARTS) or wrong:
        raise ShapeError(f"stacked_bars: {len(names)} names, {len(parts)} parts, {wrong}; need finite ones of ({len(names)},)")
    up, down = np.zeros(len(names)), np.zeros(len(names))
    for (name, part), colour in zip(parts.items(), PARTS, strict=False):
        part = np.asarray(part, np.float64)
        foot = np.where(part == 0, 0, np.where(part > 0, up, down))  # nothing on top of a bar would hold the axis there
        ax.bar(np.arange(len(names)), part, 0.72, foot, color=colour, label=name)
        up, down = up + np.maximum(part, 0), down + np.minimum(part, 0)
    for i, total in enumerate(np.sum(list(parts.values()), axis=0)):
        text = f"{total:.1f}" if abs(total) >= 9.95 else f"{total:.2f}" if abs(total) >= 0.005 else "0"  # as wide as a bar
        ax.annotate(text, (i, up[i]), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=SMALL, color=INK)
    ax.set_xticks(np.arange(len(names)), names, parse_math=False)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.margins(y=0.1)
    ax.grid(axis="y", color=FAINT, linewidth=0.7)
    return calm(ax)


def draw_latent_kl(ax: Axes, kl: np.ndarray, active: np.ndarray) -> Axes:
    """The KL of each latent in nats, the largest first; bars of those that the encoder uses are full, the others hollow.     (K,), (K,)"""
    kl, active = np.asarray(kl), np.asarray(active)
    if kl.ndim != 1 or kl.shape != active.shape or not len(kl):
        raise ShapeError(f"draw_latent_kl: kl is {kl.shape}, active is {active.shape}; need (K,) both, K at least 1")
    order = np.argsort(-kl, kind="stable")
    colours = [PARTS[0] if used else "none" for used in active[order]]
    ax.bar(np.arange(len(kl)), kl[order], 0.72, color=colours, edgecolor=PARTS[0], linewidth=0.8)
    ax.set_xticks(np.arange(len(kl)), [str(k + 1) for k in order])
    ax.set_ylim(min(0, 1.05 * kl.min()), max(1.05 * kl.max(), 0.01))  # less than a hundredth of a nat is nothing, and looks so
    ax.grid(axis="y", color=FAINT, linewidth=0.7)
    return calm(ax)
