"""gradcheck: is the gradient of f, as the backward pass computes it, the derivative of f?"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import Array, backend_of, xp
from ..errors import UsageError
from ..random import Stream
from .estimates import EPS, complex_step, sweep, unit
from .hand_written import hand_written
from .report import KINK, OK, WRONG, Report, Row, telling_ratio
from .subject import Frozen, Subject

METHOD = "the backward pass against central differences (best of 10 steps), complex steps, random directions"
SMALLEST = np.finfo(np.float64).tiny  # what a size is divided by when all is 0
RANK = {OK: 0, KINK: 1, WRONG: 2}
LOOSE = 1e-3  # a central difference that contradicts a complex step must do so by more than this, and by more than its own error
KERNEL = 1e-3, 30  # a float32 gradient is off when it is so far from the float64 one, and so many times as far as the reference's


def gradcheck(
    f: Callable[..., Any],
    inputs: Any = (),
    *,
    gradient: Callable[..., Any] | None = None,
    elements: int = 20,
    directions: int = 2,
    rtol: float = 1e-7,
    seed: int = 0,
    name: str | None = None,
) -> Report:
    """Compare the gradients of f with three estimates that know nothing of the backward pass.

    f           a function of Tensors that returns one Tensor; a Module; a model's loss, `frozen(elbo, model, x, rng)`; or, with a
                `gradient`, any function of arrays
    inputs      arrays or Tensors, in a sequence or in a dictionary by name; floating ones are checked, integers and masks passed on
    gradient    of a plain f, by hand or by another framework: gradient(*arrays), and gradient(*arrays, u), the vector-Jacobian product,
                where f returns more than one number; an array for each floating input
    elements    how many elements of each variable: all of them if it has no more, else the one with the largest gradient and a random
                subset of the others; directions move all of them
    directions  random v for the duality <u, J v> = <J'u, v>
    rtol        largest relative error of a right gradient, |analytic - complex step| / the larger of both.  A mistake in a formula makes
                1e-2 and more; rounding makes 1e-12

    An output that is not one number is contracted with one fixed random u: L = <u, f>.  float32 variables are checked in float64 copies,
    by the references; then the float32 gradient, by the kernels that training uses, is compared with the float64 one, and their distance
    is the noise floor that a float32 gradient has.  A difference that persists in the two one-sided slopes is a kink, and no mistake as
    long as the analytic value lies between them.

    Raises UsageError where there is nothing to check, where f is not finite, or where f gives two values at one point.
    """
    if elements < 1 or directions < 1:
        raise UsageError(f"gradcheck: elements is {elements}, directions is {directions}; need at least 1 of each")
    subject = Subject(f if gradient is None else hand_written(f, gradient), inputs)
    rng = Stream(seed).split("gradcheck")
    y = subject.value(subject.point)
    again = subject.value(subject.point)
    if not bool(xp(y).isfinite(y).all()):
        raise UsageError(f"gradcheck: f is not finite at the inputs ({int((~xp(y).isfinite(y)).sum())} of {y.size} outputs); move them")
    if not bool((y == again).all()):
        raise UsageError(
            f"gradcheck: f gave two values at one point, {float(abs(y - again).max()):.3g} apart: it draws noise; "
            "freeze it with frozen(objective, model, x, rng), or draw from a Stream that is made inside f"
        )
    u = xp(y).ones_like(y) if y.size == 1 else rng.normal(y.shape, like=xp(y).empty(0, np.float32)).astype(np.float64)
    own = subject.gradients(subject.point, u)
    reference_scale = max(float(abs(g).max()) if g.size else 0.0 for g in own.values())
    noise = 64 * EPS * (reference_scale + float(abs(u * y).sum()))  # the rounding of a backward pass over numbers of this size
    floors = float32_floors(subject, own, u, noise)
    checker = Checker(subject, y, u, noise, elements, directions, rtol, rng)
    rows = [checker.variable(variable, own[variable], floors.get(variable)) for variable in subject.variables]
    total = sum(t.size for t in subject.variables.values())
    precision = "float64 copies" if floors else "float64"
    frozen_noise = "noise frozen, " if isinstance(f, Frozen) else ""
    variables = f"{len(rows)} variable{'s' * (len(rows) != 1)}, {total:,} number{'s' * (total != 1)}"
    title = f"gradient of {name or title_of(f)}: {variables}; {frozen_noise}in {precision}"
    return Report(title, METHOD, rows, list(dict.fromkeys(checker.notes)))


def title_of(f: Any) -> str:
    if isinstance(f, Frozen):
        return f"{getattr(f.objective, '__name__', 'the loss')}({type(f.model).__name__}, {f.batch_size} examples)"
    return str(getattr(f, "__name__", None) or getattr(f, "name", None) or type(f).__name__).replace("<lambda>", "f")


@dataclass
class Checker:
    """What the checks of all variables of one subject share."""

    subject: Subject
    y: Array  # f at the point
    u: Array  # the cotangent
    noise: float  # absolute rounding of a gradient
    elements: int
    directions: int
    rtol: float
    rng: Stream
    notes: list[str] = field(default_factory=list)

    def variable(self, name: str, gradient: Array, floor: tuple[float, str] | None) -> Row:
        subject, point = self.subject, self.subject.point[name]
        float32, kernel_cause = floor or (math.nan, "")
        row = Row(name, point.shape, float32=float32)
        if gradient.shape != point.shape:
            row.verdict = WRONG
            row.cause = f"the vjp returned a gradient of shape {gradient.shape} for a variable of shape {point.shape}"
        if gradient.shape != point.shape or not point.size:
            return row
        chosen = self.rng.permutation(point.size)[: self.elements]
        steepest = int(abs(gradient).argmax())  # where most pixels are black, most random elements have no gradient to check
        if steepest not in chosen:
            chosen[0] = steepest
        chosen.sort()
        indices = [tuple(int(i) for i in np.unravel_index(flat, point.shape)) for flat in chosen]
        analytic = np.array([float(gradient[index]) for index in indices])
        directions = [unit(point, index) for index in indices]
        steps = [complex_step(subject, name, v, self.u, self.y) for v in directions]
        slopes = np.array([step.slope for step in steps])
        noise = self.noise + np.array([step.slack for step in steps])
        self.notes.extend(f"no complex step: {step.why_not}" for step in steps if step.why_not)
        swept = sweep(subject, name, directions, [max(1.0, abs(float(point[i]))) for i in indices], self.u, self.y)
        central, central_error, best = swept.best()
        verdicts, errors = judge(analytic, slopes, central, central_error, swept.kinks(analytic), self.rtol, noise)

        along = [self.direction(name, gradient) for _ in range(self.directions)]
        row.duality = max(error for _, _, _, error in along)
        worst = max(range(len(indices)), key=lambda i: (RANK[verdicts[i]], errors[i], abs(analytic[i])))
        row.verdict = max([*verdicts, *[verdict for _, _, verdict, _ in along]], key=RANK.__getitem__)
        if row.verdict == WRONG:
            row.cause = transposed(analytic, slopes, point.shape)
            if not row.cause:
                numeric = np.where(np.isfinite(slopes), slopes, central)
                pairs = [(a, n) for a, n, verdict in zip(analytic, numeric, verdicts, strict=True) if verdict != KINK]
                pairs += [(pulled, pushed) for pulled, pushed, verdict, _ in along if verdict != KINK]
                row.cause = telling_ratio(pairs, subject.batch_size)
        elif kernel_cause:
            row.verdict, row.cause = WRONG, kernel_cause
        elif verdicts[worst] == KINK:
            low, high = swept.sides(worst)
            row.cause = f"a kink at [{', '.join(map(str, indices[worst]))}]: the slopes of the two sides are {low:.4g} and {high:.4g}"
        row.checked, row.index = len(indices), indices[worst]
        row.analytic, row.central, row.complex_step = float(analytic[worst]), float(central[worst]), float(slopes[worst])
        row.central_error, row.error = float(central_error[worst]), float(errors[worst])
        row.steps, row.curve, row.chosen = swept.steps[:, worst], swept.central[:, worst], int(best[worst])
        return row

    def direction(self, name: str, gradient: Array) -> tuple[float, float, str, float]:
        """<J' u, v> and <u, J v> for one random v over all elements, the verdict, and their distance over |J' u * v|_2."""
        v = self.rng.normal(gradient.shape, like=xp(gradient).empty(0, np.float32)).astype(np.float64)
        pulled = float((gradient * v).sum())
        step = complex_step(self.subject, name, v, self.u, self.y)
        pushed, noise = step.slope, self.noise + step.slack
        size = max(_norm(gradient * v), abs(pushed) if math.isfinite(pushed) else 0.0, noise, SMALLEST)
        verdict = OK
        if not abs(pushed - pulled) <= self.rtol * size + noise:  # or NaN: differences along v decide
            along, one = sweep(self.subject, name, [v], [1.0], self.u, self.y), np.array([pulled])
            estimate, slack, _ = along.best()
            (verdict,), _ = judge(one, np.array([pushed]), estimate, slack, along.kinks(one), self.rtol, np.array([noise]))
            pushed = pushed if math.isfinite(pushed) else float(estimate[0])
        return pulled, pushed, verdict, 0.0 if verdict == KINK else abs(pushed - pulled) / size


def judge(
    analytic: Array, slopes: Array, central: Array, central_error: Array, kinks: tuple[Array, Array, Array], rtol: float, noise: Array
) -> tuple[list[str], Array]:
    """A verdict for each derivative, and its relative error by the better estimate.

    The complex step is exact where f is analytic.  The central difference must agree too, within its own error: it alone sees an f that
    drops the imaginary part.  Where they do not, a kink excuses a value that lies between the slopes of the two sides.
    """
    at_point, near, inside = kinks
    exact = np.isfinite(slopes)
    known = np.isfinite(central_error)
    size = np.maximum(np.abs(analytic), np.where(exact, np.abs(slopes), 0))
    by_complex = ~exact | (np.abs(analytic - np.where(exact, slopes, 0)) <= rtol * size + noise)
    wide = np.maximum(np.abs(analytic), np.where(known, np.abs(central), 0))
    tolerance = np.where(exact & by_complex, LOOSE, max(rtol, 1e-6)) * wide + 30 * np.where(known, central_error, 0) + noise
    by_central = ~known | (np.abs(analytic - np.where(known, central, 0)) <= tolerance)
    good = by_complex & by_central & (exact | known)
    excused = (near | at_point) & ((exact & by_complex) | inside)
    verdicts = np.where(good & ~(at_point & inside), OK, np.where(good | excused, KINK, WRONG))
    estimate = np.where(exact, slopes, central)
    larger = np.maximum(np.maximum(np.abs(analytic), np.abs(estimate)), noise + SMALLEST)
    errors = np.where(exact | known, np.abs(analytic - estimate) / larger, np.inf)
    contradicted = exact & by_complex & ~by_central
    errors = np.where(contradicted, np.abs(analytic - central) / np.maximum(wide, noise + SMALLEST), errors)
    return [str(v) for v in verdicts], errors


def transposed(analytic: Array, slopes: Array, shape: tuple[int, ...]) -> str:
    """Whether the gradient of a square matrix, checked at all elements, is the right one's transpose."""
    if len(shape) != 2 or shape[0] != shape[1] or analytic.size != math.prod(shape) or not np.isfinite(slopes).all():
        return ""
    a, n = analytic.reshape(shape), slopes.reshape(shape)
    same = np.allclose(a, n.T, rtol=1e-6, atol=1e-9 * float(np.abs(n).max()))
    return "the gradient is the transpose of the right one" if same and shape[0] > 1 else ""


def float32_floors(subject: Subject, gradient: dict[str, Array], u: Array, noise: float) -> dict[str, tuple[float, str]]:
    """For each float32 variable |g32 - g64|_2 / |g64|_2 with the kernels that training uses, and what is wrong if that is no rounding.

    A relu whose argument rounds to the other side of 0 changes a gradient by a jump; so a distance that the references do not share is
    looked at again at neighbouring points, and counts when it is there at all of them.
    """
    single = [name for name, a in subject.own.items() if a.dtype == np.float32]
    if not single:
        return {}
    backend = backend_of(subject.own[single[0]])

    def distances(own: dict[str, Array], exact: dict[str, Array], backend: str | None) -> dict[str, float]:
        rounded = subject.gradients(own, u, backend)
        largest = max(map(_norm, exact.values()))
        return {name: _distance(rounded[name], exact[name], largest, noise) for name in single}

    fast = distances(subject.own, gradient, None)
    reference = distances(subject.own, gradient, "numpy") if backend == "numba" else fast
    absolute, relative = KERNEL
    suspects = {name for name in single if backend == "numba" and fast[name] > max(absolute, relative * reference[name])}
    rng = Stream(0).split("neighbouring points")
    for _ in range(3):
        if not suspects:
            break
        near = {name: a * (1 + 0.01 * rng.normal(a.shape, like=a)).astype(a.dtype) for name, a in subject.own.items()}
        exact = subject.gradients({name: a.astype(np.float64) for name, a in near.items()}, u)
        there, plain = distances(near, exact, None), distances(near, exact, "numpy")
        suspects = {name for name in suspects if there[name] > max(absolute, relative * plain[name])}
    return {
        name: (
            fast[name],
            f"the float32 kernels ({backend}) are {fast[name]:.0e} away from float64, the references {reference[name]:.0e}"
            if name in suspects
            else "",
        )
        for name in single
    }


def _distance(rounded: Array, exact: Array, largest: float, noise: float) -> float:
    """|rounded - exact|_2 / |exact|_2; over the largest gradient of all variables where this one is 0 but for rounding."""
    if rounded.shape != exact.shape or not exact.size:
        return 0.0
    size = _norm(exact)
    return _norm(rounded - exact) / max(size if size > noise * exact.size**0.5 else largest, SMALLEST)


def _norm(g: Array) -> float:
    return float((g**2).sum()) ** 0.5


def assert_gradients(f: Callable[..., Any], *inputs: Any, rtol: float = 1e-7, elements: int = 20, seed: int = 0) -> None:
    """Raise AssertionError with the report unless gradcheck(f, inputs) is ok."""
    report = gradcheck(f, inputs, rtol=rtol, elements=elements, seed=seed)
    if not report.ok:
        raise AssertionError(f"gradients are wrong\n{report}")
