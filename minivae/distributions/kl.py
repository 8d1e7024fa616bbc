"""KL(q || p) = E_q[log q - log p], in nats: closed forms by pairs of classes, and what serves where there is none.

A closed form belongs to exactly two classes: a subclass may have changed the density, and registers its own.

    @register_kl(Mine, StandardGaussian)
    def _(q, p, event_ndim): return ...  # the sum over the last event_ndim axes
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backend import to_device
from ..engine import Tensor, no_grad
from ..errors import ShapeError, UsageError
from ..random import Stream
from .base import Value, data_of, event_sum
from .gaussian import Gaussian, StandardGaussian

Pair = tuple[type, type]
_closed: dict[Pair, Callable[[Any, Any, int], Tensor]] = {}
_estimates: dict[Pair, Callable[[Any, Any, Value], Tensor]] = {}


def register_kl(q: type, p: type) -> Callable[[Callable], Callable]:
    """A decorator: f(q, p, event_ndim) is KL(q || p), summed over the last event_ndim axes."""
    return lambda f: _registered(_closed, q, p, f)


def register_kl_at(q: type, p: type) -> Callable[[Callable], Callable]:
    """A decorator: f(q, p, z) estimates KL(q || p) at a sample z ~ q, each number of the event alone, and better than log q - log p."""
    return lambda f: _registered(_estimates, q, p, f)


def _registered(table: dict[Pair, Callable], q: type, p: type, f: Callable) -> Callable:
    known = table.get((q, p))
    if known is not None and known.__module__ != f.__module__:  # a cell of a notebook may run twice
        raise UsageError(f"the KL of {q.__name__} against {p.__name__} is registered already; derive a class of your own for another")
    table[q, p] = f
    return f


def _form(q: Any, p: Any) -> Callable[[Any, Any, int], Tensor]:
    form = _closed.get((type(q), type(p)))
    if form is None:
        raise ShapeError(
            f"kl: no closed form for {type(q).__name__} against {type(p).__name__}; register one with register_kl, "
            "or ask for an estimate, kl_monte_carlo(q, p, rng, samples)"
        )
    return form


def kl(q: Any, p: Any) -> Tensor:
    """KL(q || p) in closed form, summed over the event, in nats.     -> (*batch)

    Raises ShapeError where no closed form is registered for the two classes."""
    return _form(q, p)(q, p, q.event_ndim)


def kl_terms(q: Any, p: Any) -> Tensor:
    """The part of each number of the event in `kl`.     -> (*batch, *event)"""
    return _form(q, p)(q, p, 0)


class Estimate(NamedTuple):
    value: np.ndarray
    standard_error: np.ndarray


def kl_monte_carlo(q: Any, p: Any, rng: Stream, samples: int = 1000) -> Estimate:
    """The mean of log q(z) - log p(z) over z ~ q, and its standard error: for pairs without a closed form.     -> (*batch) both"""
    if samples < 2:
        raise UsageError(f"kl_monte_carlo: samples is {samples}; need at least 2, for an error")
    mean: Any = 0.0
    squares: Any = (
        0.0  # of the deviations from the mean so far: squares of the ratios themselves would lose its digits (B. P. Welford, 1962)
    )
    with no_grad():
        for i in range(1, samples + 1):
            ratio = to_device(data_of(log_q_over_p(q, p, q.sample(rng))), "cpu").astype(np.float64)
            deviation = ratio - mean
            mean = mean + deviation / i
            squares = squares + deviation * (ratio - mean)
    return Estimate(mean, np.sqrt(squares / (samples - 1) / samples))


def log_q_over_p(q: Any, p: Any, z: Value) -> Tensor:
    """log q(z) - log p(z).     z (..., *batch, *event) -> (..., *batch)"""
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    if log_q.shape != log_p.shape and log_q.shape and log_p.shape:
        raise ShapeError(
            f"kl: for z of shape {tuple(z.shape)} log q(z) of {type(q).__name__} is {log_q.shape}, log p(z) of {type(p).__name__} "
            f"{log_p.shape}; need one number an event from both, summed over the event"
        )
    return ops.subtract(log_q, log_p)


def terms_of(d: Any) -> Any:
    if not hasattr(d, "terms"):
        raise UsageError(f"{type(d).__name__} has no terms: its numbers may depend on each other; if they do not, define terms()")
    return d.terms()


def kl_at(q: Any, p: Any, z: Value) -> Tensor:
    """KL(q || p) in closed form; where there is none, its estimate by one sample z ~ q, log q(z) - log p(z), which has no bias and may be
    negative.     -> (*batch)"""
    pair = type(q), type(p)
    if pair in _closed:
        return kl(q, p)
    if pair in _estimates:
        return event_sum(_estimates[pair](q, p, z), q.event_ndim)
    return log_q_over_p(q, p, z)


def kl_terms_at(q: Any, p: Any, z: Value) -> Tensor:
    """The part of each number of the event in `kl_at`.     -> (*batch, *event)

    Raises UsageError where the numbers of an event depend on each other, and no part is theirs alone."""
    pair = type(q), type(p)
    if pair in _closed:
        return kl_terms(q, p)
    if pair in _estimates:
        return _estimates[pair](q, p, z)
    return log_q_over_p(terms_of(q), terms_of(p), z)


def sample_and_kl(q: Any, p: Any, rng: Stream) -> tuple[Tensor, Tensor]:
    """z ~ q and `kl_at` of it, in one pass where q is a Gaussian and p is N(0, I).     -> (*batch, *event), (*batch)"""
    if type(q) is Gaussian and type(p) is StandardGaussian:
        same_length(q, p)
        noise = getattr(rng, "later", rng.normal)(q.shape, like=data_of(q.mean))
        return ops.sample_and_kl(q.mean, q.logvar, noise, q.event_ndim)
    z = q.sample(rng)
    return z, kl_at(q, p, z)


def same_length(q: Any, p: StandardGaussian) -> None:
    shape = q.shape
    if p.length and shape[len(shape) - len(p.length) :] != p.length:
        raise ShapeError(f"kl: an event of {type(q).__name__} is {q.event_shape}, of {type(p).__name__} {p.length}; need equal shapes")


def same_event(q: Any, p: Any) -> None:
    """Refuse two events of which one would be stretched: their KL would count numbers that are not there.  Numbers are of any shape."""
    if q.shape and p.shape and (q.event_ndim, q.event_shape) != (p.event_ndim, p.event_shape):
        raise ShapeError(f"kl: an event of {type(q).__name__} is {q.event_shape}, of {type(p).__name__} {p.event_shape}; need equal shapes")
