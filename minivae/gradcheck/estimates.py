"""Three ways to a derivative that know nothing of the backward pass, and the error of each.

central     (f(x + h) - f(x - h)) / 2h for a sweep of h: too large an h cuts off the Taylor series (error ~ h^2), too small an h drowns in
            rounding (error ~ 1/h).  The error against h is a V; its foot is found from the estimates themselves.
complex     Im f(x + ih) / h with h = 1e-30: nothing is subtracted, so nothing cancels, and h^2 is below every rounding.  W. Squire and
            G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40, 1998.
one-sided   (f(x + h) - f(x)) / h against (f(x) - f(x - h)) / h: their gap shrinks like h where f is smooth, and stays at a kink.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..backend import Array, xp
from .subject import TINY, Subject

STEPS = 2.0 ** -np.arange(3, 31, 3)  # powers of two: x + h loses no bit of h to decimal rounding
EPS = 2.0**-52
CLEAR = 40  # a gap between the two sides counts when it is so many times the rounding that could explain it


@dataclass
class Sweep:
    """Estimates of n directional derivatives of <u, f> at every step.     arrays (S, n) unless said otherwise"""

    steps: Array  # h, from large to small
    central: Array
    low: Array  # the sum over outputs of the smaller of the two one-sided estimates ...
    high: Array  # ... and of the larger: every subgradient lies between
    gap: Array  # |forward - backward|
    rounding: Array  # (n,) the rounding of f that h divides

    def _jumps(self) -> Array:
        with np.errstate(invalid="ignore"):
            return np.abs(np.diff(self.central, axis=0))

    def level(self) -> Array:
        """(n,) noise in f: what the smallest steps show, and at least the rounding of f's value."""
        half = len(self.steps) // 2
        jumps = self._jumps()[half:] * self.steps[half + 1 :]
        return np.maximum(self.rounding, np.nan_to_num(jumps, nan=0.0, posinf=0.0).max(axis=0))

    def best(self) -> tuple[Array, Array, Array]:
        """The estimate whose neighbours agree best with it: estimate (n,), its error (n,), the index of its step (n,).

        error at step h = the larger jump to a neighbouring step + noise / h.  Two agreeing neighbours can be chance in the noise, and
        both can be 0 where h is lost in x; the second term says how far such an agreement is to be trusted.
        """
        jumps = self._jumps()
        error = np.maximum(jumps[:-1], jumps[1:]) + self.level() / self.steps[1:-1]
        error = np.where(np.isfinite(error), error, np.inf)
        index = error.argmin(axis=0)
        columns = np.arange(error.shape[1])
        return self.central[index + 1, columns], error[index, columns], index + 1

    def kinks(self, analytic: Array) -> tuple[Array, Array, Array]:
        """Where the two sides disagree and go on disagreeing as h shrinks: at the point itself (n,), near it (n,), and whether the
        analytic value is a subgradient there, between the two sides (n,).

        A smooth f halves the gap as h is halved: over three steps of this sweep it shrinks to 1/64.  A kink leaves it as it is.
        """
        noise = CLEAR * self.level() / self.steps
        with np.errstate(invalid="ignore"):
            clear = self.gap > noise
            lasting = self.gap[1:] > 0.5 * self.gap[:-1]
            run = clear[:-2] & clear[1:-1] & clear[2:] & lasting[:-1] & lasting[1:]  # steps i, i + 1, i + 2
            run[0] = False  # the largest steps may leave the neighbourhood of x
            usable = noise < 0.1 * np.nan_to_num(np.maximum(np.abs(self.low), np.abs(self.high))).max(axis=0)
        steps, n = self.gap.shape
        last = steps - 1 - usable[::-1].argmax(axis=0)  # the smallest step that noise leaves usable
        columns = np.arange(n)
        at_point = usable.any(axis=0) & (last >= 2) & run[np.maximum(last - 2, 0), columns]
        near = run.any(axis=0)
        end = np.where(near, len(run) + 1 - run[::-1].argmax(axis=0), 0)
        slack = 0.05 * self.gap[end, columns] + noise[end, columns]
        inside = (self.low[end, columns] - slack <= analytic) & (analytic <= self.high[end, columns] + slack)
        return at_point, near, inside

    def sides(self, column: int) -> tuple[float, float]:
        """The two one-sided slopes at a kink, at the smallest step where they stand clear of noise."""
        clear = np.flatnonzero(self.gap[:, column] > CLEAR * self.level()[column] / self.steps[:, column])
        i = clear[-1] if len(clear) else 0
        return float(self.low[i, column]), float(self.high[i, column])


def moved(point: Mapping[str, Array], name: str, direction: Array, step: complex) -> dict[str, Array]:
    """The point with one variable moved by step * direction."""
    return {**point, name: point[name] + step * direction}


def unit(a: Array, index: tuple[int, ...]) -> Array:
    e = xp(a).zeros_like(a)
    e[index] = 1
    return e


def sweep(subject: Subject, name: str, directions: list[Array], scales: list[float], u: Array, y: Array) -> Sweep:
    """Central and one-sided differences of <u, f> along each direction v, at steps h = scale * STEPS.  y: f at the point.

    The outputs are subtracted before they are contracted with u: those that do not move add no rounding.
    """
    shape = len(STEPS), len(directions)
    central, low, high, gap = (np.full(shape, np.nan) for _ in range(4))
    rounding = np.zeros(len(directions))
    steps = np.outer(STEPS, scales)
    for j, v in enumerate(directions):
        touched = xp(y).zeros(y.shape, bool)
        for i, h in enumerate(steps[:, j].tolist()):
            forward = subject.value(moved(subject.point, name, v, h)) - y
            backward = y - subject.value(moved(subject.point, name, v, -h))
            touched |= (forward != 0) | (backward != 0)
            with np.errstate(all="ignore"):  # outside of the domain of f the estimate is NaN, and is passed over
                f, b = u * forward / h, u * backward / h
                central[i, j] = float((f + b).sum()) / 2
                low[i, j], high[i, j] = float(xp(y).minimum(f, b).sum()), float(xp(y).maximum(f, b).sum())
                gap[i, j] = abs(float((f - b).sum()))
        rounding[j] = EPS * float((xp(y).abs(u * y) * touched).sum())
    return Sweep(steps, central, low, high, gap, rounding)


@dataclass
class ComplexStep:
    slope: float  # <u, J v>, NaN where there is none
    slack: float = 0.0  # how far rounding may have moved it
    why_not: str = ""


def complex_step(subject: Subject, name: str, direction: Array, u: Array, value: Array) -> ComplexStep:
    """<u, J v> by a complex step.  value: f at the point, in real numbers.

    Functions of complex numbers may round worse than those of real ones (NumPy's complex log1p loses its digits near 0).  The real part
    of the result should be f itself; how far it is off says how many digits there are.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*discards the imaginary part.*")
            y = subject.value(moved(subject.point, name, direction, 1j * TINY))
    except (TypeError, ValueError, Warning) as error:
        why = f"f does not take complex numbers ({type(error).__name__}: {' '.join(str(error).split())[:90]})"
        return ComplexStep(np.nan, why_not=why)
    if y.dtype.kind != "c":
        # a function that does not depend on the variable stays real, and so does one that drops the imaginary part
        constant = _untouched(subject, name, direction, y)
        return ComplexStep(0.0) if constant else ComplexStep(np.nan, why_not=f"f returns {y.dtype} for a complex {name}")
    slope = float((u * y.imag).sum()) / TINY
    slack = 64 * float(abs(u * (y.real - value)).sum())
    return ComplexStep(slope, slack) if np.isfinite(slope + slack) else ComplexStep(np.nan, why_not="f is not finite at a complex point")


def _untouched(subject: Subject, name: str, direction: Array, y: Array) -> bool:
    """Whether f is constant along the direction, judged at a step of 1/8."""
    moved_y = subject.value(moved(subject.point, name, direction, 0.125))
    return bool((moved_y == y).all())
