"""Modules: layers with parameters, and containers."""

from .layers import (
    ACTIVATIONS,
    FUSED,
    Activation,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    Reshape,
    Sequential,
)
from .module import Module, evaluating, uniform_init
from .recurrent import GRU, LSTM

__all__ = [
    "ACTIVATIONS",
    "FUSED",
    "GRU",
    "LSTM",
    "Activation",
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "Module",
    "Reshape",
    "Sequential",
    "evaluating",
    "uniform_init",
]
