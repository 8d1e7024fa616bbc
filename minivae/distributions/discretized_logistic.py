"""The logistic distribution, cut into levels."""

from typing import Any

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, stop_gradient
from ..random import Stream
from .base import Value, check_event, data_of, lead, location_scale
from .levels import LEVELS, Levels


def is_above_bottom(k: Any) -> Any:
    """Not the lowest level; so is NaN, which shows then."""
    return ~(k.real <= 0)


def is_below_top(k: Any, n: int) -> Any:
    return ~(k.real >= n)


def nearest(mean: Any, n: int) -> Any:
    """The level nearest to n mean; beyond the ends there are levels too, which are less likely than the end."""
    return xp(mean).rint(n * mean.real)


def draw(u: Any, mean: Any, log_scale: Any, n: int) -> Any:
    """The level that mean + s log(u / (1 - u)) falls into, over n.     u in [0, 1), where 0 stands for half a step of its grid"""
    module = xp(mean)
    u = module.maximum(u, module.finfo(u.dtype).eps / 4)
    x = mean + module.exp(log_scale) * (module.log(u) - module.log1p(-u))
    return module.clip(module.rint(n * x), 0, n) / n


class DiscretizedLogistic(Levels):
    """p(k) = F(k + 1/2) - F(k - 1/2), F(t) = sigmoid((t / n - mean) / s), x = k / n, independent per element; n = levels - 1,
    s = e^log_scale.  The lowest level has all that lies below it, the highest all above.

    D. P. Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016, appendix C;  the ends: T. Salimans et al.,
    "PixelCNN++", 2017, eq. 2.

    mean, log_scale    (*batch, *event), in units of the whole range;  levels    256 for bytes: x are multiples of 1 / 255
    """

    parameters = ("location", "log_scale")

    def __init__(self, mean: Value, log_scale: Value, event_ndim: int = 1, levels: int = LEVELS):
        self.location, self.log_scale = location_scale("DiscretizedLogistic", mean, log_scale, "log_scale")
        self.event_ndim, self.levels = event_ndim, levels
        self.check_levels()

    def log_prob(self, x: Value) -> Tensor:
        """sum log p(n x).     x (*batch, *event), multiples of 1 / n -> (*batch)"""
        check_event("DiscretizedLogistic", x, self.event_ndim, self.location, self.log_scale)
        values = self.log_prob_of_level(self.level(x).data)
        return values.sum(axis=tuple(range(values.ndim - self.event_ndim, values.ndim))) if self.event_ndim else values

    def log_prob_of_level(self, k: Value) -> Tensor:
        """log(sigmoid(u) - sigmoid(v)) = -log(1 + e^-u) - log(1 + e^v) + log(1 - e^(v - u)), without cancellation, u and v at the edges;
        at an end one of the two terms alone."""
        inverse = ops.exp(ops.negative(self.log_scale))
        centre = ops.multiply(k, 1 / self.n) - self.location
        half = 0.5 / self.n
        above, below = (centre + half) * inverse, (centre - half) * inverse
        inner, inside = constant_of(is_above_bottom, k), constant_of(is_below_top, k, self.n)
        upper = ops.where(inside, ops.negative(ops.softplus(ops.negative(above))), 0.0)
        lower = ops.where(inner, ops.negative(ops.softplus(below)), 0.0)
        width = ops.log(ops.negative(ops.expm1(inverse * (-1 / self.n))))
        return upper + lower + ops.where(inner, ops.where(inside, width, 0.0), 0.0)

    @property
    def mean(self) -> Tensor:
        """E[x] = 1/n sum_k P(more than k), by enumeration of the levels.     -> (*batch, *event)"""
        inverse = ops.exp(ops.negative(self.log_scale))
        total: Any = 0.0
        for k in range(self.n):
            total = ops.sigmoid((self.location - (k + 0.5) / self.n) * inverse) + total
        return total * (1 / self.n)

    @property
    def mode(self) -> Tensor:
        """The likeliest level, over n, a constant: the nearest to the mean, or an end with what lies beyond it."""
        location = stop_gradient(ops.broadcast_to(self.location, self.shape)).data
        return self.largest([self.constant_level(0), self.constant_level(self.n), constant_of(nearest, location, self.n).data])

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """The level of a draw from the logistic, a constant.     -> (*n, *batch, *event)"""
        location, log_scale = data_of(self.location), data_of(self.log_scale)
        u = rng.uniform((*lead(n), *self.shape), like=location)
        return constant_of(draw, u, location, log_scale, self.n)

    def terms(self) -> "DiscretizedLogistic":
        return DiscretizedLogistic(self.location, self.log_scale, 0, self.levels)
