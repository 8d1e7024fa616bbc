"""Modules: layers with parameters, and containers."""

from .averages import Average
from .layers import (
    ACTIVATIONS,
    FUSED,
    GDN,
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
from .recurrent import GRU, LSTM, ConvGRU
from .spectral import SpectralNorm
from .unet import Film, FilmMLP, GroupNorm, ResidualBlock, TimeEmbedding, UNet

__all__ = [
    "ACTIVATIONS",
    "FUSED",
    "GDN",
    "GRU",
    "LSTM",
    "Activation",
    "Average",
    "BatchNorm",
    "Conv2d",
    "ConvGRU",
    "ConvTranspose2d",
    "Dense",
    "Dropout",
    "Film",
    "FilmMLP",
    "Flatten",
    "GroupNorm",
    "LayerNorm",
    "Module",
    "Reshape",
    "ResidualBlock",
    "Sequential",
    "SpectralNorm",
    "TimeEmbedding",
    "UNet",
    "evaluating",
    "uniform_init",
]
