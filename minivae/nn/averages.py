"""The moving average of a network's weights: a second network that follows the first and that no gradient moves."""

from copy import deepcopy
from typing import Any

from ..engine import Tensor, effect
from .module import Module


def averaged_copy(net: Module) -> Any:
    """The network with constants for parameters, of the same values: buffers, which a checkpoint keeps."""
    twin = deepcopy(net)
    for constant in tensors(twin):
        constant.number = 0
        constant.data = constant.data.copy()
    return twin


def move_averages(average: Module, net: Module, decay: float) -> None:
    """average <- decay average + (1 - decay) net, of every parameter; part of a recorded step.

    B. Polyak and A. Juditsky 1992; for GANs: Y. Yazici et al., "The unusual effectiveness of averaging in GAN training", 2019."""
    for own, p in zip(tensors(average), tensors(net), strict=True):
        move(own.data, p.data, decay)


def tensors(module: Module) -> list[Tensor]:
    """Every Tensor of the module and of those in it, each once."""
    found = {id(value): value for part in module.modules() for _, value in part.tree() if isinstance(value, Tensor)}
    return list(found.values())


@effect
def move(own: Any, p: Any, decay: float) -> None:
    """own <- decay own + (1 - decay) p, in place."""
    own += (1 - decay) * (p - own)
