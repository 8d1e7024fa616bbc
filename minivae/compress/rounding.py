"""A model as the coder sees it, its networks in integers, to be judged as any other: what does rounding cost?

Its ELBO and that of the model itself differ by the rounding alone, if both are given the same noise:

    losses(model, images, seed)["loss"],  losses(in_integers(model), images, seed)["loss"]
"""

import copy
from typing import Any

import numpy as np

from ..backend import to_device, xp
from ..engine import Tensor, constant_of
from ..nn import Module
from .portable import STANDARD, Portable, Precision

NETWORKS = ("encoder", "decoder", "upwards", "downwards")


class InIntegers(Module):
    """A network by its integers.     floats -> floats, multiples of 2^-(weight_bits + activation_bits), without a gradient"""

    def __init__(self, network: Any, where: str, at: Precision):
        self.network, self.portable = network, Portable(network, where, at)

    def forward(self, x: Any) -> Tensor:
        return constant_of(self.by_integers, x.data if isinstance(x, Tensor) else x)

    def by_integers(self, x: Any) -> Any:
        at = self.portable.at
        a = np.floor(np.asarray(to_device(x, "cpu"), np.float64) * 2.0**at.activation + 0.5)
        y = self.portable(np.clip(a, -at.limit, at.limit)) * 2.0**-at.sum
        return to_device(y.astype(x.dtype), "cpu" if xp(x) is np else "cuda")


def in_integers(model: Any, weight_bits: int = STANDARD.weight, activation_bits: int = STANDARD.activation) -> Any:
    """The model with the networks that `BitsBack(model, ...)` codes with; what else it has is shared with it.

    Raises UsageError for networks of which there are no integers."""
    found, at = copy.copy(model), Precision(weight_bits, activation_bits)
    for name in NETWORKS:
        if hasattr(model, name):
            setattr(found, name, InIntegers(getattr(model, name), name, at))
    return found
