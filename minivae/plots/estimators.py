"""Charts of gradient estimators: their variance against the mismatch of the posterior, their signal-to-noise ratio against k."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import ShapeError
from .layout import FAINT, INK, SMALL, TEXT, TITLE, apart, calm

# P. Tol, "Colour schemes", 2021, "bright", without its yellow, which is too light for a word, and its gray
COLOURS = ("#4477AA", "#EE6677", "#228833", "#AA3377", "#007A99", "#222222")


def estimator_variance(mismatch: np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Variance of gradient estimates over the mismatch of q and the posterior, log-log, one panel a bound.

    mismatch (M,); panels {title: {estimator: (M,)}}: names with one first line have one colour in all of them.  Raises ShapeError.
    """
    names = list(dict.fromkeys(first_line(name) for curves in panels.values() for name in curves))
    fig = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained", facecolor="white")
    for ax, (title, curves) in zip(np.ravel(fig.subplots(1, len(panels), sharey=True)), panels.items(), strict=True):
        draw_log_log(ax, mismatch, curves, [COLOURS[names.index(first_line(name)) % len(COLOURS)] for name in curves])
        ax.set_title(title, fontsize=TITLE, color=INK)
        ax.set_xlabel("mismatch δ: mean off by δ posterior σ, log σ by δ", fontsize=TEXT, color=INK)
    fig.axes[0].set_ylabel("variance of one estimate", fontsize=TEXT, color=INK)
    return fig


def signal_to_noise(samples: np.ndarray, curves: Mapping[str, np.ndarray], slopes: Sequence[float] = (-0.5, 0.5)) -> Figure:
    """|E g| / sqrt(trace Cov g) of gradient estimates over k, log-log, with dotted lines of the given slopes.

    samples (M,), the k; curves {estimator: (M,)} or (B, M), of which the mean of the logarithms is drawn, and a band of 2 standard errors.
    Each slope's line runs below the curve that is nearest to it at the largest k, where an asymptote holds.  Raises ShapeError.
    """
    fig = Figure(figsize=(6.8, 4.2), layout="constrained", facecolor="white")
    ax = fig.add_subplot()
    logs = {name: np.log(np.atleast_2d(rows)) for name, rows in curves.items()}
    centres = {name: np.exp(log.mean(axis=0)) for name, log in logs.items()}
    draw_log_log(ax, samples, centres, COLOURS[: len(curves)])
    for log, colour in zip(logs.values(), COLOURS, strict=False):
        error = 2 * log.std(axis=0, ddof=1) / np.sqrt(len(log)) if len(log) > 1 else 0.0
        ax.fill_between(samples, np.exp(log.mean(axis=0) - error), np.exp(log.mean(axis=0) + error), color=colour, alpha=0.2, linewidth=0)
    for slope in slopes:
        nearest = min(centres.values(), key=lambda y: abs(np.log(y[-1] / y[0]) / np.log(samples[-1] / samples[0]) - slope))
        far = np.array([samples[-1] ** 0.4, samples[-1] ** 0.9]) * samples[0] ** np.array([0.6, 0.1])  # within the right of the field
        line = 0.55 * nearest[-1] * (far / samples[-1]) ** slope
        ax.plot(far, line, color="0.35", linewidth=1.2, linestyle=":")
        middle = np.sqrt(far.prod()), np.sqrt(line.prod())
        ax.annotate(
            f"$k^{{{slope:g}}}$", middle, (0, -9), textcoords="offset points", fontsize=TEXT + 2, color="0.3", va="top", ha="center"
        )
    ax.set_xlabel("samples k", fontsize=TEXT, color=INK)
    ax.set_ylabel("signal-to-noise ratio of one estimate", fontsize=TEXT, color=INK)
    return fig


def first_line(name: str) -> str:
    return name.partition("\n")[0]


def draw_log_log(ax: Axes, x: np.ndarray, curves: Mapping[str, np.ndarray], colours: Sequence[str]) -> Axes:
    """Curves with their names beside their right ends, apart where these meet.     x (M,), each curve (M,), all positive"""
    x = np.asarray(x)
    wrong = {name: np.shape(y) for name, y in curves.items() if np.shape(y) != x.shape or not (np.asarray(y) > 0).all()}
    if x.ndim != 1 or len(x) < 2 or not (x > 0).all() or wrong or not curves:
        raise ShapeError(f"log-log: x is {x.shape}, the curves {wrong or 'are none'}; need (M,) each, M at least 2, all positive")
    for y, colour in zip(curves.values(), colours, strict=True):
        ax.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=3.5)
    ax.set(xscale="log", yscale="log")
    ax.grid(color=FAINT, linewidth=0.7)
    low, high = np.log(ax.get_ylim())
    ends = np.array([(0, (np.log(y[-1]) - low) / (high - low)) for y in curves.values()])
    places = apart(ends, np.array([(1, 0.055 * len(name.splitlines())) for name in curves]), np.array([-1, 0]), np.array([1, 1]))
    for name, (_, y), colour in zip(curves, places, colours, strict=True):
        ax.text(1.02, y, name, color=colour, fontsize=SMALL, weight="bold", va="center", transform=ax.transAxes)
    return calm(ax)
