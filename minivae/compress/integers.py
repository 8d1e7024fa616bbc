"""Integers in float64: how they are rounded, multiplied and read from tables, on a CPU and on a GPU, to the same bits."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array, cpu_backend, to_device, xp
from ..errors import UsageError
from ..kernels.cpu import bits_back as kernels
from ..kernels.gpu import exact
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


def rounded(y: Array, at: Precision = STANDARD, least: float | None = None) -> Array:
    """Integers of 2^-sum to the nearest of 2^-activation, halves up, cut at the limit and, with a relu behind, at the `least` of 0."""
    least = -at.limit if least is None else least
    if xp(y) is not np:
        return exact.round_off(y, 2.0**-at.weight, least, at.limit)
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


def product(a: Array, w: Array, b: Any = 0.0) -> Array:
    """a w + b, exact in any order.     (..., I), (I, O), (O,) -> (..., O)"""
    y = xp(a).empty((*a.shape[:-1], w.shape[1]))
    y[...] = b
    add_product(a, w, y)
    return y


def add_product(a: Array, w: Array, y: Array) -> None:
    """y += a w, likewise; y is contiguous"""
    module, rows = xp(a), math.prod(a.shape[:-1])
    if module is np and cpu_backend() != "numba":
        y += a @ w
        return
    a, flat = module.ascontiguousarray(a).reshape(rows, w.shape[0]), y.reshape(rows, w.shape[1])
    (kernels if module is np else exact).product(a, w, flat)


def check_sums(weights: np.ndarray, bias: np.ndarray, where: str, at: Precision) -> None:
    """weights (..., outputs): all sums that an output may be are below 2^53."""
    largest = float((abs(weights).reshape(-1, weights.shape[-1]).sum(axis=0) * at.limit + abs(bias)).max(initial=0))
    if largest >= 2.0**53:
        unit = at.limit * 2.0**at.weight
        raise UsageError(
            f"{where}: its weights add up to {largest / unit:.3g}, and sums of integers are exact up to "
            f"{2.0**53 / unit:.0f}; train with smaller weights"
        )


def activated(a: Array, name: str, at: Precision = STANDARD, table: Array | None = None) -> Array:
    """An activation of integers of 2^-activation: from its table within +-32, and a line of that slope beyond.

    table    of table_of, on the device of a"""
    module = xp(a)
    if name == "relu":
        return module.maximum(a, 0.0)
    _, below, above = TABLES[name]
    table, end = table_of(name, at.activation) if table is None else table, TABLE_END << at.activation
    inside = a.clip(-end, end)
    beyond = a - inside
    return table[(inside + end).astype(np.int64)] + module.rint(module.where(beyond > 0, above * beyond, below * beyond))


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
