"""A model as the coder sees it, its networks in integers, to be judged as any other: what does rounding cost?

Its ELBO and that of the model itself differ by the rounding alone, if both are given the same noise:

    losses(model, images, seed)["loss"],  losses(in_integers(model), images, seed)["loss"]
"""

import copy
from typing import Any

import numpy as np

from ..backend import xp
from ..engine import Tensor, constant_of
from ..nn import Module
from .integers import STANDARD, Precision
from .portable import Portable

NETWORKS = ("encoder", "decoder", "upwards", "downwards")


class InIntegers(Module):
    """A network by its integers.     floats -> floats, multiples of 2^-(weight_bits + activation_bits), without a gradient"""

    def __init__(self, network: Any, where: str, at: Precision):
        self.network, self.portable = network, Portable(network, where, at)

    def forward(self, x: Any) -> Tensor:
        return constant_of(self.by_integers, x.data if isinstance(x, Tensor) else x)

    def by_integers(self, x: Any) -> Any:
        at = self.portable.at
        a = xp(x).floor(x.astype(np.float64) * 2.0**at.activation + 0.5).clip(-at.limit, at.limit)
        return (self.portable(a) * 2.0**-at.sum).astype(x.dtype)


def in_integers(model: Any, weight_bits: int = STANDARD.weight, activation_bits: int = STANDARD.activation) -> Any:
    """The model with the networks that `BitsBack(model, ...)` codes with; what else it has is shared with it.

    Raises UsageError for networks of which there are no integers."""
    found, at = copy.copy(model), Precision(weight_bits, activation_bits)
    for name in NETWORKS:
        if hasattr(model, name):
            setattr(found, name, InIntegers(getattr(model, name), name, at))
    return found
