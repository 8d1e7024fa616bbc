"""Sums, means, extremes and log-sum-exp.  `axis` is None (everything), an int, or a tuple of ints."""

import math

import numpy as np

from ..backend import xp
from ..engine import Op
from ..errors import ShapeError
from ..kernels.cpu import densities as kernels
from ..kernels.cpu import means
from ..kernels.gpu import KERNELS as GPU
from ..kernels.lazy import kernels_only

FEW = 4096  # numbers of which the kernel takes the mean


def _axes(axis, ndim):
    """The reduced axes as a tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _spread(g, shape, axes):
    """The adjoint of a sum over `axes`: every element gets its sum's gradient."""
    spread = xp(g).empty(shape, g.dtype)
    spread[...] = g.reshape([1 if i in axes else n for i, n in enumerate(shape)])
    return spread


def sum_reference(x, axis=None, keepdims=False):
    """y = sum x"""
    return x.sum(axis=axis, keepdims=keepdims), (x.shape, _axes(axis, x.ndim))


def sum_vjp(g, shape, axes):
    return (_spread(g, shape, axes),)


def mean_reference(x, axis=None, keepdims=False):
    """y = sum x / n"""
    axes = _axes(axis, x.ndim)
    n = math.prod([x.shape[i] for i in axes])
    if not n:
        raise ShapeError(f"mean: x is {x.shape}, and no numbers along axis {axis} have no mean; need at least one")
    return x.sum(axis=axis, keepdims=keepdims) / x.dtype.type(n), (x.shape, axes, n)  # a third of the time of NumPy's own mean


def mean_vjp(g, shape, axes, n):
    return (_spread(g / n, shape, axes),)


def max_reference(x, axis=None, keepdims=False):
    """y = max x over one axis or over all; the gradient goes to the first of the largest elements"""
    return _extreme(x, axis, keepdims, x.real.argmax)


def min_reference(x, axis=None, keepdims=False):
    """y = min x over one axis or over all; the gradient goes to the first of the smallest elements"""
    return _extreme(x, axis, keepdims, x.real.argmin)


def _extreme(x, axis, keepdims, argument):
    module = xp(x)
    if axis is None:
        index = module.asarray(argument())
        y = x.reshape(-1)[index]
        return (y.reshape((1,) * x.ndim) if keepdims else y), (x.shape, None, index)
    index = module.expand_dims(argument(axis=axis), axis)
    y = module.take_along_axis(x, index, axis)
    return (y if keepdims else y.squeeze(axis)), (x.shape, axis, index)


def extreme_vjp(g, shape, axis, index):
    module = xp(g)
    if axis is None:
        gx = module.zeros(math.prod(shape), g.dtype)
        gx[index] = g.reshape(())
        return (gx.reshape(shape),)
    along = module.arange(shape[axis]).reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    return (module.where(along == index, g.reshape(index.shape), g.dtype.type(0)),)  # CuPy before 14 has no put_along_axis


def logsumexp_reference(x, axis=None, keepdims=False):
    """y = log sum e^x = m + log sum e^(x - m) with m = max x,  dy/dx = softmax(x)"""
    module = xp(x)
    m = x.real.max(axis=axis, keepdims=True)
    m = module.where(module.isfinite(m), m, 0)  # -inf - -inf is NaN, and log 0 = -inf is the answer
    with np.errstate(divide="ignore", over="ignore"):  # x - m beyond the largest number is -inf, whose exponential is 0 all the same
        e = module.exp(x - m)
        total = e.sum(axis=axis, keepdims=True)
        y = module.log(total) + m
    return (y if keepdims else y.squeeze(axis)), (e, total)


def logsumexp_vjp(g, e, total):
    # not e^(x - y): y = -5000 in float32 is known to 2e-4, and so the gradient would be
    return (g.reshape(total.shape) * (e / xp(e).where(total == 0, 1, total)),)


# --- fast kernels, over one axis or all; anything else runs the reference --------------------------------------------------------------


@kernels_only
def mean_numba(x, axis=None, keepdims=False):
    if axis is None and not keepdims and 0 < x.size <= FEW and x.flags.c_contiguous:
        return means.mean(x), (x.shape,)
    value, saved = mean_reference(x, axis, keepdims)
    return value, (None, *saved)


@kernels_only
def mean_numba_vjp(g, shape, *saved):
    return mean_vjp(g, *saved) if shape is None else (means.mean_vjp(g, shape),)


@kernels_only
def logsumexp_numba(x, axis=None, keepdims=False):
    if isinstance(axis, tuple) or not x.size:
        value, saved = logsumexp_reference(x, axis, keepdims)
        return value, (None, *saved)
    outer, inner = _around(x.shape, axis)
    lines = kernels.lines(x.reshape(outer, -1, inner))
    axes = _axes(axis, x.ndim)
    kept = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
    return kernels.logsumexp(lines).reshape(kept), (lines, x.shape, outer, inner)


@kernels_only
def logsumexp_numba_vjp(g, lines, *saved):
    if lines is None:
        return logsumexp_vjp(g, *saved)
    shape, outer, inner = saved
    gx = kernels.logsumexp_vjp(g.reshape(-1), lines)
    return (kernels.lines(gx.reshape(outer, inner, -1)).reshape(shape),)


def _around(shape, axis):
    """How many numbers stand before an axis and behind it: x.reshape(before, -1, behind) has it in the middle."""
    return (1, 1) if axis is None else (math.prod(shape[: axis % len(shape)]), math.prod(shape[axis % len(shape) + 1 :]))


sum = Op("sum", numpy=(sum_reference, sum_vjp))
mean = Op("mean", numpy=(mean_reference, mean_vjp), numba=(mean_numba, mean_numba_vjp))
max = Op("max", numpy=(max_reference, extreme_vjp))
min = Op("min", numpy=(min_reference, extreme_vjp))
logsumexp = Op(
    "logsumexp",
    numpy=(logsumexp_reference, logsumexp_vjp),
    numba=(logsumexp_numba, logsumexp_numba_vjp),
    cupy=GPU["logsumexp"],
)
