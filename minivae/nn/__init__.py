"""Modules: layers with parameters, and containers."""

from .averages import averaged_copy, move_averages
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
from .spectral import SpectralNorm

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
    "SpectralNorm",
    "averaged_copy",
    "evaluating",
    "move_averages",
    "uniform_init",
]
