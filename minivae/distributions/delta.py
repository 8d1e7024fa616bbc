"""All of the probability at one place, and the prior that an autoencoder has for want of one."""

from typing import Any

from .. import ops
from ..backend import xp
from ..engine import Tensor, stop_gradient
from ..errors import UsageError
from ..random import Stream
from .base import Distribution, Value, data_of, lead


class Delta(Distribution):
    """All of the probability at one place, which no density describes.     mean (*batch, *event)"""

    parameters = ("mean",)
    mean: Any = None
    mode = property(lambda self: self.mean)

    def __init__(self, mean: Value, event_ndim: int = 1):
        self.mean, self.event_ndim = mean, event_ndim

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """The mean, whatever rng holds.     -> (*n, *batch, *event)"""
        mean = self.mean if isinstance(self.mean, Tensor) else stop_gradient(self.mean)
        return ops.broadcast_to(mean, (*lead(n), *mean.shape)) if lead(n) else mean

    def log_prob(self, x: Value) -> Tensor:
        raise UsageError("an autoencoder's code is a point and has no density: there is no bound on log p(x); train a vae for one")

    def terms(self) -> "Delta":
        return Delta(self.mean, event_ndim=0)


class Flat(Distribution):
    """The improper prior p(z) = 1: every code is as good as any other, and none can be drawn.

    An autoencoder's, which gives the prior up: the KL of a point against it is the same infinite number for all weights, and is left out.
    """

    def __init__(self, *event_shape: int, event_ndim: int | None = None):
        self.length = event_shape
        self.event_ndim = (len(event_shape) or 1) if event_ndim is None else event_ndim

    shape = property(lambda self: self.length)

    def log_prob(self, x: Value) -> Tensor:
        """0.     x (*batch, *event) -> (*batch)"""
        data = data_of(x)
        return stop_gradient(xp(data).zeros(data.shape[: data.ndim - self.event_ndim], data.real.dtype))

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        raise UsageError("an autoencoder has no prior to draw codes from; train a vae for one, or decode codes of images")

    def terms(self) -> "Flat":
        return Flat(*self.length, event_ndim=0)
