"""Spectral normalization: a layer whose weight has the largest singular value 1, so that a critic cannot become arbitrarily steep."""

import copy
import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, effect
from ..errors import UsageError
from ..random import Stream
from .module import Module


class SpectralNorm(Module):
    """The layer with w / sigma(w) in the place of its weight w, sigma the largest singular value of w as a matrix (inputs, outputs).

    Power iteration follows sigma: while training, each forward does one step, v <- W u / |W u|, u <- W' v / |W' v|, and sigma = v' W u
    with u and v constants.  In evaluation u stays, so that a function of x alone remains.  The bias is as it was.

    For a convolution the matrix is (KH KW C, O), and sigma that of the kernel, not of the whole linear map.
    T. Miyato et al., "Spectral normalization for generative adversarial networks", 2018, algorithm 1.
    """

    buffers = ("u",)

    def __init__(self, layer: Any, rng: Stream, steps: int = 15):
        """steps    of power iteration before the first forward"""
        if not isinstance(getattr(layer, "w", None), Tensor):
            raise UsageError(f"SpectralNorm: {type(layer).__name__} has no weight w; give it a Dense, a Conv2d or a ConvTranspose2d")
        self.layer = layer
        w = layer.w.data.reshape(-1, layer.w.shape[-1])
        self.u = normalized(rng.normal((w.shape[1],)))
        for _ in range(steps):
            self.u = normalized(w.T @ normalized(w @ self.u))

    def forward(self, x: Any) -> Any:
        w = self.layer.w
        matrix = ops.reshape(w, (math.prod(w.shape[:-1]), w.shape[-1]))
        if self.training:
            iterate(self.u, matrix.data)
        u, v = constant_of(copied, self.u), constant_of(direction, matrix.data, self.u)
        sigma = ops.matmul(ops.matmul(v, matrix), u)
        bare = copy.copy(self.layer)
        bare.w = w / sigma
        return bare(x)


def normalized(a: Any) -> Any:
    """a / |a|, and a where that is 0."""
    module = xp(a)
    length = module.sqrt((a * a).sum())
    return a / module.where(length == 0, a.dtype.type(1), length).astype(a.dtype)


def product(matrix: Any, u: Any) -> Any:
    """W u.  On a GPU without cuBLAS, which no graph can hold.     (M, N), (N,) -> (M,)"""
    return matrix @ u if xp(matrix) is np else (matrix * u).sum(axis=1)


def direction(matrix: Any, u: Any) -> Any:
    """W u / |W u|"""
    return normalized(product(matrix.real, u))


def copied(u: Any) -> Any:
    """As it is now: the next forward moves u before this one's gradient is asked for."""
    return u.copy()


@effect
def iterate(u: Any, matrix: Any) -> None:
    """One step of power iteration, in place."""
    u[...] = normalized(product(matrix.T, normalized(product(matrix, u))))
