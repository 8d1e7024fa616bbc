"""Networks in integers: every machine, backend, number of threads and size of batch makes the same bits of the same numbers.

Weights are rounded to 2^-12 and what flows between layers to 2^-8, or as a Precision says.  As integers they are held in float64, where
sums of products below 2^53 are exact: in whatever order a BLAS adds them up, fused or not, nothing is rounded.  That no sum can reach 2^53
is checked of every layer, for inputs up to a limit at which they are cut.  Rounding is a product with a power of 2 and a floor, which are
exact too; nonlinear activations are read from tables, which tables.py makes the same everywhere.

So the networks of a model on a GPU run there and make the bits that a CPU makes: a file says nothing of where it was written.
"""

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import nn
from ..backend import Array, to_device, xp
from ..errors import UsageError
from ..nn.layers import ACTIVATIONS
from .integers import STANDARD, TABLES, Precision, activated, add_product, check_sums, product, rounded, table_of, to_integers

NAMES = {function: name for name, function in ACTIVATIONS.items()}


@dataclass(frozen=True)
class Layer:
    """integers of 2^-activation -> integers of 2^-sum, or of 2^-activation for a shape, on the device of `held`."""

    forward: Callable[..., Array]
    sums: bool  # whether it gives sums, to be rounded, or only another shape
    integers: tuple[np.ndarray, ...] = ()  # its weights
    options: tuple = ()
    held: tuple[Array, ...] = ()  # the weights as forward takes them

    def __call__(self, a: Array) -> Array:
        return self.forward(a, *self.held)

    def on_gpu(self) -> "Layer":
        return replace(self, held=tuple(to_device(np.ascontiguousarray(a), "cuda") for a in self.held))


class Portable:
    """A network of nn's layers in integers.     integers of 2^-activation, float64 -> integers of 2^-sum, float64

    It ends in a layer with weights and no activation, as encoders and decoders do; layers of shapes may follow.  Dense, convolutions,
    batch norm by its running moments, dropout (which only acts in training), every activation of the library by its name.  A network on a
    GPU computes there, and what it says of the first numbers has to be what a CPU says.
    """

    def __init__(self, network: Any, where: str = "network", at: Precision = STANDARD):
        self.at, self.where = at, where
        self.layers: list[Layer] = []
        self.activations: list[str | None] = []
        self.digest = hashlib.sha256()
        self.there: Portable | None = None  # the same with its integers on a GPU
        layers = flat(network, where)
        for i, (place, layer) in enumerate(layers):
            behind, before = (layers[j][1] if 0 <= j < len(layers) else None for j in (i + 1, i - 1))
            if not merge(before, layer):  # else it is in the weights before it
                self.add(layer, place, behind if merge(layer, behind) else None)
        last = max((i for i, layer in enumerate(self.layers) if layer.sums), default=-1)
        if last < 0 or any(self.activations[last:]):
            raise UsageError(f"{where} must end in a layer with weights and without an activation, so that the coder can read its numbers")
        self.last = last
        self.tables: dict[str, Array] = {name: table_of(name, at.activation) for name in self.activations if name}
        self.is_on_gpu = any(xp(p.data) is not np for p in network.parameters())

    def __call__(self, a: Array) -> Array:
        """Where the network is, or where a is: what comes from a CPU goes back there."""
        if xp(a) is np and not self.is_on_gpu:
            return self.run(a)
        if self.there is None:
            there = self.on_gpu()
            check_first(there, self, to_device(a, "cpu"))
            self.there = there
        y = self.there.run(to_device(a, "cuda"))
        return to_device(y, "cpu") if xp(a) is np else y

    def run(self, a: Array) -> Array:
        for i, layer in enumerate(self.layers):
            a = layer(a)
            activation = self.activations[i]
            if layer.sums and i < self.last:  # sums are an array of their own, which may be written to
                a = rounded(a, self.at, 0.0 if activation == "relu" else None)
                activation = None if activation == "relu" else activation
            if activation:
                a = activated(a, activation, self.at, self.tables[activation])
        return a

    def on_gpu(self) -> "Portable":
        there = copy.copy(self)
        there.layers = [layer.on_gpu() for layer in self.layers]
        there.tables = {name: to_device(table, "cuda") for name, table in self.tables.items()}
        return there

    def add(self, layer: Any, where: str, norm: Any = None) -> None:
        kind = type(layer)
        if kind not in LAYERS:
            known = ", ".join(known.__name__ for known in LAYERS)
            raise UsageError(f"{where} is a {kind.__name__}, and integers are made of {known}; build the network of those")
        made = LAYERS[kind](layer, where, self.at, norm)
        activation = layer.name if kind is nn.Activation else getattr(layer, "activation", None)
        if callable(activation):
            if activation not in NAMES:
                raise UsageError(f"{where}: the activation is a function of yours, of which there is no table; use one of {names()}")
            activation = NAMES[activation]
        if activation is not None and activation not in TABLES:
            raise UsageError(f"{where}: there is no table of the activation {activation}; use one of {names()}")
        if made is None:
            return
        self.digest.update(repr((kind.__name__, activation, made.options, [a.shape for a in made.integers])).encode())
        for a in made.integers:
            self.digest.update(a.astype("<i8").tobytes())
        self.layers.append(made)
        self.activations.append(activation)


def check_first(there: Portable, here: Portable, a: np.ndarray) -> None:
    """That the first numbers which a GPU is asked for are those of the CPU: a file of others could be read nowhere."""
    wrong = int((to_device(there.run(to_device(a, "cuda")), "cpu") != here.run(a)).sum())
    if wrong:
        raise UsageError(
            f"{here.where}: {wrong} of the first numbers that the GPU makes are not those of the CPU, so that no file could be read; "
            "use --device cpu, and report it"
        )


def names() -> str:
    return ", ".join(TABLES)


def flat(network: Any, where: str) -> list[tuple[str, Any]]:
    if type(network) is nn.Sequential:
        return [found for i, layer in enumerate(network.layers) for found in flat(layer, f"{where}.layers.{i}")]
    return [(where, network)]


def merge(layer: Any, norm: Any) -> bool:
    """Whether norm is a batch norm of the layer's sums, so that it can be in the weights."""
    return type(norm) is nn.BatchNorm and type(layer) in (nn.Dense, nn.Conv2d, nn.ConvTranspose2d) and layer.activation is None


# --- layers ---


def weights_of(layer: Any, where: str, at: Precision, norm: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """w and b as integers, with the batch norm behind them: that is a factor and a shift of each output."""
    w, b = (np.asarray(to_device(p.data, "cpu"), np.float64) for p in (layer.w, layer.b))
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        w, b = w * (scale[:, None] if type(layer) is nn.ConvTranspose2d else scale), b * scale + shift
    return to_integers(w, at.weight, f"{where}.w"), to_integers(b, at.sum, f"{where}.b")


def dense(layer: Any, where: str, at: Precision, norm: Any = None) -> Layer:
    w, b = weights_of(layer, where, at, norm)
    check_sums(w, b, where, at)
    return Layer(product, True, (w, b), (), (w, b))


def conv(layer: Any, where: str, at: Precision, norm: Any = None) -> Layer:
    w, b = weights_of(layer, where, at, norm)
    check_sums(w, b, where, at)
    (top, bottom), (left, right) = layer.padding
    (down, across), (height, width) = layer.stride, w.shape[:2]

    def forward(a: Array, w: Array, b: Array) -> Array:
        a = xp(a).pad(a, ((0, 0), (top, bottom), (left, right), (0, 0)))
        rows, columns = (a.shape[1] - height) // down + 1, (a.shape[2] - width) // across + 1
        y = xp(a).zeros((len(a), rows, columns, w.shape[3])) + b
        for i in range(height):
            for j in range(width):
                add_product(a[:, i : i + down * rows : down, j : j + across * columns : across][:, :rows, :columns], w[i, j], y)
        return y

    return Layer(forward, True, (w, b), (layer.padding, layer.stride), (w, b))


def conv_transpose(layer: Any, where: str, at: Precision = STANDARD, norm: Any = None) -> Layer:
    w, b = weights_of(layer, where, at, norm)  # (H, W, outputs, inputs)
    check_sums(w.transpose(0, 1, 3, 2), b, where, at)
    (top, bottom), (left, right) = layer.padding
    (down, across), (height, width) = layer.stride, w.shape[:2]
    size = (layer.size, layer.size) if isinstance(layer.size, int) else layer.size

    def forward(a: Array, backwards: Array, b: Array) -> Array:
        rows, columns = a.shape[1:3]
        tall, wide = size or ((rows - 1) * down + height - top - bottom, (columns - 1) * across + width - left - right)
        whole = max((rows - 1) * down + height, top + tall), max((columns - 1) * across + width, left + wide)
        y = xp(a).zeros((len(a), *whole, len(b)))
        for i in range(height):
            for j in range(width):
                y[:, i : i + down * (rows - 1) + 1 : down, j : j + across * (columns - 1) + 1 : across] += product(a, backwards[i, j])
        return y[:, top : top + tall, left : left + wide] + b

    return Layer(forward, True, (w, b), (layer.padding, layer.stride, size), (np.ascontiguousarray(w.transpose(0, 1, 3, 2)), b))


def scale_and_shift(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """By its running moments a batch norm is scale x + shift."""
    gamma, beta, mean, var = (
        np.asarray(to_device(a, "cpu"), np.float64) for a in (norm.gamma.data, norm.beta.data, norm.running_mean, norm.running_var)
    )
    scale = gamma / np.sqrt(var + norm.eps)
    return scale, beta - scale * mean


def batch_norm(layer: Any, where: str, at: Precision, norm: Any = None) -> Layer:
    scale, shift = scale_and_shift(layer)
    s, t = to_integers(scale, at.weight, where), to_integers(shift, at.sum, where)
    check_sums(s[None], t, where, at)
    return Layer(lambda a, s, t: a * s + t, True, (s, t), (), (s, t))


def reshape(layer: Any, where: str, at: Precision, norm: Any = None) -> Layer:
    shape = tuple(layer.shape)
    return Layer(lambda a: a.reshape(len(a), *shape), False, options=shape)


LAYERS: dict[type, Callable[[Any, str, Precision, Any], Layer | None]] = {
    nn.Dense: dense,
    nn.Conv2d: conv,
    nn.ConvTranspose2d: conv_transpose,
    nn.BatchNorm: batch_norm,
    nn.Activation: lambda layer, where, at, norm: Layer(lambda a: a, False),
    nn.Flatten: lambda layer, where, at, norm: Layer(lambda a: a.reshape(len(a), math.prod(a.shape[1:])), False),
    nn.Reshape: reshape,
    nn.Dropout: lambda layer, where, at, norm: None,  # it only acts in training
}
