"""Elementwise nonlinearities, and softmax.  Branches test the real part, so that each is analytic away from its kink."""

import numpy as np

from ..backend import xp
from ..engine import Op
from ..kernels.cpu import densities as kernels
from ..kernels.cpu import elementwise
from ..kernels.gpu import KERNELS as GPU


def sigmoid_of(x):
    """1 / (1 + e^-x), with no exponential of a positive number: e^x overflows float32 past 88."""
    module = xp(x)
    positive = x.real >= 0
    e = module.exp(module.where(positive, -x, x))
    return module.where(positive, 1, e) / (1 + e)


def softplus_of(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)"""
    module = xp(x)
    positive = x.real > 0
    return module.where(x.real <= 0, 0, x) + module.log1p(module.exp(module.where(positive, -x, x)))


def relu_reference(x):
    """y = max(x, 0),  dy/dx = [y > 0]"""
    y = xp(x).where(x.real <= 0, 0, x)  # this way round NaN stays NaN, and -inf becomes 0
    return y, (y,)


def relu_vjp(g, y):
    return (xp(g).where(y.real > 0, g, 0),)


def leaky_relu_reference(x, slope=0.01):
    """y = x for x > 0, else slope x"""
    y = xp(x).where(x.real > 0, x, slope * x)
    return y, (x, slope)


def leaky_relu_vjp(g, x, slope):
    return (xp(g).where(x.real > 0, g, slope * g),)


def elu_reference(x, alpha=1.0):
    """y = x for x > 0, else alpha (e^x - 1)        Clevert et al. 2016, eq. 14"""
    module = xp(x)
    positive = x.real > 0
    y = module.where(positive, x, alpha * module.expm1(module.where(positive, 0, x)))
    return y, (positive, y, alpha)


def elu_vjp(g, positive, y, alpha):
    return (xp(g).where(positive, g, g * (y + alpha)),)


def silu_reference(x):
    """y = x sigmoid(x),  dy/dx = s (1 + x (1 - s))        Hendrycks and Gimpel 2016"""
    s = sigmoid_of(x)
    return x * s, (x, s)


def silu_vjp(g, x, s):
    return (g * s * (1 + x * (1 - s)),)


def tanh_reference(x):
    """y = tanh x,  dy/dx = 1 - y^2"""
    y = xp(x).tanh(x)
    return y, (y,)


def tanh_vjp(g, y):
    return (g * (1 - y * y),)


def sigmoid_reference(x):
    """y = 1 / (1 + e^-x),  dy/dx = y (1 - y)"""
    y = sigmoid_of(x)
    return y, (y,)


def sigmoid_vjp(g, y):
    return (g * y * (1 - y),)


def softplus_reference(x):
    """y = log(1 + e^x),  dy/dx = sigmoid(x)"""
    return softplus_of(x), (x,)


def softplus_vjp(g, x):
    return (g * sigmoid_of(x),)


def softmax_reference(x, axis=-1):
    """y_i = e^x_i / sum_j e^x_j along the axis,  gx = y (g - <g, y>)"""
    module = xp(x)
    e = module.exp(x - x.real.max(axis=axis, keepdims=True))  # the largest exponent is 0: no overflow
    y = e / e.sum(axis=axis, keepdims=True)
    return y, (y, axis)


def softmax_vjp(g, y, axis):
    return (y * (g - (g * y).sum(axis=axis, keepdims=True)),)


def log_softmax_reference(x, axis=-1):
    """y_i = x_i - log sum_j e^x_j,  gx = g - softmax(x) sum(g)"""
    module = xp(x)
    shifted = x - x.real.max(axis=axis, keepdims=True)
    y = shifted - module.log(module.exp(shifted).sum(axis=axis, keepdims=True))
    return y, (y, axis)


def log_softmax_vjp(g, y, axis):
    return (g - xp(y).exp(y) * g.sum(axis=axis, keepdims=True),)


def compiled(name):
    """The pair of fast kernels of an elementwise function; `option` is leaky_relu's slope or elu's alpha."""

    def forward(x, option=0.0):
        y = elementwise.unary(name, x, option)
        return y, (x if elementwise.SAVES[name] == "x" else y, option)

    def vjp(g, saved, option):
        return (elementwise.unary_vjp(name, g, saved, option),)

    return forward, vjp


def leaky_relu_numba(x, slope=0.01):
    return compiled_leaky_relu[0](x, slope)


def elu_numba(x, alpha=1.0):
    return compiled_elu[0](x, alpha)


def softmax_numba(x, axis=-1):
    if not x.size or x.ndim == 0:
        value, saved = softmax_reference(x, axis)
        return value, (None, *saved)
    moved = np.moveaxis(x, axis, -1)
    y = kernels.softmax(moved.reshape(-1, moved.shape[-1]))
    return np.ascontiguousarray(np.moveaxis(y.reshape(moved.shape), -1, axis)), (y, axis)


def softmax_numba_vjp(g, y, *saved):
    if y is None:
        return softmax_vjp(g, *saved)
    (axis,) = saved
    moved = np.moveaxis(g, axis, -1)
    gx = kernels.softmax_vjp(moved.reshape(y.shape), y)
    return (np.ascontiguousarray(np.moveaxis(gx.reshape(moved.shape), -1, axis)),)


compiled_leaky_relu, compiled_elu = compiled("leaky_relu"), compiled("elu")
relu = Op("relu", numpy=(relu_reference, relu_vjp), numba=compiled("relu"), cupy=GPU["relu"])
leaky_relu = Op(
    "leaky_relu", numpy=(leaky_relu_reference, leaky_relu_vjp), numba=(leaky_relu_numba, compiled_leaky_relu[1]), cupy=GPU["leaky_relu"]
)
elu = Op("elu", numpy=(elu_reference, elu_vjp), numba=(elu_numba, compiled_elu[1]), cupy=GPU["elu"])
silu = Op("silu", numpy=(silu_reference, silu_vjp), numba=compiled("silu"), cupy=GPU["silu"])
tanh = Op("tanh", numpy=(tanh_reference, tanh_vjp), numba=compiled("tanh"), cupy=GPU["tanh"])
sigmoid = Op("sigmoid", numpy=(sigmoid_reference, sigmoid_vjp), numba=compiled("sigmoid"), cupy=GPU["sigmoid"])
softplus = Op("softplus", numpy=(softplus_reference, softplus_vjp), numba=compiled("softplus"), cupy=GPU["softplus"])
softmax = Op("softmax", numpy=(softmax_reference, softmax_vjp), numba=(softmax_numba, softmax_numba_vjp), cupy=GPU["softmax"])
log_softmax = Op("log_softmax", numpy=(log_softmax_reference, log_softmax_vjp), cupy=GPU["log_softmax"])
