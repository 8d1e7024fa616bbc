"""Penalties of a critic's gradient: R1 and WGAN-GP, as differentiable functions.

With g_n = dD(x_n)/dx_n, P(theta) = 1/N sum_n phi(|g_n|) needs second derivatives, and only those: its gradient is the mixed Hessian of D
times a vector that is held constant,

    dP/dtheta = d/de  d/dtheta sum_n D(x_n + e v_n)  at e = 0,      v_n = phi'(|g_n|) g_n / (N |g_n|).

Two backward passes on either side of x give it in float32, by a central difference.  Its step moves x by h = eps^(1/3) of its own size,
where what the difference leaves out, h^2, and what rounding puts in, eps / h, are both eps^(2/3), 2e-5.  In float64 one pass at a complex
x + i h v gives it to rounding.

L. Mescheder, A. Geiger and S. Nowozin, "Which training methods for GANs do actually converge?", 2018; I. Gulrajani et al., "Improved
training of Wasserstein GANs", 2017.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .backend import Array, xp
from .engine import Tensor, constant_of, gradients, made_by, runner, with_grad
from .errors import UsageError
from .nn import BatchNorm, Module

TINY = 1e-200  # of a complex step: its square is no number


def r1_penalty(critic: Module, x: Any, gamma: float = 1.0) -> Tensor:
    """gamma / 2 mean_n |dD(x_n)/dx_n|^2, on real data x.  It differs from 0 where a critic that cannot tell still has a slope.     -> ()"""
    return penalty(critic, x, partial(_r1, gamma=gamma))


def gradient_penalty(critic: Module, x: Any, weight: float = 10.0, target: float = 1.0) -> Tensor:
    """weight mean_n (|dD(x_n)/dx_n| - target)^2, on points between real and generated data.     -> ()"""
    return penalty(critic, x, partial(_distance, weight=weight, target=target))


def _r1(norm: Array, gamma: float) -> tuple[Array, Array]:
    return gamma / 2 * norm**2, gamma * norm


def _distance(norm: Array, weight: float, target: float) -> tuple[Array, Array]:
    return weight * (norm - target) ** 2, 2 * weight * (norm - target)


def penalty(critic: Module, x: Any, phi: Callable[[Array], tuple[Array, Array]]) -> Tensor:
    """mean_n phi(|dD(x_n)/dx_n|), with a gradient for the critic's parameters.     phi(norms (N,)) -> values, slopes;  x (N, ...) -> ()

    x is data: it has no gradient of its own here.  Each D(x_n) may depend on x_n alone: a BatchNorm in training mode mixes them."""
    if isinstance(x, Tensor):
        if x.number:
            raise UsageError("penalty: x is a variable, and the penalty has no gradient for it; pass its .data, or stop_gradient(x)")
        x = x.data
    if any(isinstance(layer, BatchNorm) and layer.training for layer in critic.modules()):
        raise UsageError("penalty: the critic has a BatchNorm in training mode, whose D(x_n) depends on all x; use LayerNorm, or none")
    params = critic.parameters()
    slope = slopes(critic, x)
    value, v = runner.get()(_value_and_direction, slope, phi)

    def vjp(g: Array) -> tuple[Array, ...]:
        if x.dtype == np.float64:
            moved = constant_of(_shifted, x, v, 1j * TINY).data
            return tuple(runner.get()(_imaginary, part, g) for part in _parameter_gradients(critic, moved, params))
        step = constant_of(_step, x, v).data
        ahead, behind = (_parameter_gradients(critic, constant_of(_shifted, x, v, step, sign).data, params) for sign in (1, -1))
        return tuple(runner.get()(_difference, a, b, step, g) for a, b in zip(ahead, behind, strict=True))

    vjp.composite = True  # type: ignore[attr-defined]  # its parts are recorded one by one
    return made_by("penalty", value, vjp, tuple(params))


def slopes(critic: Any, x: Array) -> Array:
    """dD(x_n)/dx_n of each example.     x (N, ...) -> (N, ...)"""
    variable = Tensor(x)
    with with_grad():
        return gradients(critic(variable).sum(), [variable])[0]


def _parameter_gradients(critic: Any, x: Array, params: list[Tensor]) -> list[Array]:
    return gradients(critic(x).sum(), params)


def _value_and_direction(slope: Array, phi: Any) -> tuple[Array, Array]:
    module, n = xp(slope), len(slope)
    shape = (n, *[1] * (slope.ndim - 1))
    norm = module.sqrt((slope.reshape(n, -1) ** 2).sum(axis=1))
    values, along = phi(norm)
    unit = slope / module.where(norm == 0, 1, norm).reshape(shape)  # where the slope is 0 it has no direction, and the vector is 0
    return module.asarray(values.mean(), slope.dtype), (along.reshape(shape) * unit / n).astype(slope.dtype)


def _step(x: Array, v: Array) -> Array:
    """How far along v: eps^(1/3) of the size of x, or of 1 where x is smaller."""
    module = xp(x)
    size, length = module.sqrt((x * x).mean()), module.sqrt((v * v).mean())
    step = module.finfo(x.dtype).eps ** (1 / 3) * module.maximum(size, 1) / module.where(length == 0, 1, length)
    return module.asarray(step, x.dtype)


def _shifted(x: Array, v: Array, step: Any, sign: float = 1) -> Array:
    return x + sign * step * v


def _difference(ahead: Array, behind: Array, step: Array, g: Array) -> Array:
    return (ahead - behind) * (g / (2 * step))


def _imaginary(part: Array, g: Array) -> Array:
    return part.imag / TINY * g
