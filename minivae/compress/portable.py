"""Networks in integers: every machine, backend, number of threads and size of batch makes the same bits of the same numbers.

Weights are rounded to 2^-12 and what flows between layers to 2^-8, or as a Precision says.  As integers they are held in float64, where
sums of products below 2^53 are exact: in whatever order a BLAS adds them up, fused or not, nothing is rounded.  That no sum can reach 2^53
is checked of every layer, for inputs up to a limit at which they are cut.  Rounding is a product with a power of 2 and a floor, which are
exact too; nonlinear activations are read from tables, which tables.py makes the same everywhere.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..backend import cpu_backend, to_device
from ..errors import UsageError
from ..kernels.cpu import bits_back as kernels
from ..nn.layers import ACTIVATIONS
from . import tables

FEWEST, MOST = 1, 14  # bits behind the point
LARGEST = 15  # 2^15 is the largest number between layers
TABLE_END = 32  # beyond it the activations are lines


@dataclass(frozen=True)
class Precision:
    """Bits behind the point: of weights, and of what flows between layers."""

    weight: int = 12
    activation: int = 8

    def __post_init__(self) -> None:
        if not (FEWEST <= self.weight <= MOST and FEWEST <= self.activation <= MOST):
            raise UsageError(f"bits of weights and activations are {self.weight} and {self.activation}; need {FEWEST} to {MOST}")

    @property
    def sum(self) -> int:
        """Of a sum of products."""
        return self.weight + self.activation

    @property
    def limit(self) -> float:
        """The largest integer between layers."""
        return 2.0 ** (LARGEST + self.activation)


STANDARD = Precision()
NAMES = {function: name for name, function in ACTIVATIONS.items()}

Layer = Callable[[np.ndarray], np.ndarray]  # integers of 2^-activation -> integers of 2^-sum, or of 2^-activation for a shape


def rounded(y: np.ndarray, at: Precision = STANDARD, least: float | None = None) -> np.ndarray:
    """Integers of 2^-sum to the nearest of 2^-activation, halves up, cut at the limit and, with a relu behind, at the `least` of 0."""
    least = -at.limit if least is None else least
    if cpu_backend() != "numba":
        return np.clip(np.floor(y * 2.0**-at.weight + 0.5), least, at.limit)
    flat = np.array(y, np.float64, order="C", copy=None).reshape(-1)
    kernels.round_off(flat, 2.0**-at.weight, least, at.limit)
    return flat.reshape(y.shape)


def to_integers(a: Any, bits: int, where: str) -> np.ndarray:
    """2^bits a, rounded to the nearest, as float64.  Raises UsageError for what is not finite."""
    a = np.asarray(to_device(a, "cpu"), np.float64)
    if not np.isfinite(a).all():
        raise UsageError(f"{where} holds numbers that are not finite, and no integers stand for them; use an earlier checkpoint")
    return np.ascontiguousarray(np.rint(a * 2.0**bits))


def product(a: np.ndarray, w: np.ndarray, b: Any = 0.0) -> np.ndarray:
    """a w + b, exact in any order.     (..., I), (I, O), (O,) -> (..., O)"""
    if cpu_backend() != "numba":
        return a @ w + b
    y = np.empty((math.prod(a.shape[:-1]), w.shape[1]))
    y[...] = b
    kernels.product(np.ascontiguousarray(a).reshape(len(y), w.shape[0]), w, y)
    return y.reshape(*a.shape[:-1], w.shape[1])


def check_sums(weights: np.ndarray, bias: np.ndarray, where: str, at: Precision) -> None:
    """weights (..., outputs): all sums that an output may be are below 2^53."""
    largest = float((abs(weights).reshape(-1, weights.shape[-1]).sum(axis=0) * at.limit + abs(bias)).max(initial=0))
    if largest >= 2.0**53:
        unit = at.limit * 2.0**at.weight
        raise UsageError(
            f"{where}: its weights add up to {largest / unit:.3g}, and sums of integers are exact up to "
            f"{2.0**53 / unit:.0f}; train with smaller weights"
        )


class Portable:
    """A network of nn's layers in integers.     integers of 2^-activation, float64 -> integers of 2^-sum, float64

    It ends in a layer with weights and no activation, as encoders and decoders do; layers of shapes may follow.  Dense, convolutions,
    batch norm by its running moments, dropout (which only acts in training), every activation of the library by its name.
    """

    def __init__(self, network: Any, where: str = "network", at: Precision = STANDARD):
        self.at = at
        self.layers: list[Layer] = []
        self.sums: list[bool] = []  # whether a layer gives sums, to be rounded, or only another shape
        self.activations: list[str | None] = []
        self.digest = hashlib.sha256()
        layers = flat(network, where)
        for i, (place, layer) in enumerate(layers):
            behind, before = (layers[j][1] if 0 <= j < len(layers) else None for j in (i + 1, i - 1))
            if not merge(before, layer):  # else it is in the weights before it
                self.add(layer, place, behind if merge(layer, behind) else None)
        last = max((i for i, sums in enumerate(self.sums) if sums), default=-1)
        if last < 0 or any(self.activations[last:]):
            raise UsageError(f"{where} must end in a layer with weights and without an activation, so that the coder can read its numbers")
        self.last = last

    def __call__(self, a: np.ndarray) -> np.ndarray:
        for i, layer in enumerate(self.layers):
            a = layer(a)
            activation = self.activations[i]
            if self.sums[i] and i < self.last:  # sums are an array of their own, which may be written to
                a = rounded(a, self.at, 0.0 if activation == "relu" else None)
                activation = None if activation == "relu" else activation
            if activation:
                a = activated(a, activation, self.at)
        return a

    def add(self, layer: Any, where: str, norm: Any = None) -> None:
        kind = type(layer)
        if kind not in LAYERS:
            known = ", ".join(known.__name__ for known in LAYERS)
            raise UsageError(f"{where} is a {kind.__name__}, and integers are made of {known}; build the network of those")
        made, sums, arrays, options = LAYERS[kind](layer, where, self.at, norm)
        activation = layer.name if kind is nn.Activation else getattr(layer, "activation", None)
        if callable(activation):
            if activation not in NAMES:
                raise UsageError(f"{where}: the activation is a function of yours, of which there is no table; use one of {names()}")
            activation = NAMES[activation]
        if activation is not None and activation not in TABLES:
            raise UsageError(f"{where}: there is no table of the activation {activation}; use one of {names()}")
        if made is None:
            return
        self.digest.update(repr((kind.__name__, activation, options, [a.shape for a in arrays])).encode())
        for a in arrays:
            self.digest.update(a.astype("<i8").tobytes())
        self.layers.append(made)
        self.sums.append(sums)
        self.activations.append(activation)


def names() -> str:
    return ", ".join(TABLES)


def flat(network: Any, where: str) -> list[tuple[str, Any]]:
    if type(network) is nn.Sequential:
        return [found for i, layer in enumerate(network.layers) for found in flat(layer, f"{where}.layers.{i}")]
    return [(where, network)]


def merge(layer: Any, norm: Any) -> bool:
    """Whether norm is a batch norm of the layer's sums, so that it can be in the weights."""
    return type(norm) is nn.BatchNorm and type(layer) in (nn.Dense, nn.Conv2d, nn.ConvTranspose2d) and layer.activation is None


def activated(a: np.ndarray, name: str | None, at: Precision = STANDARD) -> np.ndarray:
    """An activation of integers of 2^-activation: from its table within +-32, and a line of that slope beyond."""
    if name == "relu":
        return np.maximum(a, 0.0)
    _, below, above = TABLES[str(name)]
    table, end = table_of(str(name), at.activation), TABLE_END << at.activation
    inside = np.clip(a, -end, end)
    beyond = a - inside
    return table[(inside + end).astype(np.int64)] + np.rint(np.where(beyond > 0, above, below) * beyond)


TABLES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, float]] = {  # the function, its slope below -32 and above 32
    "relu": (lambda x: np.maximum(x, 0.0), 0.0, 1.0),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), 0.01, 1.0),
    "elu": (lambda x: np.where(x > 0, x, tables.exp(np.minimum(x, 0)) - 1), 0.0, 1.0),
    "silu": (lambda x: x * tables.sigmoid(x), 0.0, 1.0),
    "tanh": (tables.tanh, 0.0, 0.0),
    "sigmoid": (tables.sigmoid, 0.0, 0.0),
    "softplus": (tables.softplus, 0.0, 1.0),
}


@functools.cache
def table_of(name: str, bits: int) -> np.ndarray:
    end = TABLE_END << bits
    return np.rint(TABLES[name][0](np.arange(-end, end + 1) / 2.0**bits) * 2.0**bits)


# --- layers: (the function, whether it gives sums, its integers, its options) ---


def weights_of(layer: Any, where: str, at: Precision, norm: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """w and b as integers, with the batch norm behind them: that is a factor and a shift of each output."""
    w, b = (np.asarray(to_device(p.data, "cpu"), np.float64) for p in (layer.w, layer.b))
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        w, b = w * (scale[:, None] if type(layer) is nn.ConvTranspose2d else scale), b * scale + shift
    return to_integers(w, at.weight, f"{where}.w"), to_integers(b, at.sum, f"{where}.b")


def dense(layer: Any, where: str, at: Precision, norm: Any = None) -> tuple:
    w, b = weights_of(layer, where, at, norm)
    check_sums(w, b, where, at)
    return (lambda a: product(a, w, b)), True, [w, b], ()


def conv(layer: Any, where: str, at: Precision, norm: Any = None) -> tuple:
    w, b = weights_of(layer, where, at, norm)
    check_sums(w, b, where, at)
    (top, bottom), (left, right) = layer.padding
    (down, across), (height, width) = layer.stride, w.shape[:2]

    def forward(a: np.ndarray) -> np.ndarray:
        a = np.pad(a, ((0, 0), (top, bottom), (left, right), (0, 0)))
        rows, columns = (a.shape[1] - height) // down + 1, (a.shape[2] - width) // across + 1
        y = np.zeros((len(a), rows, columns, w.shape[3])) + b
        for i in range(height):
            for j in range(width):
                y += product(a[:, i : i + down * rows : down, j : j + across * columns : across][:, :rows, :columns], w[i, j])
        return y

    return forward, True, [w, b], (layer.padding, layer.stride)


def conv_transpose(layer: Any, where: str, at: Precision = STANDARD, norm: Any = None) -> tuple:
    w, b = weights_of(layer, where, at, norm)  # (H, W, outputs, inputs)
    check_sums(w.transpose(0, 1, 3, 2), b, where, at)
    (top, bottom), (left, right) = layer.padding
    (down, across), (height, width) = layer.stride, w.shape[:2]
    backwards = np.ascontiguousarray(w.transpose(0, 1, 3, 2))
    size = (layer.size, layer.size) if isinstance(layer.size, int) else layer.size

    def forward(a: np.ndarray) -> np.ndarray:
        rows, columns = a.shape[1:3]
        tall, wide = size or ((rows - 1) * down + height - top - bottom, (columns - 1) * across + width - left - right)
        y = np.zeros((len(a), max((rows - 1) * down + height, top + tall), max((columns - 1) * across + width, left + wide), w.shape[2]))
        for i in range(height):
            for j in range(width):
                y[:, i : i + down * (rows - 1) + 1 : down, j : j + across * (columns - 1) + 1 : across] += product(a, backwards[i, j])
        return y[:, top : top + tall, left : left + wide] + b

    return forward, True, [w, b], (layer.padding, layer.stride, size)


def scale_and_shift(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """By its running moments a batch norm is scale x + shift."""
    gamma, beta, mean, var = (
        np.asarray(to_device(a, "cpu"), np.float64) for a in (norm.gamma.data, norm.beta.data, norm.running_mean, norm.running_var)
    )
    scale = gamma / np.sqrt(var + norm.eps)
    return scale, beta - scale * mean


def batch_norm(layer: Any, where: str, at: Precision, norm: Any = None) -> tuple:
    scale, shift = scale_and_shift(layer)
    s, t = to_integers(scale, at.weight, where), to_integers(shift, at.sum, where)
    check_sums(s[None], t, where, at)
    return (lambda a: a * s + t), True, [s, t], ()


def reshape(layer: Any, where: str, at: Precision, norm: Any = None) -> tuple:
    shape = tuple(layer.shape)
    return (lambda a: a.reshape(len(a), *shape)), False, [], shape


LAYERS: dict[type, Callable[[Any, str, Precision, Any], tuple]] = {
    nn.Dense: dense,
    nn.Conv2d: conv,
    nn.ConvTranspose2d: conv_transpose,
    nn.BatchNorm: batch_norm,
    nn.Activation: lambda layer, where, at, norm: ((lambda a: a), False, [], ()),
    nn.Flatten: lambda layer, where, at, norm: ((lambda a: a.reshape(len(a), math.prod(a.shape[1:]))), False, [], ()),
    nn.Reshape: reshape,
    nn.Dropout: lambda layer, where, at, norm: (None, False, [], ()),  # it only acts in training
}
