"""One of K classes."""

from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import ShapeError, UsageError
from ..random import Stream
from .base import Distribution, Value, data_of, lead


def within(labels: Any, classes: int) -> Any:
    """A copy of the labels, if all are from 0 to classes - 1.  Part of a recorded step, which so looks at every batch."""
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ShapeError(f"Categorical.log_prob: x runs from {labels.min()} to {labels.max()}; need 0 to {classes - 1}")
    return labels.copy()


def largest(logits: Any) -> Any:
    return logits.real.argmax(axis=-1)


def gumbel_max(logits: Any, u: Any) -> Any:
    """argmax_k l_k - log(-log(1 - u_k)): class k with the probability softmax(l)_k."""
    module = xp(u)
    exponential = -module.log1p(-module.maximum(u, module.finfo(u.dtype).eps / 4))  # u = 0 stands for half a step of its grid
    return module.argmax(logits.real - module.log(exponential), axis=-1)


class Categorical(Distribution):
    """p(x = k) = softmax(logits)_k.     logits (*batch, K); x integers (*batch)"""

    event_ndim = 0
    shape = property(lambda self: data_of(self.logits).shape[:-1])

    def __init__(self, logits: Value):
        self.logits = logits

    @property
    def probabilities(self) -> Tensor:
        return ops.softmax(self.logits)

    def log_prob(self, x: Any) -> Tensor:
        """log softmax(logits)[x].     x (*n, *batch) integers -> (*n, *batch)"""
        labels = data_of(x) if hasattr(x, "dtype") else np.asarray(x)
        batch, classes = self.shape, data_of(self.logits).shape[-1]
        if labels.dtype.kind not in "iu" or labels.shape[max(labels.ndim - len(batch), 0) :] != batch:
            wanted = ", ".join(map(str, ("...", *batch)))
            raise ShapeError(f"Categorical.log_prob: x is {labels.dtype} {labels.shape}; need integers of shape ({wanted})")
        chosen = constant_of(within, labels, classes).data
        rows = [xp(labels).arange(n).reshape(-1, *[1] * (len(batch) - i - 1)) for i, n in enumerate(batch)]
        return ops.log_softmax(self.logits)[(*rows, chosen)]

    @property
    def mean(self) -> Any:
        raise UsageError("Categorical has no mean: classes are names and no numbers; use mode or probabilities")

    @property
    def mode(self) -> Tensor:
        """The likeliest class, int64, a constant.     -> (*batch)"""
        return constant_of(largest, data_of(self.logits))

    def entropy(self) -> Tensor:
        """-sum_k p_k log p_k.     -> (*batch)"""
        log_p = ops.log_softmax(self.logits)
        return -(ops.exp(log_p) * log_p).sum(axis=-1)

    def terms(self) -> "Categorical":
        return self

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """The index of the largest logit + Gumbel noise, int64, a constant.     -> (*n, *batch)"""
        logits = data_of(self.logits)
        return constant_of(gumbel_max, logits, rng.uniform((*lead(n), *logits.shape), like=logits))
