"""What a gradient check found, as data, as a table, and as a V-curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OK, KINK, WRONG = "ok", "kink", "WRONG"


@dataclass
class Row:
    """One variable.  Estimates are those at the worst element checked; NaN where there is none."""

    name: str
    shape: tuple[int, ...]
    checked: int = 0  # elements; the directions of `duality` move all of them
    index: tuple[int, ...] = ()  # the worst element
    analytic: float = math.nan  # by the backward pass
    central: float = math.nan
    central_error: float = math.nan  # how far `central` may be off
    complex_step: float = math.nan
    error: float = 0.0  # |analytic - estimate| / size of the larger, by complex step where there is one
    duality: float = 0.0  # |<u, J v> - <J' u, v>| / |J' u * v|_2, the larger of several random v
    float32: float = math.nan  # the noise floor of a float32 variable: |float32 gradient - float64 gradient|_2 / |float64 gradient|_2
    verdict: str = OK
    cause: str = ""
    steps: np.ndarray = field(default_factory=lambda: np.empty(0))  # the V-curve at the worst element: h,
    curve: np.ndarray = field(default_factory=lambda: np.empty(0))  # and the central difference at each h
    chosen: int = 0  # which of them is `central`


@dataclass
class Report:
    """The rows of a gradient check.  `ok` is whether no gradient is wrong; `str(report)` is a table; `plot_v_curve()` a figure."""

    title: str
    method: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    legend: str = "n: elements checked, the worst is shown; dual: all at once, random v; f32: float32's noise floor"

    @property
    def ok(self) -> bool:
        return all(row.verdict != WRONG for row in self.rows)

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == WRONG]

    @property
    def kinks(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == KINK]

    def verdict(self) -> str:
        """One sentence."""
        if not self.ok:
            return f"WRONG: {len(self.wrong)} of {_count(len(self.rows), 'gradient')} ({', '.join(row.name for row in self.wrong)})"
        worst = max((row.error for row in self.rows if row.verdict == OK and np.isfinite(row.error)), default=0.0)
        kinks = f"; {len(self.kinks)} at a kink, where each side has its own slope and any slope between is right" if self.kinks else ""
        agree = f"{_count(len(self.rows), 'gradient')} agree{'s' * (len(self.rows) == 1)}"
        return f"ok: {agree}, the largest relative error is {worst:.0e}{kinks}"

    def __str__(self) -> str:
        head = ("variable", "shape", "n", "worst at", "analytic", "central", "complex", "error", "dual", "f32", "")
        lines = [head] + [
            (
                row.name,
                "x".join(map(str, row.shape)) or "number",
                str(row.checked),
                ",".join(map(str, row.index)) or "-",
                _number(row.analytic),
                _number(row.central),
                _number(row.complex_step),
                _size(row.error),
                _size(row.duality),
                _size(row.float32),
                row.verdict,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        left = (0, 1, 10)
        table = [
            " ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in lines
        ]
        causes = [f"{row.name}: {row.cause}" for row in self.rows if row.cause]
        return "\n".join([self.title, self.method, "", *table, self.legend, "", *self.notes, *causes, self.verdict()])

    def plot_v_curve(self, ax: Any = None) -> "Figure":
        """The same as v_curve(report, ax)."""
        return v_curve(self, ax)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _number(x: float) -> str:
    return "-" if np.isnan(x) else f"{x:.3e}" if x else "0"


def _size(x: float) -> str:
    return "-" if np.isnan(x) else f"{x:.0e}" if x else "0"


def v_curve(report: Report, ax: Any = None) -> "Figure":
    """The error of the central difference against its step, log-log, one curve a variable, at the worst element of each.

    error(h) = |(f(x + h) - f(x - h)) / 2h - analytic| / max(|analytic|, |estimate|)

    A right gradient makes a V: down with h^2 (the Taylor series is cut off), up with 1/h (rounding), the chosen step near the foot.
    A wrong one makes a plateau as high as its error.  A gradient of 0 has no relative error: its curve is divided by the largest one.
    """
    from matplotlib.figure import Figure

    drawn = [row for row in report.rows if len(row.steps)]
    if not drawn:
        raise UsageError("v_curve: the report has no difference quotients to draw; a check of a function of at least one number has")
    if ax is None:
        figure = Figure(figsize=(9, 5), layout="constrained")
        ax = figure.add_subplot()
    largest = max(max(abs(row.analytic), abs(row.central)) for row in drawn) or 1.0
    for i, row in enumerate(drawn):
        scale = max(abs(row.analytic), abs(row.central)) or largest
        error = np.maximum(np.abs(row.curve - row.analytic) / scale, 1e-17)  # a difference of exactly 0 has no logarithm
        color = f"C{i % 10}"
        wrong = row.verdict == WRONG
        label = f"{row.name} [{', '.join(map(str, row.index))}]" + ("" if row.verdict == OK else f"  {row.verdict}")
        ax.loglog(row.steps, error, color=color, lw=2.5 if wrong else 1.3, label=label, marker=".", ls="-" if i < 10 else "--")
        ax.loglog(row.steps[row.chosen], error[row.chosen], "o", color=color, ms=9, mfc="none", mew=1.5)
    for h, law, text, side in (
        (np.array([1e-3, 1e-2, 1e-1]), lambda h: h**2, "Taylor series cut off: $h^2$ ", "right"),
        (np.array([1e-9, 3e-8, 1e-6]), lambda h: 2.0**-53 / h, " rounding: $\\epsilon / h$", "left"),
    ):
        ax.loglog(h, law(h), color="0.6", ls=":", lw=1)
        ax.text(h[1], law(h[1]), text, color="0.4", fontsize=8, ha=side, va="bottom")  # above the V
    ax.set_xlabel("step $h$")
    ax.set_ylabel("relative error of the central difference")
    ax.set_title("central differences against the analytic gradient", fontsize=10)
    # beside the curves: they fill the whole field
    ax.legend(fontsize=8, title="circle: the step that was chosen", title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax.figure


def telling_ratio(pairs: Sequence[tuple[float, float]], batch_size: int | None) -> str:
    """What a wrong gradient has to do with the right one, in words, from pairs (analytic, numeric)."""
    a, n = np.array(pairs, float).reshape(-1, 2).T
    solid = np.isfinite(n) & (np.abs(n) > 1e-6 * np.abs(n[np.isfinite(n)]).max(initial=0)) & (n != 0)
    if not solid.any():
        return "the numerical gradient is 0 and the analytic one is not: f does not depend on this variable as the vjp says"
    a, n = a[solid], n[solid]
    if not a.any():
        return "analytic is 0: the gradient is missing; is there a stop_gradient(), a .data or an op without this gradient on the way?"
    ratios = a / n
    ratio = float(np.median(ratios))
    if np.abs(ratios - ratio).max() > 1e-4 * abs(ratio):
        return (
            f"analytic / numeric runs from {ratios.min():.3g} to {ratios.max():.3g}: no constant factor; look for a wrong term or operand"
        )
    if abs(ratio - 1) < 1e-3:
        return f"analytic / numeric - 1 is {ratio - 1:.1e}: an approximation, or rounding; if it is meant, give a larger rtol"
    causes = {
        -1.0: "the sign is wrong",
        2.0: "a factor 1/2 is missing, or the gradient is counted twice",
        0.5: "a factor 2 is missing, or the gradient is halved or averaged twice",
        -2.0: "the sign is wrong, and a factor 1/2 is missing",
        -0.5: "the sign is wrong, and a factor 2 is missing",
    }
    if batch_size is not None and batch_size > 1:
        causes.setdefault(float(batch_size), "the batch size: a sum where the loss has a mean")
        causes.setdefault(1 / batch_size, "1 / the batch size: averaged twice, or a mean where the loss has a sum")
    for value, cause in causes.items():
        if abs(ratio - value) <= 1e-4 * abs(value):
            if batch_size == 2 and value in (2.0, 0.5):
                cause += " (or the batch size, which is 2 here as well)"
            return f"analytic / numeric is {ratio:.4g}: {cause}"
    return f"analytic / numeric is {ratio:.6g} everywhere: a constant factor is wrong"
