"""Normalizing flows: a density bent by invertible maps, z_k = f_k(z_k-1), z_0 ~ base:

    log q(z_L) = log q(z_0) - sum_k log |det df_k / dz_k-1|

D. J. Rezende and S. Mohamed, "Variational inference with normalizing flows", 2015, eq. 5 to 13; coupling layers: L. Dinh, J. Sohl-Dickstein
and S. Bengio, "Density estimation using Real NVP", 2017, eq. 4 to 8.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from .. import ops
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..random import Stream
from .base import Distribution, Value


class Map(Protocol):
    """An invertible map of vectors.     z (..., K)"""

    def forward(self, z: Any) -> tuple[Tensor, Tensor]:
        """f(z) (..., K) and log |det df/dz| (...)"""

    def inverse(self, z: Any) -> tuple[Tensor, Tensor]:
        """f^-1(z) (..., K) and log |det df/dz| there (...); UsageError where there is no closed form"""


class Planar:
    """f(z) = z + u^ tanh(w'z + b),  det = 1 + (1 - tanh^2) w'u^.     u, w (*batch, K), b (*batch, 1)

    u^ = u + (m(w'u) - w'u) w / |w|^2 with m(a) = softplus(a) - 1 makes w'u^ > -1, which makes it invertible (appendix A.1); there is no
    closed form of the inverse.
    """

    def __init__(self, u: Value, w: Value, b: Value):
        inner = ops.multiply(u, w).sum(axis=-1, keepdims=True)
        lifted = ops.softplus(inner) - 1.0  # w'u^
        self.w, self.b, self.inner = w, b, lifted
        length = ops.multiply(w, w).sum(axis=-1, keepdims=True) + 1e-8
        self.u = ops.add(u, ops.multiply(ops.divide(lifted - inner, length), w))

    def forward(self, z: Any) -> tuple[Tensor, Tensor]:
        h = ops.tanh(ops.multiply(self.w, z).sum(axis=-1, keepdims=True) + self.b)
        slope = ops.multiply(self.u, self.w).sum(axis=-1, keepdims=True)
        det = (1.0 - h * h) * slope + 1.0
        return ops.add(z, self.u * h), ops.log(det)[..., 0]

    def inverse(self, z: Any) -> tuple[Tensor, Tensor]:
        raise UsageError("a planar flow has no inverse in closed form: it knows the density of its own draws only; take a coupling flow")


class Coupling:
    """f([a b]) = [a, b e^s + t], s, t = link(a), log det = sum s; with `swapped` the halves change roles.     z (..., K), K at least 2

    link    a (..., k) -> s, t (..., K - k), k = K // 2 numbers that stay as they are
    """

    def __init__(self, link: Any, swapped: bool = False):
        self.link, self.swapped = link, swapped

    def halves(self, z: Any) -> tuple[Any, Any]:
        """(what stays, what moves)"""
        K = z.shape[-1]
        if K < 2:
            raise ShapeError(f"Coupling: z is {tuple(z.shape)}; need at least 2 numbers, one to stay and one to move")
        k = K // 2 if not self.swapped else K - K // 2
        first, second = z[..., :k], z[..., k:]
        return (second, first) if self.swapped else (first, second)

    def join(self, stays: Any, moved: Any) -> Tensor:
        return ops.concatenate([moved, stays] if self.swapped else [stays, moved], axis=-1)

    def forward(self, z: Any) -> tuple[Tensor, Tensor]:
        a, b = self.halves(z)
        s, t = self.link(a)
        return self.join(a, ops.multiply(b, ops.exp(s)) + t), s.sum(axis=-1)

    def inverse(self, z: Any) -> tuple[Tensor, Tensor]:
        a, b = self.halves(z)
        s, t = self.link(a)
        return self.join(a, ops.multiply(ops.subtract(b, t), ops.exp(ops.negative(s)))), s.sum(axis=-1)


class Flow(Distribution):
    """The base, bent by maps one after the other.     base: a distribution of vectors, batch *batch, event (K,)

    Its own last draw is remembered, whose density needs no inverse: training asks for no other."""

    event_ndim = 1

    def __init__(self, base: Distribution, maps: Sequence[Map]):
        self.base, self.maps = base, list(maps)
        self.drawn: tuple[Any, Any] = (None, None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    def bent(self, z: Any) -> tuple[Any, Any]:
        """f_L(... f_1(z)) and the sum of the log determinants."""
        total: Any = 0.0
        for map in self.maps:
            z, log_det = map.forward(z)
            total = log_det + total
        return z, total

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        first = self.base.sample(rng, n, like)
        z, log_det = self.bent(first)
        self.drawn = z, self.base.log_prob(first) - log_det
        return z

    def log_prob(self, z: Value) -> Tensor:
        """log q(z): of its last draw as it came, else by the inverse.     (..., K) -> (...)"""
        if z is self.drawn[0]:
            return self.drawn[1]
        total: Any = 0.0
        for map in reversed(self.maps):
            z, log_det = map.inverse(z)
            total = log_det + total
        return self.base.log_prob(z) - total

    @property
    def mean(self) -> Any:
        """Where the base's mean is taken: not the mean of the bent density, which has no closed form."""
        return self.bent(self.base.mean)[0]
