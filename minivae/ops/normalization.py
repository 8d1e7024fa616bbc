"""Batch norm, layer norm, group norm, generalized divisive normalization, and dropout."""

import math

import numpy as np

from ..backend import xp
from ..engine import Op, Tensor, constant_of
from ..errors import ShapeError, UsageError
from ..kernels.cpu import groups as group_kernels
from ..kernels.cpu import normalization as kernels
from ..kernels.gpu import KERNELS as GPU
from ..kernels.lazy import kernels_only
from .arithmetic import multiply


def batch_norm_reference(x, gamma, beta, eps=1e-5):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, moments over all axes but the last.     x (..., C) -> y (..., C), mean (C,), var (C,)

    The variance is the biased one (1/n).  S. Ioffe and C. Szegedy, "Batch normalization", 2015, algorithm 1.
    """
    axes = tuple(range(x.ndim - 1))
    n = math.prod(x.shape[:-1])
    if n < 2:
        raise ShapeError(f"batch_norm: x is {x.shape}; need at least 2 values per channel to estimate a variance")
    mean = x.mean(axis=axes)
    centred = x - mean
    var = (centred * centred).mean(axis=axes)
    inverse = (var + eps) ** -0.5
    normal = centred * inverse
    return (normal * gamma + beta, mean, var), (normal, centred, inverse, gamma, axes, n)


def batch_norm_vjp(g, normal, centred, inverse, gamma, axes, n):
    gy, gmean, gvar = g
    gnormal = gy * gamma
    gx = inverse * (gnormal - gnormal.mean(axis=axes) - normal * (gnormal * normal).mean(axis=axes))
    gx = gx + gmean / n + gvar * (2 / n) * centred
    return gx, (gy * normal).sum(axis=axes), gy.sum(axis=axes)


def layer_norm_reference(x, gamma, beta, eps=1e-5):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, moments over the last axis.     x (..., C) -> (..., C)

    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse = ((centred * centred).mean(axis=-1, keepdims=True) + eps) ** -0.5
    normal = centred * inverse
    return normal * gamma + beta, (normal, inverse, gamma)


def layer_norm_vjp(g, normal, inverse, gamma):
    gnormal = g * gamma
    gx = inverse * (gnormal - gnormal.mean(axis=-1, keepdims=True) - normal * (gnormal * normal).mean(axis=-1, keepdims=True))
    return gx, g * normal, g  # gamma and beta were broadcast over the rows: the engine sums over them


def group_norm_reference(x, scale, shift, groups=1, eps=1e-5):
    """y = scale (x - mean) / sqrt(var + eps) + shift, moments of each example over its pixels and over groups of neighbouring channels.

    x (N, ..., C); scale and shift (C,), or (N, C), each example's own -> (N, ..., C)        Y. Wu and K. He, "Group normalization", 2018
    """
    check_group_norm(x, scale, shift, groups)
    parts, (scale, shift) = grouped(x, groups), (grouped(a.reshape(-1, x.shape[-1]), groups) for a in (scale, shift))
    centred = parts - parts.mean(axis=(1, 3), keepdims=True)
    inverse = ((centred * centred).mean(axis=(1, 3), keepdims=True) + eps) ** -0.5
    normal = centred * inverse
    return (normal * scale + shift).reshape(x.shape), (normal, inverse, scale)


def group_norm_vjp(g, normal, inverse, scale):
    parts = g.reshape(normal.shape)
    gnormal = parts * scale
    along = gnormal.mean(axis=(1, 3), keepdims=True), (gnormal * normal).mean(axis=(1, 3), keepdims=True)
    gx = inverse * (gnormal - along[0] - normal * along[1])
    channels = (len(g), g.shape[-1])  # where scale and shift are all examples', the engine sums over these
    return gx.reshape(g.shape), (parts * normal).sum(axis=1).reshape(channels), parts.sum(axis=1).reshape(channels)


def grouped(a, groups):
    """(N, ..., C) -> (N, pixels, groups, C / groups)"""
    return a.reshape(len(a), math.prod(a.shape[1:-1]), groups, a.shape[-1] // groups)


def check_group_norm(x, scale, shift, groups):
    channels = x.shape[-1] if x.ndim > 1 and math.prod(x.shape[1:]) else 0
    if not channels or groups < 1 or channels % groups or not {scale.shape, shift.shape} <= {(channels,), (len(x), channels)}:
        raise ShapeError(
            f"group_norm: x is {x.shape}, scale {scale.shape}, shift {shift.shape}, {groups} groups; "
            "need (N, ..., C) with pixels, (C,) or (N, C) twice, and groups that divide C"
        )


def dropout(x, rate, rng):
    """y = x m / (1 - rate) with m ~ Bernoulli(1 - rate) drawn from rng: E[y] = x.        Srivastava et al. 2014"""
    if not 0 <= rate < 1:
        raise UsageError(f"dropout: rate is {rate}; need 0 <= rate < 1")
    data = x.data if isinstance(x, Tensor) else x
    return multiply(x, constant_of(kept, rng.uniform(data.shape, like=data), rate, data.real.dtype))


def kept(u, rate, dtype):
    """1 / (1 - rate) where u >= rate, else 0."""
    return xp(u).where(u >= rate, 1 / (1 - rate), 0.0).astype(dtype)


def batch_norm_numba(x, gamma, beta, eps=1e-5):
    if gamma.shape != x.shape[-1:] or beta.shape != gamma.shape or x.size < 2 * len(gamma) or not x.size:
        value, saved = batch_norm_reference(x, gamma, beta, eps)
        return value, (None, *saved)
    y, mean, var, inverse = kernels.batch_norm(x.reshape(-1, x.shape[-1]), gamma, beta, eps)
    return (y.reshape(x.shape), mean, var), (x, mean, inverse, gamma)


def batch_norm_numba_vjp(g, x, *saved):
    if x is None:
        return batch_norm_vjp(g, *saved)
    gy, gmean, gvar = g
    gx, ggamma, gbeta = kernels.batch_norm_vjp(gy.reshape(-1, x.shape[-1]), gmean, gvar, x.reshape(-1, x.shape[-1]), *saved)
    return gx.reshape(x.shape), ggamma, gbeta


@kernels_only
def group_norm_numba(x, scale, shift, groups=1, eps=1e-5):
    check_group_norm(x, scale, shift, groups)
    y, mean, inverse = group_kernels.group_norm(x, scale, shift, groups, eps)
    return y, (x, scale, mean, inverse)


@kernels_only
def group_norm_numba_vjp(g, x, scale, mean, inverse):
    return group_kernels.group_norm_vjp(g, x, scale, mean, inverse)


batch_norm = Op(
    "batch_norm",
    numpy=(batch_norm_reference, batch_norm_vjp),
    numba=(batch_norm_numba, batch_norm_numba_vjp),
    cupy=GPU["batch_norm"],
)
layer_norm = Op("layer_norm", numpy=(layer_norm_reference, layer_norm_vjp))
group_norm = Op("group_norm", numpy=(group_norm_reference, group_norm_vjp), numba=(group_norm_numba, group_norm_numba_vjp))


def gdn_reference(x, beta, gamma, inverse=False):
    """y_i = x_i / sqrt(n_i), or x_i sqrt(n_i) for the inverse;  n_i = beta_i + sum_j x_j^2 gamma_ji, over the channels of each pixel.

    x (..., C), beta (C,), gamma (C, C) -> (..., C); n must be positive.   J. Balle, V. Laparra and E. P. Simoncelli, "Density modeling of
    images using a generalized normalization transformation", 2016, eq. 4
    """
    if x.ndim < 1 or beta.shape != x.shape[-1:] or gamma.shape != 2 * x.shape[-1:]:
        raise ShapeError(f"gdn: x is {x.shape}, beta {beta.shape}, gamma {gamma.shape}; need (..., C), (C,) and (C, C)")
    n = beta + product(x * x, gamma)
    if xp(x) is np and not bool((n.real > 0).all()):  # a GPU is not waited for: there it is NaN, which stops training
        raise ShapeError(f"gdn: beta + x^2 gamma goes down to {n.real.min():g}; need beta > 0 and gamma >= 0")
    root = n**0.5
    return (x * root if inverse else x / root), (x, gamma, n, root, inverse)


def gdn_vjp(g, x, gamma, n, root, inverse):
    gn = g * x * root / (2 * n) if inverse else -g * x / (2 * n * root)  # d root = dn / (2 root)
    gx = (g * root if inverse else g / root) + 2 * x * product(gn, gamma.T)
    rows = (math.prod(x.shape[:-1]), x.shape[-1])
    each = gn.reshape(rows)
    return gx, each.sum(axis=0), product((x * x).reshape(rows).T, each)


def product(a, b):
    """a @ b; float32 on a GPU by the library's kernel, which a graph can hold.     (..., C), (C, K) -> (..., K)"""
    if xp(a) is np or a.dtype != np.float32:
        return a @ b
    rows = GPU["matmul"][0](a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b)[0]
    return rows.reshape(*a.shape[:-1], b.shape[-1])


gdn = Op("gdn", numpy=(gdn_reference, gdn_vjp))
