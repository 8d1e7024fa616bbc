"""Integrals over a line, and expectations under densities."""

import copy
import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..backend import to_device
from ..engine import Tensor, no_grad
from ..errors import NonFiniteError, ShapeError, UsageError

# Nodes and weights on [-1, 1] for x >= 0; every second node is one of Gauss's seven.  R. Piessens et al., "QUADPACK", 1983, routine QK15.
KRONROD = np.array(
    [
        [0.991455371120812639206854697526329, 0.022935322010529224963732008058970, 0],
        [0.949107912342758524526189684047851, 0.063092092629978553290700663189204, 0.129484966168869693270611432679082],
        [0.864864423359769072789712788640926, 0.104790010322250183839876322541518, 0],
        [0.741531185599394439863864773280788, 0.140653259715525918745189590510238, 0.279705391489276667901467771423780],
        [0.586087235467691130294144691258380, 0.169004726639267902826583426598550, 0],
        [0.405845151377397166906606412076961, 0.190350578064785409913256402421014, 0.381830050505118944950369775488975],
        [0.207784955007898467600689403773245, 0.204432940075298892414161999234649, 0],
        [0.0, 0.209482141084727828012999174891714, 0.417959183673469387755102040816327],
    ]
)
NODES = np.concatenate([-KRONROD[:, 0], KRONROD[-2::-1, 0]])
WEIGHTS = np.concatenate([KRONROD[:, 1:], KRONROD[-2::-1, 1:]]).T  # (2, 15): Kronrod's, Gauss's
ROUNDING = 50 * 2.0**-53  # an error below this part of the integral of |f| cannot be told from rounding
NOISE = 1e-6  # a disagreement of the two rules below this part of an interval's integral may be rounding in f
MOST = 2**22  # points of a tensor grid


class Integral(NamedTuple):
    value: Any  # float, or an array for a function with several components
    error: float  # estimate of the largest absolute error of a component, on the safe side


def integrate(
    f: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
    points: Sequence[float] = (),
    rtol: float = 1e-12,
    atol: float = 0.0,
    limit: int = 4000,
) -> Integral:
    """Integral of f over [low, high], either end of which may be infinite, to max(atol, rtol |largest component|).

    f        takes x (n,) and returns (n, ...): components are integrated together, on the same intervals
    points   kinks and narrow places of f: intervals end there

    Adaptive Gauss-Kronrod 7-15: an interval whose two rules disagree is halved.  The error is the sum of the disagreements, which is the
    error of the poorer rule; it may exceed the tolerance where f itself is rounded more coarsely than that.  Infinite ends:
    x = t / (1 - t^2).  What is narrow and far from `points` can be missed, as by every rule that looks at points.

    Raises NonFiniteError where f is not finite, UsageError where `limit` intervals do not do.
    """
    if not low < high:
        raise UsageError(f"integrate: low is {low}, high is {high}; need low < high")
    if math.isinf(low) or math.isinf(high):
        return _integrate_infinite(f, low, high, points, rtol, atol, limit)
    edges = np.unique([low, *[p for p in points if low < p < high], high])
    left, right = edges[:-1], edges[1:]
    values, errors, sizes = _rules(f, left, right)
    final = np.zeros(len(left), bool)  # intervals that are not worth halving: f's own rounding is all that is left
    while True:
        total, size = values.sum(axis=0), float(sizes.sum(axis=0).max(initial=0))
        tolerance = max(atol, rtol * float(np.abs(total).max(initial=0)), ROUNDING * size)
        error, open_error = float(errors.sum()), float(errors[~final].sum())
        if error <= tolerance or open_error <= tolerance / 2:
            return Integral(float(total) if total.ndim == 0 else total, error + ROUNDING * size)
        middle = (left + right) / 2
        split = (errors > tolerance / (4 * len(errors))) & (left < middle) & (middle < right) & ~final
        if not split.any() or len(left) + int(split.sum()) > limit:
            raise UsageError(
                f"integrate: the error is {error:.1e} after {len(left)} intervals, the tolerance {tolerance:.1e}; "
                "give the kinks of f as points, a larger tolerance, or a larger limit"
            )
        ends = np.concatenate([left[split], middle[split]]), np.concatenate([middle[split], right[split]])
        halves = _rules(f, *ends)
        # a disagreement that halving does not shrink, and that is small already, is noise: a kink's shrinks to a half at least
        noisy = (halves[1].reshape(2, -1).sum(axis=0) > 0.7 * errors[split]) & (errors[split] < NOISE * _largest(sizes[split]))
        left, right = np.concatenate([left[~split], ends[0]]), np.concatenate([right[~split], ends[1]])
        values, errors, sizes = (np.concatenate([old[~split], new]) for old, new in zip((values, errors, sizes), halves, strict=True))
        final = np.concatenate([final[~split], noisy, noisy])


def _largest(components: np.ndarray) -> np.ndarray:
    """The largest component of each interval.     (intervals, ...) -> (intervals,)"""
    return components.reshape(len(components), -1).max(axis=1, initial=0)


def _rules(f: Callable[[np.ndarray], np.ndarray], left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kronrod's value, the largest component's error, and the integral of |f|, of each interval."""
    half = (right - left) / 2
    x = ((left + right) / 2)[:, None] + half[:, None] * NODES
    y = np.asarray(f(x.reshape(-1)))
    if not np.isfinite(y).all():
        where = x.reshape(-1)[~np.isfinite(y).reshape(y.shape[0], -1).all(axis=1)][0]
        raise NonFiniteError(f"integrate: f({where:.17g}) is not finite; move the ends of the interval away from it")
    y = y.reshape(len(left), len(NODES), *y.shape[1:])
    kronrod, gauss = (np.einsum("in...,n,i->i...", y, weights, half) for weights in WEIGHTS)
    size = np.einsum("in...,n,i->i...", np.abs(y), WEIGHTS[0], half)
    return kronrod, _largest(np.abs(kronrod - gauss)), size


def _integrate_infinite(f: Any, low: float, high: float, points: Sequence[float], rtol: float, atol: float, limit: int) -> Integral:
    def inward(x: float) -> float:
        """t of x = t / (1 - t^2), in (-1, 1)."""
        return math.copysign(1, x) if math.isinf(x) else 2 * x / (1 + math.sqrt(1 + 4 * x * x))

    def g(t: np.ndarray) -> np.ndarray:
        inside = (1 - t) * (1 + t)
        y = np.asarray(f(t / inside))
        return y * ((1 + t * t) / inside**2).reshape(-1, *[1] * (y.ndim - 1))

    return integrate(g, inward(low), inward(high), [0.0, *map(inward, points)], rtol, atol, limit)


def array(value: Any) -> np.ndarray:
    """A Tensor, an array or a number as float64 on the CPU."""
    return np.asarray(to_device(value.data if isinstance(value, Tensor) else value, "cpu"), np.float64)


def _elementwise(q: Any) -> Callable[[np.ndarray], np.ndarray]:
    """log q(x) of each element: the same distribution, whose events are single numbers."""
    q = copy.copy(q)
    q.event_ndim = 0
    return lambda x: array(q.log_prob(x))


def _place(q: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the mass of q is, and how wide it is: its mean and scale, else 0 and 1."""
    centre = array(q.mean) if hasattr(q, "mean") else np.zeros(())
    width = np.ones(())
    if hasattr(q, "sigma"):
        width = array(q.sigma)
    elif hasattr(q, "log_scale"):
        width = np.exp(array(q.log_scale))
    shape = np.broadcast_shapes(centre.shape, width.shape)
    return np.broadcast_to(centre, shape), np.broadcast_to(width, shape)


def expectation(
    q: Any,
    f: Callable[[np.ndarray], Any],
    support: tuple[float, float] = (-math.inf, math.inf),
    points: Any = (),
    rtol: float = 1e-12,
    atol: float = 1e-14,
) -> np.ndarray:
    """E_q[f(x)] of each element, by adaptive quadrature, for any density with a log_prob.     (*batch, *event) or less -> same

    f        takes x (n, *shape) with the shape of q's parameters and returns the same, element by element
    support  where the density lives; (0, 1) for a ContinuousBernoulli
    points   kinks of f, each a number or an array of q's shape

    The variable is t = (x - mean) / scale, so that the rule looks where the mass is; on a bounded support, ever closer to both ends.
    """
    log_q = _elementwise(q)
    centre, width = _place(q)
    bounded = math.isfinite(support[0]) and math.isfinite(support[1])
    if bounded:
        centre, width = np.full(centre.shape, support[0]), np.full(centre.shape, support[1] - support[0])
        breaks = [10.0**-k for k in range(1, 13)]
        breaks += [1 - b for b in breaks]
        low, high = 0.0, 1.0
    else:
        (low, high), breaks = (-math.inf, math.inf), [-8.0, 8.0]
        if math.isfinite(support[0]) or math.isfinite(support[1]):
            raise UsageError(f"expectation: the support is {support}; need a bounded one or (-inf, inf)")
    for p in points:
        breaks += np.unique((array(p) - centre) / width).tolist()

    def integrand(t: np.ndarray) -> np.ndarray:
        x = centre + width * t.reshape(-1, *[1] * centre.ndim)
        density = np.exp(log_q(x)) * width
        with np.errstate(all="ignore"):  # where the density is 0 the integrand is, whatever f is
            return np.where(density > 0, density * array(f(x)), 0.0)

    with no_grad():
        return np.asarray(integrate(integrand, low, high, breaks, rtol, atol).value)


def kl_by_integration(
    q: Any, p: Any, support: tuple[float, float] = (-math.inf, math.inf), rtol: float = 1e-12, atol: float = 1e-14
) -> np.ndarray:
    """KL(q || p) = integral of q (log q - log p), element by element, summed over the event, in nats.     -> (*batch)

    For any two densities of independent elements with a log_prob; p's own kink, if it has one, is looked for at its mean.
    """
    log_q, log_p = _elementwise(q), _elementwise(p)
    points = [p.mean] if hasattr(p, "log_scale") else []
    terms = expectation(q, lambda x: log_q(x) - log_p(x), support, points, rtol, atol)
    return terms.sum(axis=tuple(range(terms.ndim - q.event_ndim, terms.ndim)))


def hermite_rule(dimensions: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of a product of Gauss-Hermite rules: sum_i weight_i f(t_i) is about E[f(t)], t ~ N(0, I).     (n^K, K), (n^K,)"""
    if nodes < 1 or nodes**dimensions > MOST:
        raise UsageError(f"Gauss-Hermite: {nodes} nodes in {dimensions} dimensions are {nodes**dimensions:,} points; need 1 to {MOST:,}")
    t, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    weight = np.array([math.prod(w) for w in product(weights, repeat=dimensions)])
    return np.array(list(product(t, repeat=dimensions))), weight


def hermite_expectation(q: Any, f: Callable[[np.ndarray], Any], nodes: int = 32) -> np.ndarray:
    """E_q[f(z)] for a Gaussian q with mean and sigma (*batch, K), by a product of K Gauss-Hermite rules of n nodes.     -> (*batch)

    sum_i w_i f(mean + sigma t_i), exact for polynomials of degree 2 n - 1 in each coordinate; for analytic f the error falls geometrically
    in n.  f takes z (n^K, *batch, K), and returns (n^K, *batch).  Raises UsageError for more than 4 million points.

    M. Abramowitz and I. A. Stegun, "Handbook of mathematical functions", 25.4.46.
    """
    mean, sigma = _place(q)
    if q.event_ndim != 1 or not mean.ndim:
        raise ShapeError(f"hermite_expectation: q's mean is {mean.shape} with event_ndim {q.event_ndim}; need (*batch, K), event_ndim 1")
    grid, weight = hermite_rule(mean.shape[-1], nodes)
    z = mean + sigma * grid.reshape(-1, *[1] * (mean.ndim - 1), mean.shape[-1])
    with no_grad():
        values = array(f(z))
    if values.shape != z.shape[:-1]:
        raise ShapeError(f"hermite_expectation: f returned {values.shape} for z {z.shape}; need {z.shape[:-1]}")
    return np.tensordot(weight, values, axes=1)
