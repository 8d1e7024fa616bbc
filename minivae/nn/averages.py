"""The moving average of a network's weights: a second network that follows the first and that no gradient moves."""

from copy import deepcopy
from typing import Any

import numpy as np

from ..engine import Tensor, effect
from .module import Module


class Average(Module):
    """A network like another, with the moving average of its weights: buffers, which a checkpoint keeps.

    average <- d average + (1 - d) weights,  d = min(decay, (1 + n) / (10 + n)) at the n-th time: at first it follows quickly, so that what
    the weights started from is soon forgotten.
    B. Polyak and A. Juditsky 1992; for GANs: Y. Yazici et al., "The unusual effectiveness of averaging in GAN training", 2019.
    """

    buffers = ("moves",)

    def __init__(self, net: Module):
        self.net = deepcopy(net)
        self.moves = np.zeros(1, np.float32)  # so far
        for constant in tensors(self.net):
            constant.number = 0  # no gradient flows to it
            constant.data = constant.data.copy()

    def forward(self, *inputs: Any) -> Any:
        return self.net(*inputs)

    def follow(self, net: Module, decay: float) -> None:
        """One step of the average; part of a recorded step."""
        count(self.moves)
        for own, p in zip(tensors(self.net), tensors(net), strict=True):
            move(own.data, p.data, self.moves, decay)


def tensors(module: Module) -> list[Tensor]:
    """Every Tensor of the module and of those in it, each once."""
    found = {id(value): value for part in module.modules() for _, value in part.tree() if isinstance(value, Tensor)}
    return list(found.values())


@effect
def count(moves: Any) -> None:
    moves += 1


@effect
def move(own: Any, p: Any, moves: Any, decay: float) -> None:
    """own <- d own + (1 - d) p, in place."""
    kept = ((1 + moves) / (10 + moves)).clip(max=decay).astype(own.dtype)
    own += (1 - kept.reshape([1] * own.ndim) if own.ndim else 1 - kept[0]) * (p.real - own)
