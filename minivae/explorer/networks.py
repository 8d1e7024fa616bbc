"""Networks as lists of layers that the page's engine knows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..errors import UsageError
from ..models.networks import LastState, Repeat, Rows
from ..nn.layers import ACTIVATIONS
from .packing import pack

NAMES = {function: name for name, function in ACTIVATIONS.items()}


def activation(value: Any, where: str) -> str | None:
    """The name of an activation that is given by its name, or as the library's function of that name."""
    if callable(value):
        if value not in NAMES:
            known = ", ".join(str(name) for name in ACTIVATIONS)
            raise UsageError(f"{where}: the page knows the activations {known}, and not a function of yours; give it one of these")
        return NAMES[value]
    return value


def weighted(kind: str, *names: str) -> Callable[[Any, str], dict[str, Any]]:
    """A layer with weights of these names, and perhaps an activation."""

    def described(layer: Any, where: str) -> dict[str, Any]:
        found = {"kind": kind} | {name: pack(getattr(layer, name).data, f"{where}.{name}") for name in names}
        return found | ({"activation": activation(layer.activation, where)} if hasattr(layer, "activation") else {})

    return described


def conv(kind: str) -> Callable[[Any, str], dict[str, Any]]:
    def described(layer: Any, where: str) -> dict[str, Any]:
        size = getattr(layer, "size", None)
        (top, bottom), (left, right) = layer.padding
        found = weighted(kind, "w", "b")(layer, where) | {"stride": list(layer.stride), "padding": [top, bottom, left, right]}
        return found if size is None else found | {"size": [size, size] if isinstance(size, int) else list(size)}

    return described


def batch_norm(layer: Any, where: str) -> dict[str, Any]:
    """By its running moments it is y = scale x + shift."""
    scale = layer.gamma.data / np.sqrt(layer.running_var + layer.eps)
    shift = layer.beta.data - scale * layer.running_mean
    return {"kind": "affine", "scale": pack(scale, where), "shift": pack(shift, where)}


def layer_norm(layer: Any, where: str) -> dict[str, Any]:
    return weighted("layer_norm", "gamma", "beta")(layer, where) | {"eps": layer.eps}


LAYERS: dict[type, Callable[[Any, str], dict[str, Any] | None]] = {
    nn.Dense: weighted("dense", "w", "b"),
    nn.Conv2d: conv("conv"),
    nn.ConvTranspose2d: conv("conv_transpose"),
    nn.BatchNorm: batch_norm,
    nn.LayerNorm: layer_norm,
    nn.Dropout: lambda layer, where: None,  # it only acts in training
    nn.Activation: lambda layer, where: {"kind": "activation", "activation": layer.name},
    nn.Flatten: lambda layer, where: {"kind": "flatten"},
    nn.Reshape: lambda layer, where: {"kind": "reshape", "shape": list(layer.shape)},
    nn.GRU: weighted("gru", "w", "u", "b", "c"),
    nn.LSTM: weighted("lstm", "w", "u", "b"),
    Rows: lambda layer, where: {"kind": "rows"},
    LastState: lambda layer, where: {"kind": "last"},
    Repeat: lambda layer, where: {"kind": "repeat", "steps": layer.steps},
}


def describe(network: Any, where: str) -> list[dict[str, Any]]:
    """The layers of a network, each {"kind": ..., its arrays packed}.  Raises UsageError for a layer that the page does not know."""
    if type(network) is nn.Sequential:
        return [d for i, layer in enumerate(network.layers) for d in describe(layer, f"{where}.layers.{i}")]
    if type(network) not in LAYERS:
        known = ", ".join(kind.__name__ for kind in LAYERS)
        raise UsageError(f"the explorer's page knows the layers {known}, and {where} is a {type(network).__name__}; build it of those")
    found = LAYERS[type(network)](network, where)
    return [] if found is None else [found]
