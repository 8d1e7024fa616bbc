"""The Laplace distribution."""

import math
from typing import Any

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..random import Stream
from .base import Distribution, Value, broadcast, check_event, data_of, event_sum, lead, location_scale, widened


def standard_laplace(u: Any) -> Any:
    """-sign(v) log(1 - 2 |v|) with v = 1/2 - u: Laplace noise of scale 1 by a uniform u in [0, 1)."""
    v, module = 0.5 - u, xp(u)  # (-1/2, 1/2]
    return -module.sign(v) * module.log1p(-2 * module.minimum(abs(v), 0.5 - module.finfo(v.dtype).eps / 4))


class Laplace(Distribution):
    """Density exp(-|x - mean| / b) / 2 b, independent per element, b = exp(log_scale).     mean, log_scale (*batch, *event)"""

    parameters = ("mean", "log_scale")
    mean: Any = None
    mode = property(lambda self: self.mean)

    def __init__(self, mean: Value, log_scale: Value, event_ndim: int = 1):
        self.mean, self.log_scale = location_scale("Laplace", mean, log_scale, "log_scale")
        self.event_ndim = event_ndim

    def log_prob(self, x: Value) -> Tensor:
        """-sum |x - mean| / b + log 2 b.     x (*batch, *event) -> (*batch)"""
        check_event("Laplace", x, self.event_ndim, self.mean, self.log_scale)
        deviation = ops.absolute(ops.subtract(x, self.mean)) * ops.exp(ops.negative(self.log_scale))
        return -event_sum(deviation + self.log_scale + math.log(2), self.event_ndim)

    def entropy(self) -> Tensor:
        """sum 1 + log 2 b.     -> (*batch)"""
        return event_sum(widened(ops.add(self.log_scale, 1 + math.log(2)), self.shape), self.event_ndim)

    def terms(self) -> "Laplace":
        return Laplace(self.mean, self.log_scale, event_ndim=0)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """mean - b sign(v) log(1 - 2 |v|), v uniform on (-1/2, 1/2).     -> (*n, *batch, *event)"""
        shape = broadcast("Laplace", mean=self.mean, log_scale=self.log_scale)
        noise = constant_of(standard_laplace, rng.uniform((*lead(n), *shape), like=data_of(self.mean)))
        return ops.add(self.mean, ops.exp(self.log_scale) * noise)
