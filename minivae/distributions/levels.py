"""What distributions of pixels of `levels` values have in common: x is k / (levels - 1), k = 0 ... levels - 1, as bytes over 255 are."""

from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, stop_gradient
from ..errors import ShapeError, UsageError
from ..random import Stream
from .base import Distribution, Value, data_of, event_sum, lead

LEVELS = 256
OFF = 1e-3  # of a level: what rounding of k / 255 in float32 leaves is 100 times less


def levels_of(x: Any, n: int) -> Any:
    """k = n x.  Raises ShapeError where that is no integer from 0 to n; on a GPU, which is not waited for, it is NaN there."""
    module = xp(x)
    k = module.rint(n * x.real)
    fine = (abs(n * x.real - k) < OFF) & (k >= 0) & (k <= n)
    if module is not np:
        return module.where(fine, k, np.nan)
    if not fine.all():
        raise ShapeError(f"log_prob: x holds {x[~fine].ravel()[0]:.6g}, none of the {n + 1} values k / {n}; need 8-bit pixels over 255")
    return k


def below_as_levels(u: Any, p: Any, total: Any) -> Any:
    """total + 1 where u is p or more, else total: one step of the inverse of a distribution function."""
    return total + (u >= p)


def next_cumulative(before: Any, log_p: Any) -> Any:
    return before + xp(log_p).exp(log_p)


class Levels(Distribution):
    """Base of distributions of pixels over `levels` equidistant values of [0, 1].  A subclass defines log_prob and terms."""

    levels: int = LEVELS

    def check_levels(self) -> None:
        if self.levels < 2:
            raise UsageError(f"{type(self).__name__}: levels is {self.levels}; need at least 2")

    @property
    def n(self) -> int:
        """The largest k."""
        return self.levels - 1

    def level(self, x: Value) -> Tensor:
        """k of pixels x, a constant of x's dtype."""
        data = data_of(x)
        return constant_of(levels_of, data, self.n)

    def log_prob_of_level(self, k: Value) -> Tensor:
        """log p(k) of every element.     k broadcasts to (*batch, *event) -> (*batch, *event)"""
        raise self.lacks("log_prob_of_level")

    def like(self) -> Any:
        """An array in the dtype and on the device of the parameters."""
        return data_of(getattr(self, self.parameters[0]))

    def constant_level(self, k: int) -> Any:
        """k in an array of the parameters' full shape."""
        like = self.like()
        return xp(like).full(self.shape, k, like.real.dtype)

    def entropy(self) -> Tensor:
        """-sum_k p_k log p_k, by enumeration of the levels.     -> (*batch)"""
        total: Any = 0.0
        for k in range(self.levels):
            log_p = self.log_prob_of_level(self.constant_level(k))
            total = total - ops.exp(log_p) * log_p
        return event_sum(total, self.event_ndim)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """The inverse distribution function of a uniform number, by enumeration; a constant.     -> (*n, *batch, *event)"""
        own = self.like()
        u = rng.uniform((*lead(n), *self.shape), like=own)
        below: Any = xp(own).zeros(self.shape, own.real.dtype)
        total: Any = xp(own).zeros(u.shape, own.real.dtype)
        for k in range(self.n):
            log_p = stop_gradient(self.log_prob_of_level(self.constant_level(k)))
            below = constant_of(next_cumulative, below, log_p.data).data
            total = constant_of(below_as_levels, u, below, total).data
        return ops.multiply(stop_gradient(total), 1 / self.n)

    def largest(self, candidates: list[Any]) -> Tensor:
        """Of these levels, arrays of the full shape, the likeliest, as a pixel; a constant."""
        best, height = candidates[0], stop_gradient(self.log_prob_of_level(candidates[0])).data
        for k in candidates[1:]:
            other = stop_gradient(self.log_prob_of_level(k)).data
            best, height = constant_of(where_larger, other, height, k, best).data, constant_of(larger, other, height).data
        return ops.multiply(stop_gradient(best), 1 / self.n)


def where_larger(a: Any, b: Any, x: Any, y: Any) -> Any:
    return xp(a).where(a.real > b.real, x, y)


def larger(a: Any, b: Any) -> Any:
    return xp(a).where(a.real > b.real, a, b)
