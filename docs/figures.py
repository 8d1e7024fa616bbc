"""Figures that the pages' own programs make: a page is run, and what it has computed is drawn."""

import io
import os
import re
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from minivae import plots
from minivae.gradcheck import v_curve
from minivae.quadrature.integrals import array

HERE = Path(__file__).resolve().parent
PROGRAM = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
LEVELS = np.exp(-(np.array([3.0, 2, 1, 0.5, 0.125]) ** 2) / 2)  # of the peak: a Gaussian's value at so many standard deviations


@cache
def names_of(page: str) -> dict[str, Any]:
    """Everything that the programs of a page define."""
    names: dict[str, Any] = {"__name__": "page"}
    with redirect_stdout(io.StringIO()):
        for program in PROGRAM.findall((HERE / page).read_text("utf-8")):
            exec(compile(program, page, "exec"), names)
    return names


def show(figure: Figure, label: str) -> None:
    """Print the figure as HTML."""
    text = io.StringIO()
    with rc_context({"svg.hashsalt": label}):  # the same names in every build
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
    svg = text.getvalue()
    print(f'<div class="figure" role="img" aria-label="{label}">{svg[svg.index("<svg") :]}</div>')


def v_curves() -> None:
    show(v_curve(names_of("gradient-checking.md")["two"]), "error of the central difference against its step")


def sprites() -> None:
    images = names_of("data.md")["pictures"] / 255
    show(plots.samples(images, "Sprites: three shapes, and a heart that turns, shrinks and moves"), "eight sprites")


def faces() -> None:
    images = names_of("faces.md")["pictures"] / 255
    show(plots.samples(images, "Faces: twelve factors, all drawn at random"), "twenty faces")


def posteriors() -> None:
    """For each image of the page a column: the image, p(z | x) on its grid, and q(z | x) on the same grid."""
    names = names_of("integrals.md")
    x, exact, q = names["x"], names["exact"], names["q"]
    figure = Figure(figsize=(7.6, 6.6), layout="constrained")
    axes = figure.subplots(3, len(x), height_ratios=(1, 3, 3))
    for column, image, density, (z1, z2), mean, sigma in zip(
        axes.T, x, exact.density, exact.axes, array(q.mean), array(q.sigma), strict=True
    ):
        column[0].imshow(1 - image[..., 0], cmap="gray")
        column[0].set_axis_off()
        gaussian = np.exp(-((z1[:, None] - mean[0]) ** 2) / (2 * sigma[0] ** 2) - (z2 - mean[1]) ** 2 / (2 * sigma[1] ** 2))
        seen = np.argwhere(np.maximum(density / density.max(), gaussian / gaussian.max()) > LEVELS[0] / 10)
        (low1, low2), (high1, high2) = seen.min(axis=0), seen.max(axis=0)
        for ax, values in ((column[1], density), (column[2], gaussian)):
            peak = values.max()
            ax.contourf(z1, z2, values.T, levels=[*(LEVELS * peak), 1.01 * peak], cmap="Blues")
            ax.contour(z1, z2, density.T, levels=LEVELS * density.max(), colors="0.25", linewidths=0.6)
            ax.set(xlim=(z1[low1], z1[high1]), ylim=(z2[low2], z2[high2]))
            ax.set_box_aspect(1)
            ax.tick_params(labelsize=8)
            ax.set_xlabel("$z_1$", fontsize=9)
    for ax, what in ((axes[1, 0], "the exact posterior"), (axes[2, 0], "the encoder's Gaussian")):
        ax.set_ylabel(f"{what}\n$z_2$", fontsize=9)
    show(figure, "the exact posterior of three images, and the encoder's Gaussian for each")
