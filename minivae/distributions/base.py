"""What a distribution is, and checks that all of them share.

A distribution holds parameters of shape (*batch, *event); `event_ndim` says how many trailing axes are one event, over which
log-probabilities are summed: 1 for a latent vector, 3 for an image (H, W, C).  Everything is in nats.

One of your own needs log_prob and sample to be trained with, `mean` to be drawn; the others raise a sentence until they are defined.
"""

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..random import Stream

Value = Any  # a Tensor, an array or a number


class Distribution:
    """Base of all distributions.  `parameters` are the attributes that broadcast to (*batch, *event)."""

    parameters: tuple[str, ...] = ()
    event_ndim: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """(*batch, *event)"""
        return np.broadcast_shapes(*(data_of(getattr(self, name)).shape for name in self.parameters))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.shape[: max(len(self.shape) - self.event_ndim, 0)]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape[max(len(self.shape) - self.event_ndim, 0) :]

    def log_prob(self, x: Value) -> Tensor:
        """log p(x), summed over the event, in nats.     x (*batch, *event) -> (*batch)"""
        raise self.lacks("log_prob")

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """Draws: a differentiable function of the parameters where there is one, else a constant.     -> (*n, *batch, *event)

        like    an array whose dtype and device the draws take, for a distribution that holds no array"""
        raise self.lacks("sample")

    @property
    def mean(self) -> Value:
        """E[x].     -> (*batch, *event)"""
        raise self.lacks("mean")

    @property
    def mode(self) -> Value:
        """Where the density is largest.     -> (*batch, *event)"""
        raise self.lacks("mode")

    def entropy(self) -> Tensor:
        """-E[log p(x)], in nats.     -> (*batch)"""
        raise self.lacks("entropy")

    def terms(self) -> "Distribution":
        """The same distribution with every number an event of its own: its log_prob is that of each.     event_ndim 0"""
        raise UsageError(f"{type(self).__name__} has no terms: its numbers may depend on each other; if they do not, define terms()")

    def lacks(self, name: str) -> UsageError:
        return UsageError(f"{type(self).__name__} has no {name}: there is no closed form, or nobody has written it; define it in the class")

    def __repr__(self) -> str:
        try:
            return f"{type(self).__name__}(batch {self.batch_shape}, event {self.event_shape})"
        except (TypeError, ValueError, AttributeError):  # no parameters, or half made
            return f"{type(self).__name__}()"


def data_of(value: Value) -> Any:
    """The array of a Tensor, an array or a number."""
    if type(value) is Tensor:
        return value.data
    return value if hasattr(value, "dtype") else np.asarray(value, dtype=np.float32)


def lead(n: int | tuple[int, ...]) -> tuple[int, ...]:
    """The axes in front of a sample's, for the n that `sample` is given."""
    return (int(n),) if isinstance(n, int | np.integer) else tuple(n)


def event_sum(terms: Tensor, event_ndim: int) -> Tensor:
    """The sum over the last event_ndim axes."""
    return terms.sum(axis=tuple(range(-event_ndim, 0))) if event_ndim else terms


def widened(value: Value, shape: tuple[int, ...]) -> Value:
    """A parameter in the full shape of its distribution, or of draws."""
    return value if data_of(value).shape == shape else ops.broadcast_to(value, shape)


def location_scale(kind: str, mean: Value, log_scale: Value, name: str) -> tuple[Value, Value]:
    """Both parameters, with a number made an array of the other's dtype and device: as a float64 scalar it would promote float32."""
    if type(mean) is type(log_scale) is Tensor and mean.data.shape == log_scale.data.shape:
        return mean, log_scale
    like = next((data_of(value) for value in (mean, log_scale) if hasattr(value, "dtype")), np.zeros((), np.float32))
    mean, log_scale = (value if hasattr(value, "dtype") else xp(like).asarray(value, like.dtype) for value in (mean, log_scale))
    broadcast(kind, **{"mean": mean, name: log_scale})
    return mean, log_scale


def broadcast(kind: str, **named: Value) -> tuple[int, ...]:
    """The shape that the named values broadcast to."""
    shapes = {name: data_of(value).shape for name, value in named.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        stated = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise ShapeError(f"{kind}: {stated}; need shapes that broadcast") from None


def check_event(name: str, x: Value, event_ndim: int, *parameters: Value) -> None:
    shape = data_of(x).shape
    if len(shape) >= event_ndim:
        for parameter in parameters:
            if data_of(parameter).shape != shape:
                break
        else:
            return
    own = np.broadcast_shapes(*(data_of(parameter).shape for parameter in parameters))
    batch, event = own[: max(len(own) - event_ndim, 0)], own[max(len(own) - event_ndim, 0) :]
    if len(shape) < event_ndim or shape[len(shape) - event_ndim :] != event:
        raise ShapeError(f"{name}.log_prob: x is {shape}, one event is {event}; need x of shape (..., {', '.join(map(str, event))})")
    for n, own_n in zip(reversed(shape[: len(shape) - event_ndim]), reversed(batch), strict=False):
        if n != own_n and 1 not in (n, own_n):
            raise ShapeError(f"{name}.log_prob: x is {shape}, the batch is {batch}; need x of shape (..., {', '.join(map(str, own))})")


def size_of(shape: tuple[int, ...], event_ndim: int) -> int:
    """Numbers in an event."""
    return math.prod(shape[len(shape) - event_ndim :])
