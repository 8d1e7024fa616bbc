"""The figures of the page on gradient estimators: those of demos/estimator_lab.py, from fewer samples."""

import io

import estimator_lab as lab
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from minivae import Stream, plots


def show(figure: Figure, label: str) -> None:
    """Print the figure as HTML."""
    text = io.StringIO()
    with rc_context({"svg.hashsalt": label}):  # the same names in every build
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
    svg = text.getvalue().partition("<svg")[2]
    print(f'<div class="figure" role="img" aria-label="{label}"><svg style="max-width: 100%; height: auto"{svg}</div>')


def variance() -> None:
    show(lab.variance_figure(np.geomspace(0.01, 1.0, 7)), "variance of gradient estimates against the mismatch of the posterior")


def signal_to_noise() -> None:
    k = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])
    show(plots.signal_to_noise(k, lab.signal_curves(k, 200, 5, Stream(0))), "signal-to-noise ratio of gradient estimates against k")
