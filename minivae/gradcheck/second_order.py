"""Second derivatives, exact to rounding: a complex step through the backward pass.

The gradient is a function of the variables like any other, and every reference vjp is analytic, so that

    H v = d/dt grad L(x + t v) = Im grad L(x + i h v) / h,   h = 1e-30

costs one backward pass in complex numbers and subtracts nothing.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import Array, xp
from ..errors import ShapeError, UsageError
from ..random import Stream
from .check import RANK, SMALLEST, judge, title_of
from .estimates import EPS, STEPS, Sweep
from .report import KINK, OK, WRONG, Report, Row, telling_ratio
from .subject import TINY, Subject

LEGEND = "dual: symmetry, <w, H v> = <v, H w> for random v and w"
LARGEST = 2000  # variables of a Hessian: 2000^2 float64 numbers are 32 MB, and each row is a backward pass


def hessian_vector_product(f: Callable[..., Any], inputs: Any = (), vectors: Any = ()) -> list[Array]:
    """H v = grad <grad L, v>, one array a variable, by a complex step through the backward pass: exact to rounding.

    f, inputs  as in gradcheck; f returns one number L, and its ops' vjps are analytic (those of minivae are; at a kink the branch counts
               that the backward pass takes)
    vectors    v: an array for each variable, in their order (inputs first, then parameters), or a dictionary by name

    Raises ShapeError where v does not fit the variables or f returns more than one number, UsageError where f drops the imaginary part.
    """
    subject = Subject(f, inputs)
    return list(_product(subject, _directions(subject, vectors)).values())


def hessian(f: Callable[..., Any], x: Any) -> Array:
    """d^2 L / dx_i dx_j of f(x) -> one number, x flattened in C order.     x of n numbers -> (n, n) float64, n <= 2000

    Row i is H e_i by hessian_vector_product; nothing makes it symmetric but its being right.
    """
    subject = Subject(f, [x])
    (name,) = subject.variables
    point = subject.point[name]
    if point.size > LARGEST:
        raise UsageError(f"hessian: x has {point.size:,} elements; need at most {LARGEST:,}; use hessian_vector_product for larger ones")
    identity = xp(point).eye(point.size).reshape(point.size, *point.shape)
    rows = [_product(subject, {name: e})[name].reshape(-1) for e in identity]
    return xp(point).stack(rows) if rows else xp(point).zeros((0, 0))


def second_order_check(f: Callable[..., Any], inputs: Any = (), *, rtol: float = 1e-6, seed: int = 0) -> Report:
    """Check H v for one random v against central differences of the gradient along v, element by element, and the symmetry
    <w, H v> = <v, H w>, the column `dual`.  What it judges are the vjps as functions: that each stays analytic, and is a derivative.

    Every element is checked, since one sweep of gradients moves all of them.  Rows are as in gradcheck; `analytic` is H v.
    """
    subject = Subject(f, inputs)
    rng = Stream(seed).split("second order")
    v, w = ({name: rng.normal(a.shape).astype(np.float64) for name, a in subject.point.items()} for _ in range(2))
    v, w = ({name: xp(subject.point[name]).asarray(a) for name, a in vector.items()} for vector in (v, w))
    product, other = _product(subject, v), _product(subject, w)
    base = _gradient(subject, subject.point)
    one_sided = [[_gradient(subject, _moved(subject, v, sign * h)) for sign in (1, -1)] for h in STEPS]
    noise = 64 * EPS * sum(max(float(abs(a).max()) if a.size else 0.0 for a in arrays.values()) for arrays in (base, product))
    left = sum(float((w[name] * product[name]).sum()) for name in product)
    right = sum(float((v[name] * other[name]).sum()) for name in product)
    size = sum(float(abs(w[name] * product[name]).sum()) for name in product)
    asymmetry = abs(left - right) / max(size, noise, SMALLEST)
    rows = []
    for name, a in subject.point.items():
        if not a.size:
            rows.append(Row(name, a.shape))
            continue
        swept = _sweep(base[name], [(up[name], down[name]) for up, down in one_sided])
        hv = product[name].reshape(-1)
        central, slack, best = swept.best()
        kinks = swept.kinks(hv)
        verdicts, errors = judge(hv, np.full(hv.shape, np.nan), central, slack, kinks, rtol, np.full(hv.shape, noise))
        worst = max(range(hv.size), key=lambda i: (RANK[verdicts[i]], errors[i]))
        verdict = WRONG if asymmetry > rtol and verdicts[worst] == OK else verdicts[worst]
        pairs = [(h, c) for h, c, judged in zip(hv, central, verdicts, strict=True) if judged != KINK]
        cause = "" if verdict != WRONG else "the Hessian is not symmetric" if verdicts[worst] == OK else telling_ratio(pairs, None)
        index = tuple(int(i) for i in np.unravel_index(worst, a.shape))
        rows.append(
            Row(
                name,
                a.shape,
                a.size,
                index,
                float(hv[worst]),
                float(central[worst]),
                float(slack[worst]),
                error=float(errors[worst]),
                duality=asymmetry,
                verdict=verdict,
                cause=cause,
                steps=STEPS,
                curve=swept.central[:, worst],
                chosen=int(best[worst]),
            )
        )
    method = "H v by a complex step through the backward pass, against central differences of gradients"
    return Report(f"second derivatives of {title_of(f)} along one random v, {len(rows)} variables", method, rows, legend=LEGEND)


def _product(subject: Subject, vectors: Mapping[str, Array]) -> dict[str, Array]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*discards the imaginary part.*")
        try:
            gradient = _gradient(subject, _moved(subject, vectors, 1j * TINY))
        except Warning as error:
            raise UsageError(f"hessian_vector_product: f or a vjp drops the imaginary part ({error}); it must be analytic") from error
    return {name: g.imag / TINY for name, g in gradient.items()}


def _gradient(subject: Subject, point: Mapping[str, Array]) -> dict[str, Array]:
    return subject.gradients(point, np.ones(()))


def _moved(subject: Subject, vectors: Mapping[str, Array], step: complex) -> dict[str, Array]:
    return {name: a + step * vectors[name] if name in vectors else a for name, a in subject.point.items()}


def _sweep(base: Array, sides: Sequence[tuple[Array, Array]]) -> Sweep:
    """Differences of a gradient as a Sweep over its elements."""
    steps = np.repeat(STEPS[:, None], base.size, axis=1)
    forward = np.stack([(up - base).reshape(-1) for up, _ in sides]) / steps
    backward = np.stack([(base - down).reshape(-1) for _, down in sides]) / steps
    low, high = np.minimum(forward, backward), np.maximum(forward, backward)
    return Sweep(steps, (forward + backward) / 2, low, high, high - low, EPS * np.abs(base).reshape(-1))


def _directions(subject: Subject, vectors: Any) -> dict[str, Array]:
    names = list(subject.variables)
    if not isinstance(vectors, Mapping):
        vectors = [vectors] if hasattr(vectors, "dtype") else list(vectors)
        if len(vectors) != len(names):
            raise ShapeError(
                f"hessian_vector_product: {len(vectors)} vectors for {len(names)} variables ({', '.join(names)}); need one each"
            )
        vectors = dict(zip(names, vectors, strict=True))
    for name, v in vectors.items():
        if name not in subject.point or np.shape(v) != subject.point[name].shape:
            wanted = subject.point[name].shape if name in subject.point else f"a name among {', '.join(names)}"
            raise ShapeError(f"hessian_vector_product: the vector for {name} is {np.shape(v)}; need {wanted}")
    return {name: xp(subject.point[name]).asarray(v) for name, v in vectors.items()}
