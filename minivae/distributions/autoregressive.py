"""Two parts of a code, of which the second depends on the first."""

from collections.abc import Callable
from typing import Any

from .. import ops
from ..engine import Tensor
from ..errors import ShapeError
from ..random import Stream
from .base import Distribution


class Autoregressive(Distribution):
    """p(first) p(second | first), over z = [z1 z2]: upwards z1 is first, downwards z2 is.     z (..., K)

    first     a distribution of vectors, such as a Gaussian
    link      first -> the distribution of the second
    lengths   of z1 and z2, which sum to K
    """

    event_ndim = 1

    def __init__(self, first: Distribution, link: Callable[[Any], Distribution], lengths: tuple[int, int], upwards: bool):
        self.first, self.link, self.lengths, self.upwards = first, link, lengths, upwards
        self.drawn: tuple[Any, Any] = (None, None)  # the last sample and the distribution of its second part: asked for log_prob next

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.first.batch_shape, sum(self.lengths))

    def parts(self, z: Any) -> tuple[Any, Any]:
        """(first, second)"""
        if z.shape[-1] != sum(self.lengths):
            raise ShapeError(
                f"Autoregressive: z is {tuple(z.shape)}, its parts have lengths {self.lengths}; need (..., {sum(self.lengths)})"
            )
        z1, z2 = z[..., : self.lengths[0]], z[..., self.lengths[0] :]
        return (z1, z2) if self.upwards else (z2, z1)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.concatenate([first, second] if self.upwards else [second, first], axis=-1)

    def second(self, z: Any) -> Distribution:
        """p(second | the first of z)"""
        return self.drawn[1] if z is self.drawn[0] else self.link(self.parts(z)[0])

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """First the first, then the second.     -> (*n, *batch, K)"""
        first = self.first.sample(rng, n, like)
        second = self.link(first)
        z = self.join(first, second.sample(rng))
        self.drawn = z, second
        return z

    def log_prob(self, z: Any) -> Tensor:
        """log p(first) + log p(second | first).     (..., K) -> (...)"""
        first, second = self.parts(z)
        return self.first.log_prob(first) + self.second(z).log_prob(second)

    @property
    def mean(self) -> Tensor:
        """The mean of the first, and that of the second given it."""
        return self.join(self.first.mean, self.link(self.first.mean).mean)
