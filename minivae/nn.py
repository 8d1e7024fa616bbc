"""Modules: layers with parameters, and containers.

A Module finds its parameters by walking its attributes (Tensors, Modules, lists of Modules), in the order of their names' creation.
Initial weights are drawn from a Stream that the constructor is given: the same seed makes the same model.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import ops
from .backend import Array, to_device, xp
from .engine import Tensor
from .errors import ShapeError, UsageError
from .kernels.checks import padding_pairs, pair
from .random import Stream

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


def _first_names(found: dict[str, Any]) -> dict[str, Any]:
    first = {id(value): name for name, value in reversed(found.items())}
    return {name: value for name, value in found.items() if first[id(value)] == name}


class Module:
    """Base of layers and models.  Subclasses set attributes in __init__ and define forward(x)."""

    training = True

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def children(self) -> Iterator[tuple[str, "Module"]]:
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list | tuple):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def named_parameters(self) -> dict[str, Tensor]:
        """{"encoder.0.w": Tensor, ...}: everything that the optimizer moves; what is shared, once, by its first name."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        for name, child in self.children():
            found |= {f"{name}.{inner}": value for inner, value in child.named_parameters().items()}
        return _first_names(found)

    def parameters(self) -> list[Tensor]:
        return list(self.named_parameters().values())

    def named_buffers(self) -> dict[str, Array]:
        """Arrays that training moves without a gradient: running moments."""
        found = {name: value for name, value in vars(self).items() if name in getattr(self, "buffers", ())}
        for name, child in self.children():
            found |= {f"{name}.{inner}": value for inner, value in child.named_buffers().items()}
        return _first_names(found)

    def named_streams(self) -> dict[str, Stream]:
        """The streams that layers draw from: their counters belong to a checkpoint."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, Stream)}
        for name, child in self.children():
            found |= {f"{name}.{inner}": value for inner, value in child.named_streams().items()}
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name, on the CPU."""
        arrays = {name: p.data for name, p in self.named_parameters().items()} | self.named_buffers()
        return {name: np.array(to_device(a, "cpu")) for name, a in arrays.items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Copy a state() in; every name and shape must fit, or nothing is changed."""
        own = {name: p.data for name, p in self.named_parameters().items()} | self.named_buffers()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ShapeError(
                f"load_state: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}; the model has another architecture"
            )
        for name, a in own.items():
            if a.shape != state[name].shape:
                raise ShapeError(f"load_state: {name} is {state[name].shape}, the model's is {a.shape}; the model has another architecture")
        for name, a in own.items():
            a[...] = xp(a).asarray(state[name])

    def modules(self) -> Iterator["Module"]:
        yield self
        for _, child in self.children():
            yield from child.modules()

    def train(self, training: bool = True) -> "Module":
        """Choose how BatchNorm and Dropout behave: with batch moments and noise, or (False) with running moments and none."""
        for module in self.modules():
            module.training = training
        return self

    def to(self, device: str = "cpu", dtype: Any = None) -> "Module":
        """Move all parameters and buffers to "cpu" or "cuda", or to another dtype; in place.  Make the optimizer afterwards."""

        def moved(a: Array) -> Array:
            a = to_device(a, device)
            return a if dtype is None else a.astype(dtype)

        for module in self.modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    value.data = moved(value.data)
                elif name in getattr(module, "buffers", ()):
                    setattr(module, name, moved(value))
        return self


def uniform_init(rng: Stream, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): LeCun's bound, the usual default of frameworks for weights and biases."""
    bound = 1 / math.sqrt(max(fan_in, 1))
    return Tensor((rng.uniform(shape) * np.float32(2 * bound) - np.float32(bound)).astype(np.float32))


def check_activation(name: str | None) -> None:
    if name not in ACTIVATIONS:
        raise UsageError(f"activation {name!r} is unknown; choose one of {', '.join(map(str, ACTIVATIONS))}")


class Dense(Module):
    """y = act(x w + b).     (..., inputs) -> (..., outputs)"""

    def __init__(self, inputs: int, outputs: int, rng: Stream, activation: str | None = None):
        check_activation(activation)
        self.w = uniform_init(rng, (inputs, outputs), inputs)
        self.b = uniform_init(rng, (outputs,), inputs)
        self.activation = activation

    def forward(self, x: Any) -> Tensor:
        if self.activation in FUSED:
            return ops.dense(x, self.w, self.b, self.activation)
        return ACTIVATIONS[self.activation](ops.dense(x, self.w, self.b))


class Conv2d(Module):
    """A convolution with bias and activation.     (N, H, W, inputs) -> (N, OH, OW, outputs)"""

    def __init__(
        self, inputs: int, outputs: int, rng: Stream, kernel: Any = 3, stride: Any = 1, padding: Any = 0, activation: str | None = None
    ):
        check_activation(activation)
        height, width = pair(kernel)
        self.w = uniform_init(rng, (height, width, inputs, outputs), height * width * inputs)
        self.b = uniform_init(rng, (outputs,), height * width * inputs)
        self.stride, self.padding, self.activation = pair(stride), padding_pairs(padding), activation

    def forward(self, x: Any) -> Tensor:
        fused = self.activation in FUSED
        y = ops.conv2d(x, self.w, self.b, stride=self.stride, padding=self.padding, activation=self.activation if fused else None)
        return y if fused else ACTIVATIONS[self.activation](y)


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
        activation: str | None = None,
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
        return y if fused else ACTIVATIONS[self.activation](y)


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
        for running, batch in ((self.running_mean, mean.data), (self.running_var, var.data * (n / (n - 1)))):
            running += self.momentum * (batch.real - running)
        return y


class LayerNorm(Module):
    """Normalizes each example over its last axis.     (..., C) -> (..., C)"""

    def __init__(self, channels: int, eps: float = 1e-5):
        self.gamma, self.beta = Tensor(np.ones(channels, np.float32)), Tensor(np.zeros(channels, np.float32))
        self.eps = eps

    def forward(self, x: Any) -> Tensor:
        return ops.layer_norm(x, self.gamma, self.beta, eps=self.eps)


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
        return ops.reshape(x, (len(x), -1 if len(x) else math.prod(x.shape[1:])))


class Reshape(Module):
    """(N, ...) -> (N, *shape)"""

    def __init__(self, *shape: int):
        self.shape = shape

    def forward(self, x: Any) -> Tensor:
        return ops.reshape(x, (len(x), *self.shape))


class Sequential(Module):
    """One layer after the other."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
