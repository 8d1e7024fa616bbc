"""Posteriors in a latent plane: where they are, and how wide."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import ShapeError
from .charts import TRAIN, draw_latent_map
from .layout import INK, TEXT, TITLE, calm


def codes(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray | None = None, label_names: Sequence[str] = ()) -> Figure:
    """A column for each named panel: means of q(z | x) as a `latent_map`, and under it a histogram of its standard deviations.

    panels: {name: (means (N, 2), sigmas (N, 2))}, labels (N,) integers from 0 up.  Raises ShapeError.
    """
    for name, (means, sigmas) in panels.items():
        if np.shape(means) != np.shape(sigmas) or np.ndim(means) != 2 or not (np.asarray(sigmas) > 0).all():
            raise ShapeError(f"codes: {name!r} has means {np.shape(means)} and sigmas {np.shape(sigmas)}; need (N, 2), sigmas above 0")
    fig = Figure(figsize=(3.6 * len(panels), 5.6), layout="constrained", facecolor="white")
    rows = fig.subplots(2, len(panels), height_ratios=(2.4, 1), squeeze=False)
    low = min(float(np.min(sigmas)) for _, sigmas in panels.values())
    bins = np.geomspace(min(low, 0.5), max(2.0, max(float(np.max(sigmas)) for _, sigmas in panels.values())), 50)
    for (name, (means, sigmas)), top, bottom in zip(panels.items(), *rows, strict=True):
        draw_latent_map(top, means, labels, label_names).set_title(name, fontsize=TITLE, color=INK)
        sigmas = np.asarray(sigmas).ravel()
        bottom.hist(sigmas, bins, weights=np.full(len(sigmas), 100 / len(sigmas)), color=TRAIN)
        bottom.axvline(1, color=INK, linewidth=0.8, linestyle=":")
        bottom.set_xscale("log")
        bottom.set_xlabel("σ of q(z | x)  (the prior's is 1, dotted)", fontsize=TEXT, color=INK)
        calm(bottom)
    rows[1][0].set_ylabel("share of latents (%)", fontsize=TEXT, color=INK)
    return fig
