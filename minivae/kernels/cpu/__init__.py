"""Kernels for the processor, compiled by numba; they are loaded, and numba with them, when the first is needed."""

from typing import Any

from ..lazy import Lazy

USED = {
    "adam",
    "bits_back",
    "cache",
    "conv",
    "densities",
    "elementwise",
    "gammas",
    "gaussians",
    "gemm",
    "groups",
    "jit",
    "levels",
    "means",
    "normalization",
    "peak",
    "philox",
    "rans",
    "tile",
}
USED |= {"watch"}  # by other rooms


def __getattr__(name: str) -> Any:
    """`from minivae.kernels.cpu import gemm` loads nothing."""
    if name in USED:
        return Lazy(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
