"""Images along walks in the latent space, a column for each step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import ShapeError
from .layout import INK, axes, fit
from .pictures import _grid, _inches, _pixels


def walks(rows: np.ndarray, steps: Sequence[float], labels: Sequence[str], title: str, unit: str) -> Figure:
    """Each row is decoded from codes that go along one direction; above the columns stands how far.     rows (R, S, H, W, C), steps (S,)

    labels: one for each of the R rows; unit: what the steps are measured in.  Raises ShapeError.
    """
    images, note = _pixels("walks: rows", rows, "R, S, H, W, C")
    if len(steps) != images.shape[1] or len(labels) != len(images):
        raise ShapeError(f"walks: rows are {images.shape}, {len(steps)} steps, {len(labels)} labels; need one a column and one a row")
    ax = _grid(axes(), list(images), labels)
    ax.set_xticks(np.arange(len(steps)), [f"{step:+.3g}".replace("-", "\N{MINUS SIGN}") if step else "0" for step in steps])
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel(unit, color=INK)
    return fit(ax, _inches(images[0]), title + note)
