"""Layers that map one array to another, and Sequential, which chains them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..engine import Tensor, effect, stop_gradient
from ..errors import UsageError
from ..kernels.checks import padding_pairs, pair
from ..random import Stream
from .module import Module, uniform_init

ACTIVATIONS: dict[str | None, Callable[..., Any]] = {
    None: lambda x: x,
    "relu": ops.relu,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "silu": ops.silu,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
}
FUSED = (None, "relu", "tanh", "sigmoid")  # the layers' ops end with these


Activate = str | Callable[..., Any] | None  # by name, or any function of a Tensor


def check_activation(activation: Activate) -> None:
    if not callable(activation) and activation not in ACTIVATIONS:
        raise UsageError(
            f"activation {activation!r} is unknown; choose one of {', '.join(map(str, ACTIVATIONS))}, or give a function of a Tensor"
        )


def activated(y: Any, activation: Activate) -> Any:
    return activation(y) if callable(activation) else ACTIVATIONS[activation](y)


class Dense(Module):
    """y = act(x w + b).     (..., inputs) -> (..., outputs)"""

    def __init__(self, inputs: int, outputs: int, rng: Stream, activation: Activate = None):
        check_activation(activation)
        self.w = uniform_init(rng, (inputs, outputs), inputs)
        self.b = uniform_init(rng, (outputs,), inputs)
        self.activation = activation

    def forward(self, x: Any) -> Tensor:
        if self.activation in FUSED:
            return ops.dense(x, self.w, self.b, self.activation)
        return activated(ops.dense(x, self.w, self.b), self.activation)


class Conv2d(Module):
    """A convolution with bias and activation.     (N, H, W, inputs) -> (N, OH, OW, outputs)"""

    def __init__(
        self, inputs: int, outputs: int, rng: Stream, kernel: Any = 3, stride: Any = 1, padding: Any = 0, activation: Activate = None
    ):
        check_activation(activation)
        height, width = pair(kernel)
        self.w = uniform_init(rng, (height, width, inputs, outputs), height * width * inputs)
        self.b = uniform_init(rng, (outputs,), height * width * inputs)
        self.stride, self.padding, self.activation = pair(stride), padding_pairs(padding), activation

    def forward(self, x: Any) -> Tensor:
        fused = self.activation in FUSED
        y = ops.conv2d(x, self.w, self.b, stride=self.stride, padding=self.padding, activation=self.activation if fused else None)
        return y if fused else activated(y, self.activation)


class ConvTranspose2d(Module):
    """A transposed convolution with bias and activation.     (N, H, W, inputs) -> (N, *size, outputs)

    `size` is the result's (height, width); by default the smallest that the convolution maps to (H, W).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Stream,
        kernel: Any = 3,
        stride: Any = 1,
        padding: Any = 0,
        size: Any = None,
        activation: Activate = None,
    ):
        check_activation(activation)
        height, width = pair(kernel)
        self.stride, self.padding, self.size, self.activation = pair(stride), padding_pairs(padding), size, activation
        # each output pixel hears from kernel / stride pixels along each axis
        fan_in = inputs * max(height // self.stride[0], 1) * max(width // self.stride[1], 1)
        self.w = uniform_init(rng, (height, width, outputs, inputs), fan_in)
        self.b = uniform_init(rng, (outputs,), fan_in)

    def forward(self, x: Any) -> Tensor:
        fused = self.activation in FUSED
        y = ops.conv_transpose2d(
            x, self.w, self.b, stride=self.stride, padding=self.padding, size=self.size, activation=self.activation if fused else None
        )
        return y if fused else activated(y, self.activation)


class BatchNorm(Module):
    """Normalizes each channel over the batch while training, by running moments afterwards.     (..., C) -> (..., C)

    running <- (1 - momentum) running + momentum batch, with the unbiased variance.
    """

    buffers = ("running_mean", "running_var")

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        self.gamma, self.beta = Tensor(np.ones(channels, np.float32)), Tensor(np.zeros(channels, np.float32))
        self.running_mean, self.running_var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Any) -> Tensor:
        if not self.training:
            scale = ops.multiply(self.gamma, (self.running_var + self.eps) ** -0.5)
            return ops.subtract(x, self.running_mean) * scale + self.beta
        y, mean, var = ops.batch_norm(x, self.gamma, self.beta, eps=self.eps)
        n = y.size // y.shape[-1]
        for running, batch in ((self.running_mean, mean.data), (self.running_var, ops.multiply(stop_gradient(var), n / (n - 1)).data)):
            move_moments(running, batch, self.momentum)
        return y


@effect
def move_moments(running: Any, batch: Any, momentum: float) -> None:
    """running <- (1 - momentum) running + momentum batch, in place."""
    running += momentum * (batch.real - running)


class LayerNorm(Module):
    """Normalizes each example over its last axis.     (..., C) -> (..., C)"""

    def __init__(self, channels: int, eps: float = 1e-5):
        self.gamma, self.beta = Tensor(np.ones(channels, np.float32)), Tensor(np.zeros(channels, np.float32))
        self.eps = eps

    def forward(self, x: Any) -> Tensor:
        return ops.layer_norm(x, self.gamma, self.beta, eps=self.eps)


class GDN(Module):
    """Divides each channel by what all channels of its pixel have, or multiplies (inverse); see ops.gdn.     (..., C) -> (..., C)

    beta = b^2 + 1e-6 and gamma = g^2 stay positive whatever training does.  gamma starts near 0.1 I; the others start at 2^-12 and not at
    0, where g^2 has no slope.
    """

    def __init__(self, channels: int, inverse: bool = False):
        self.b = Tensor(np.ones(channels, np.float32))
        self.g = Tensor((np.eye(channels) * (0.1**0.5 - 2**-6) + 2**-6).astype(np.float32))
        self.inverse = inverse

    def forward(self, x: Any) -> Tensor:
        return ops.gdn(x, ops.square(self.b) + 1e-6, ops.square(self.g), inverse=self.inverse)


class Dropout(Module):
    """Zeroes each element with probability `rate` while training, and scales the rest by 1 / (1 - rate); draws from its own stream."""

    def __init__(self, rate: float, rng: Stream):
        if not 0 <= rate < 1:
            raise UsageError(f"Dropout: rate is {rate}; need 0 <= rate < 1")
        self.rate, self.rng = rate, rng

    def forward(self, x: Any) -> Any:
        return ops.dropout(x, self.rate, self.rng) if self.training and self.rate else x


class Activation(Module):
    """An activation as a layer of its own, by name."""

    def __init__(self, name: str):
        check_activation(name)
        self.name = name

    def forward(self, x: Any) -> Tensor:
        return ACTIVATIONS[self.name](x)


class Flatten(Module):
    """(N, ...) -> (N, product)"""

    def forward(self, x: Any) -> Tensor:
        return x.reshape(len(x), math.prod(x.shape[1:]))


class Reshape(Module):
    """(N, ...) -> (N, *shape)"""

    def __init__(self, *shape: int):
        self.shape = shape

    def forward(self, x: Any) -> Tensor:
        return x.reshape(len(x), *self.shape)


class Sequential(Module):
    """One layer after the other."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
