"""What the latents of a model stand for, where the factors that made the images are known."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import ShapeError
from .layout import FAINT, INK, MARGIN, PAGE, SMALL, TEXT, TITLE, calm
from .pictures import _grid, _inches, _pixels

GROUPS = ("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9")  # of M. Okabe and K. Ito, "Color universal design", 2002
CELL = 0.62  # inches: the width of a latent's column
GAP = 0.06


class Roles(NamedTuple):
    """What is known of each of K latents; all means are of the code, the mean of q(z | x)."""

    variance: np.ndarray  # (K,), of q(z_k | x), the mean over images: 1 is the prior's, and an unused latent's
    place: np.ndarray  # (K, Y, X), the mean code of all images whose object stands there
    curves: Mapping[str, np.ndarray]  # {what varies: (K, groups, values)}, the mean code over it
    traversals: np.ndarray  # (K, T, H, W, C), decoded while that latent alone moves


def latent_roles(panels: Mapping[str, Roles], groups: Sequence[str], moves: Sequence[str]) -> Figure:
    """A column for each latent, sorted by its variance: its map of positions, its curves, its traversal; one panel a model.

    groups: the names of the curves in one Axes; moves: the T places of a traversal.  Maps and curves of a panel share one scale,
    which is written beside its first curves.  After I. Higgins et al., "beta-VAE", 2017, figure 7.  Raises ShapeError.
    """
    for title, roles in panels.items():
        check(title, roles, len(groups), len(moves))
    kinds = list(next(iter(panels.values())).curves)
    columns_wide = CELL * sum(len(roles.variance) for roles in panels.values())
    larger = max(1.0, 1.17 * columns_wide / PAGE)
    letter = 0.6 * TEXT * larger / 72  # inches
    left = MARGIN + letter * max(len(name) for name in ("position", "variance", *kinds, *moves)) + 0.4 * larger
    between = 0.45 * larger
    width = left + columns_wide + between * (len(panels) - 1) + MARGIN
    heights = [CELL, *[0.9 * CELL] * len(kinds), *[CELL] * len(moves), 0.6 * CELL]
    head = 0.026 * TITLE * larger
    key = 0.022 * TEXT * larger
    height = head + sum(heights) + GAP * len(heights) + key + MARGIN
    fig = Figure(figsize=(width, height), facecolor="white")
    tops = height - head - np.cumsum([0.0, *[h + GAP for h in heights[:-1]]])

    def cell(row: int, x: float) -> Axes:
        ax = fig.add_axes((x / width, (tops[row] - heights[row]) / height, (CELL - GAP) / width, heights[row] / height))
        ax.set(xticks=[], yticks=[])
        return calm(ax)

    names = ["position", *kinds, *moves, "variance"]
    for row, name in enumerate(names):
        y = (tops[row] - heights[row] / 2) / height
        ticks = 0.4 if 0 < row <= len(kinds) else 0.08
        fig.text((left - ticks * larger) / width, y, name, fontsize=TEXT * larger, color=INK, ha="right", va="center")
    x0 = left
    for title, roles in panels.items():
        order = np.argsort(roles.variance, kind="stable")
        extent = float(max(abs(a).max() for a in (roles.place, *roles.curves.values()))) or 1.0
        end = x0 + CELL * len(order)
        fig.text((x0 + end) / 2 / width, 1 - 0.5 * head / height, title, fontsize=TITLE * larger, color=INK, ha="center", va="center")
        for i, k in enumerate(order):
            x = x0 + CELL * i
            cell(0, x).imshow(roles.place[k], cmap="viridis", vmin=-extent, vmax=extent, aspect="auto")
            for j, kind in enumerate(kinds):
                ax = draw_groups(cell(1 + j, x), roles.curves[kind][k], extent)
                if i == 0:
                    unit = 10.0 ** np.floor(np.log10(0.75 * extent))
                    shown = unit * max(n for n in (1, 1.5, 2, 3, 5, 7) if n * unit <= 0.75 * extent)  # apart from those of the next row
                    ax.set_yticks([-shown, shown], [f"\N{MINUS SIGN}{shown:g}", f"{shown:g}"])
                    ax.tick_params(labelsize=SMALL * larger)
            for t in range(len(moves)):
                ax = cell(1 + len(kinds) + t, x)
                ax.imshow(np.clip(roles.traversals[k, t].mean(axis=-1), 0, 1), cmap="gray", vmin=0, vmax=1, aspect="auto")
            ax = cell(len(names) - 1, x)
            ax.barh([0], [roles.variance[k]], height=1, color="0.8")
            ax.set(xlim=(0, 1), ylim=(-0.5, 0.5))
            ax.text(0.5, 0, brief(roles.variance[k]), fontsize=SMALL * larger, color=INK, ha="center", va="center")
        x0 = end + between
    x = left / width
    for group, colour in zip(groups, GROUPS, strict=False):
        fig.text(x, (MARGIN + 0.4 * key) / height, group, fontsize=TEXT * larger, color=colour, weight="bold", va="center")
        x += letter * (len(group) + 3) / width
    return fig


def check(title: str, roles: Roles, groups: int, moves: int) -> None:
    k = len(roles.variance)
    shapes = {"variance": roles.variance.shape, "place": roles.place.shape, "traversals": roles.traversals.shape}
    shapes |= {name: curve.shape for name, curve in roles.curves.items()}
    fits = roles.place.ndim == 3 and roles.traversals.ndim == 5 and roles.traversals.shape[1] == moves
    fits = fits and all(curve.ndim == 3 and curve.shape[1] == groups for curve in roles.curves.values())
    if not fits or any(shape[0] != k for shape in shapes.values()) or groups > len(GROUPS):
        need = f"({k},), ({k}, Y, X), ({k}, {moves}, H, W, C) and ({k}, {groups}, values) each, at most {len(GROUPS)} groups"
        raise ShapeError(f"latent_roles: of {title!r} {', '.join(f'{name} is {shape}' for name, shape in shapes.items())}; need {need}")


def draw_groups(ax: Axes, curves: np.ndarray, extent: float) -> Axes:
    """Mean codes over something that varies, one line a group.     (groups, values)"""
    ax.axhline(0, color=FAINT, linewidth=0.7)
    for curve, colour in zip(curves, GROUPS, strict=False):
        ax.plot(curve, color=colour, linewidth=1.4)
    ax.set_ylim(-1.1 * extent, 1.1 * extent)
    return ax


def brief(variance: float) -> str:
    """In at most four letters: 0.93, 0.02, 4e-4."""
    return f"{variance:.2f}" if variance >= 0.0095 else f"{variance:.0e}".replace("e-0", "e-")


def scores(found: Mapping[str, Mapping[str, Sequence[float]]], notes: Mapping[str, str] | None = None) -> Figure:
    """Scores between 0 and 1, one panel each, a bar for each model: the mean over its runs, which are dots where there are several.

    found {model: {score: the runs' values}}; notes {score: a line beneath its name}.  Raises ShapeError.
    """
    models = list(found)
    names = list(found[models[0]]) if models else []
    if not names or any(list(of) != names or not all(len(v) for v in of.values()) for of in found.values()):
        lacking = {model: {name: len(values) for name, values in of.items()} for model, of in found.items()}
        raise ShapeError(f"scores: the models have {lacking} values; need the same scores of all, at least one value each")
    width = 1.9 + 1.75 * len(names)
    larger = max(1.0, width / PAGE)
    fig = Figure(figsize=(width, (0.9 + 0.3 * len(models)) * larger), layout="constrained", facecolor="white")
    rows = np.arange(len(models))
    for ax, name in zip(np.ravel(fig.subplots(1, len(names), sharey=True)), names, strict=True):
        means = [float(np.mean(found[model][name])) for model in models]
        ax.barh(rows, means, height=0.66, color=[GROUPS[i % len(GROUPS)] for i in range(len(models))])
        for row, model in enumerate(models):
            values = np.asarray(found[model][name], float)
            if len(values) > 1:
                ax.plot(values, np.full(len(values), row), "o", color="white", markeredgecolor=INK, markersize=4 * larger)
            ax.text(max(means[row], values.max()) + 0.07, row, f"{means[row]:.2f}", fontsize=TEXT * larger, color=INK, va="center")
        ax.set_title(f"{name}\n{notes[name]}" if notes else name, fontsize=TEXT * larger, color=INK)
        ax.set(xlim=(0, 1.38), xticks=[0, 0.5, 1], yticks=rows)
        ax.set_xticklabels(["0", "½", "1"])
        ax.grid(axis="x", color=FAINT, linewidth=0.7)
        calm(ax).tick_params(labelsize=TEXT * larger)
        ax.spines[["top", "right"]].set_visible(False)
    fig.axes[0].set_yticks(rows, models)
    fig.axes[0].invert_yaxis()
    return fig


def named_traversals(
    rows: np.ndarray,
    names: Sequence[str],
    notes: Sequence[str],
    moves: Sequence[str],
    table: np.ndarray,
    columns: Sequence[str],
    title: str,
) -> Figure:
    """Traversals, each with its name and what was measured of it in the left margin, and its line of a table of shares at the right.

    rows (R, T, H, W, C), decoded while one latent moves to T places; names, notes: R each; moves: the T places; table (R, F) in [0, 1],
    columns: what its F columns are; title: of the table.  Raises ShapeError.
    """
    images, note = _pixels("named_traversals: rows", rows, "R, T, H, W, C")
    count, steps = images.shape[:2]
    table = np.asarray(table)
    if {len(names), len(notes)} != {count} or len(moves) != steps or table.shape != (count, len(columns)):
        raise ShapeError(
            f"named_traversals: rows are {images.shape}, {len(names)} names, {len(notes)} notes, {len(moves)} moves, the table "
            f"{table.shape}, {len(columns)} columns; need one a row, one a step, and ({count}, {len(columns)})"
        )
    wide, high, square = *_inches(images[0], 0.04), 0.44
    larger = max(1.0, (wide * steps + square * len(columns) + 1.5) / PAGE)
    square *= larger
    letter = 0.6 * TEXT * larger / 72
    left = MARGIN + letter * max(map(len, (*names, *notes)))
    head = 2 * MARGIN + 0.85 * letter * max(6, *map(len, columns)) + 0.026 * TITLE * larger
    between = 0.2 * larger
    width, height = left + wide * steps + between + square * len(columns) + MARGIN, head + high * count + MARGIN
    fig = Figure(figsize=(width, height), facecolor="white")

    def axes(x: float, w: float) -> Axes:
        return fig.add_axes((x / width, MARGIN / height, w / width, high * count / height))

    ax = _grid(axes(left, wide * steps), list(images))
    ax.set(aspect="auto")
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(steps), moves)
    ax.tick_params(labelsize=TEXT * larger, length=0)
    for r, (name, measured) in enumerate(zip(names, notes, strict=True)):
        y = 1 - (head + high * (r + 0.5)) / height
        up = 0.011 * TEXT * larger / height
        where = (left - 0.08 * larger) / width
        fig.text(where, y + up, name, fontsize=TEXT * larger, color=INK, weight="bold", ha="right", va="center", parse_math=False)
        fig.text(where, y - up, measured, fontsize=SMALL * larger, color=INK, ha="right", va="center", parse_math=False)
    ax = axes(left + wide * steps + between, square * len(columns))
    ax.imshow(np.clip(table, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for r, f in zip(*np.nonzero(table >= 0.095), strict=True):
        shade = "white" if table[r, f] > 0.6 else INK
        ax.text(f, r, f"{table[r, f]:.2f}".replace("0.", "."), fontsize=SMALL * larger, color=shade, ha="center", va="center")
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(len(columns)), columns, rotation=90, parse_math=False)
    ax.set_yticks([])
    calm(ax).tick_params(labelsize=TEXT * larger, length=0)
    middle = (left + wide * steps + between + square * len(columns) / 2) / width
    for x, text in ((middle, title), ((left + wide * steps / 2) / width, f"one latent moves{note}")):
        fig.text(x, 1 - MARGIN / height, text, fontsize=TITLE * larger, color=INK, ha="center", va="top", parse_math=False)
    return fig
