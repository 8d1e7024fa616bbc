"""Two parts of a code, of which the second depends on the first."""

from collections.abc import Callable
from typing import Any

from .. import ops
from ..engine import Tensor
from ..random import Stream
from .base import Distribution
from .gaussian import Gaussian


class Autoregressive(Distribution):
    """p(first) p(second | first), over z = [z1 z2]: upwards z1 is first, downwards z2 is.     z (..., K)

    first     a Gaussian
    link      first -> the Gaussian of the second
    cut       the length of z1
    """

    event_ndim = 1

    def __init__(self, first: Gaussian, link: Callable[[Any], Gaussian], cut: int, upwards: bool):
        self.first, self.link, self.cut, self.upwards = first, link, cut, upwards
        self.drawn: tuple[Any, Any] = (None, None)  # the last sample and the Gaussian of its second part: asked for log_prob next

    def parts(self, z: Any) -> tuple[Any, Any]:
        """(first, second)"""
        z1, z2 = z[..., : self.cut], z[..., self.cut :]
        return (z1, z2) if self.upwards else (z2, z1)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.concatenate([first, second] if self.upwards else [second, first], axis=-1)

    def second(self, z: Any) -> Gaussian:
        """p(second | the first of z)"""
        return self.drawn[1] if z is self.drawn[0] else self.link(self.parts(z)[0])

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        first = self.first.sample(rng, n)
        second = self.link(first)
        z = self.join(first, second.sample(rng))
        self.drawn = z, second
        return z

    def log_prob(self, z: Any) -> Tensor:
        first, second = self.parts(z)
        return self.first.log_prob(first) + self.second(z).log_prob(second)

    @property
    def mean(self) -> Tensor:
        """The mean of the first, and that of the second given it."""
        return self.join(self.first.mean, self.link(self.first.mean).mean)

    def __repr__(self) -> str:
        return f"Autoregressive(first {self.first}, cut {self.cut}, {'upwards' if self.upwards else 'downwards'})"
