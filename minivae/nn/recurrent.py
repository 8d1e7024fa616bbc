"""Recurrent layers: one state after the other along a sequence."""

from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor
from ..random import Stream
from .module import Module, uniform_init


def zero_state(x: Any, units: int) -> Any:
    """(N, T, I) -> (N, units), on x's device"""
    data = x.data if isinstance(x, Tensor) else x
    return xp(data).zeros((len(data), units), data.dtype)


class GRU(Module):
    """All states of a gated recurrent unit; `h0` is zero by default.     (N, T, inputs) -> (N, T, units)        See ops.gru."""

    def __init__(self, inputs: int, units: int, rng: Stream):
        self.w = uniform_init(rng, (inputs, 3 * units), units)
        self.u = uniform_init(rng, (units, 3 * units), units)
        self.b = uniform_init(rng, (3 * units,), units)
        self.c = uniform_init(rng, (units,), units)

    def forward(self, x: Any, h0: Any = None) -> Tensor:
        h0 = zero_state(x, len(self.u)) if h0 is None else h0
        return ops.gru(x, h0, self.w, self.u, self.b, self.c)


class LSTM(Module):
    """All states of a long short-term memory; `h0` and `c0` are zero by default.     (N, T, inputs) -> (N, T, units)        See ops.lstm.

    The forget gates' biases start at 1, so that a new network remembers.  R. Jozefowicz et al., "An empirical exploration of
    recurrent network architectures", 2015.
    """

    def __init__(self, inputs: int, units: int, rng: Stream):
        self.w = uniform_init(rng, (inputs, 4 * units), units)
        self.u = uniform_init(rng, (units, 4 * units), units)
        self.b = Tensor(np.zeros(4 * units, np.float32))
        self.b.data[units : 2 * units] = 1

    def forward(self, x: Any, h0: Any = None, c0: Any = None) -> Tensor:
        return self.run(x, h0, c0)[0]

    def run(self, x: Any, h0: Any = None, c0: Any = None) -> tuple[Tensor, Tensor]:
        """The states, and the last cell: (h, c) of the last step go on where a sequence was cut.     -> (N, T, units), (N, units)"""
        h0, c0 = (zero_state(x, len(self.u)) if state is None else state for state in (h0, c0))
        return ops.lstm(x, h0, c0, self.w, self.u, self.b)
