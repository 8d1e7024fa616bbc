"""One of K classes."""

from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import ShapeError
from ..random import Stream
from .base import Distribution, Value, data_of, lead


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
        """log softmax(logits)[x].     x (*batch) -> (*batch)"""
        labels = data_of(x) if hasattr(x, "dtype") else np.asarray(x)
        logits = data_of(self.logits)
        if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:-1]:
            raise ShapeError(f"Categorical.log_prob: x is {labels.dtype} {labels.shape}; need integers of shape {logits.shape[:-1]}")
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[-1]:
            raise ShapeError(f"Categorical.log_prob: x runs from {labels.min()} to {labels.max()}; need 0 to {logits.shape[-1] - 1}")
        rows = ops.log_softmax(self.logits).reshape(-1, logits.shape[-1])
        return rows[np.arange(labels.size), labels.reshape(-1)].reshape(labels.shape)

    @property
    def mode(self) -> Any:
        """The likeliest class, int64.     -> (*batch)"""
        return data_of(self.logits).real.argmax(axis=-1)

    def entropy(self) -> Tensor:
        """-sum_k p_k log p_k.     -> (*batch)"""
        log_p = ops.log_softmax(self.logits)
        return -(ops.exp(log_p) * log_p).sum(axis=-1)

    def terms(self) -> "Categorical":
        return self

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Any:
        """The index of the largest logit + Gumbel noise, int64.     -> (*n, *batch)"""
        logits = data_of(self.logits)
        return constant_of(largest, logits, rng.uniform((*lead(n), *logits.shape), like=logits)).data


def largest(logits: Any, u: Any) -> Any:
    """argmax_k l_k - log(-log(1 - u_k))"""
    module = xp(u)
    exponential = -module.log1p(-module.maximum(u, module.finfo(u.dtype).eps / 4))  # u = 0 stands for half a step of its grid
    return module.argmax(logits - module.log(exponential), axis=-1)
