"""Recurrent layers: one state after the other along a sequence."""

from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of
from ..errors import UsageError
from ..random import Stream
from .layers import Conv2d
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


class ConvGRU(Module):
    """One step of a gated recurrent unit whose products are convolutions, with a shortcut around the state and one around the unit.

    reset      r = sigmoid((W x)_r + (U h)_r)         W x (N, OH, OW, 4 units), a convolution of x (N, H, W, inputs) by `stride`,
    update     z = sigmoid((W x)_z + (U h)_z)         U h likewise of the state h (N, OH, OW, units), by stride 1
    candidate  n = tanh((W x)_n + r (U h)_n)
    state      h' = z h + (1 - z) n + shortcut (U h)_s
    output     o = h' + shortcut (W x)_o              -> o, h', (N, OH, OW, units) both; a state of None is zero

    Kernels are odd and images filled up by zeros, so that OH = ceil(H / stride).  As in ops.gru, z keeps the old state, and the reset gate
    acts after the product.  Biases are zero at first, and the input's weights have the gain 2, since z lets half of n through.
    G. Toderici et al., "Full resolution image compression with recurrent neural networks", 2017, 3.1: the residual GRU, shortcut 0.1.
    """

    def __init__(
        self, inputs: int, units: int, rng: Stream, kernel: int = 3, hidden_kernel: int = 1, stride: int = 1, shortcut: float = 0.1
    ):
        if kernel % 2 == 0 or hidden_kernel % 2 == 0:
            raise UsageError(f"ConvGRU: the kernels are {kernel} and {hidden_kernel}; need odd ones, so that a state fits its input")
        self.from_input = Conv2d(inputs, 4 * units, rng.split("input"), kernel, stride, kernel // 2)
        self.from_state = Conv2d(units, 4 * units, rng.split("state"), hidden_kernel, 1, hidden_kernel // 2)
        self.shortcut = float(shortcut)
        for layer, gain in ((self.from_input, 2), (self.from_state, 1)):
            layer.w.data *= np.float32(gain * 3**0.5)  # of U(-a, a) the variance is a^2 / 3
            layer.b.data[...] = 0

    def forward(self, x: Any, h: Any = None) -> tuple[Tensor, Tensor]:
        seen = self.from_input(x)
        h = no_state(seen) if h is None else h
        gates, rest = ops.split(seen, 2)
        own_gates, own_rest = ops.split(self.from_state(h), 2)
        r, z = ops.split(ops.sigmoid(gates + own_gates), 2)
        (candidate, around), (recalled, kept) = ops.split(rest, 2), ops.split(own_rest, 2)
        n = ops.tanh(candidate + r * recalled)
        state = n + z * (h - n) + kept * self.shortcut
        return state + around * self.shortcut, state


def no_state(seen: Tensor) -> Tensor:
    """(N, H, W, 4 units) -> zeros (N, H, W, units)"""
    return constant_of(quarter_of_zeros, seen.data)


def quarter_of_zeros(a: Any) -> Any:
    return xp(a).zeros((*a.shape[:-1], a.shape[-1] // 4), a.dtype)
