"""The kernels of a step under this machine's roof: S. Williams, A. Waterman and D. Patterson, "Roofline", 2009."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .layout import INK, SMALL, TEXT, calm

BLUE = "#0072B2"


def roofline(profile: Any, title: str = "") -> Figure:
    """Operations a second against operations a byte, both logarithmic; the area of a dot is the kernel's share of the step.

    profile    of a step, from `minivae.profile`.  Kernels without products, which are bound by memory, are not shown.
    """
    lines = [line for line in profile.lines if line.flops and line.bytes]
    figure = Figure(figsize=(7, 4.4), facecolor="white", layout="constrained")
    ax = calm(figure.add_subplot())
    ridge = profile.peak / profile.bandwidth
    intensity = [line.flops / line.bytes for line in lines]
    span = np.geomspace(min([ridge / 8, *intensity]) / 2, max([ridge * 20, *intensity]) * 2, 200)
    ax.plot(span, np.minimum(profile.peak, span * profile.bandwidth) / 1e9, color=INK, linewidth=1.4)
    ax.annotate(
        f"{profile.peak / 1e9:.0f} GFLOP/s", (span[-1], profile.peak / 1e9), (0, 5), textcoords="offset points", ha="right", fontsize=SMALL
    )
    low = span[40]
    ax.annotate(
        f"{profile.bandwidth / 1e9:.0f} GB/s",
        (low, low * profile.bandwidth / 1e9),
        (-8, 4),
        textcoords="offset points",
        ha="right",
        fontsize=SMALL,
    )
    rates = [line.flops / line.seconds / 1e9 for line in lines]
    areas = [900 * line.seconds / profile.seconds + 8 for line in lines]
    ax.scatter(intensity, rates, s=areas, color=BLUE, alpha=0.55, edgecolor="white", linewidth=0.8)
    shown: list[tuple[float, float]] = []
    for line, x, y in sorted(zip(lines, intensity, rates, strict=True), key=lambda dot: -dot[0].seconds):
        place = (float(np.log(x)), float(np.log(y)))
        if line.seconds < 0.01 * profile.seconds or any(abs(place[0] - a) < 0.9 and abs(place[1] - b) < 0.14 for a, b in shown):
            continue
        shown.append(place)
        text = f"{line.kernel} {line.shapes.split()[0]}"
        ax.annotate(text, (x, y), (-10, -15), textcoords="offset points", ha="right", fontsize=SMALL, color=INK)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(min([profile.peak / 2e10, *rates]) / 1.6, profile.peak / 1e9 * 1.6)
    ax.set_xlabel("floating-point operations a byte of its arrays", fontsize=TEXT, color=INK)
    ax.set_ylabel("GFLOP/s", fontsize=TEXT, color=INK)
    ax.set_title(title, fontsize=TEXT, color=INK, loc="left")
    return figure
