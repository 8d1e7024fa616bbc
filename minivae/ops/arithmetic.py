"""Elementwise arithmetic with broadcasting.  The engine sums a gradient back over broadcast axes, so no vjp here mentions shapes."""

import numpy as np

from ..backend import xp
from ..engine import Op, makes
from ..errors import ShapeError


@makes(np.add)
def add_reference(a, b):
    """y = a + b"""
    return a + b, ()


def add_vjp(g):
    return g, g


@makes(np.subtract)
def subtract_reference(a, b):
    """y = a - b"""
    return a - b, ()


@makes(np.negative)
def subtract_vjp(g):
    return g, -g


@makes(np.multiply)
def multiply_reference(a, b):
    """y = a b,  dy = b da + a db"""
    return a * b, (a, b)


def multiply_vjp(g, a, b):
    return g * b, g * a


def divide_reference(a, b):
    """y = a / b,  dy = (da - y db) / b"""
    y = a / b
    return y, (b, y)


def divide_vjp(g, b, y):
    ga = g / b
    return ga, -ga * y


@makes(np.negative)
def negative_reference(x):
    """y = -x"""
    return -x, ()


@makes(np.negative)
def negative_vjp(g):
    return (-g,)


def power_reference(x, exponent):
    """y = x^n,  dy/dx = n x^(n-1),  dy/dn = y log x where n is an array or a Tensor: x is positive then"""
    if hasattr(exponent, "dtype") and exponent.ndim:
        base = x.real if hasattr(x, "dtype") else x
        if not bool((base > 0).all() if hasattr(base, "dtype") else base > 0):
            low = base.min() if hasattr(base, "dtype") else base
            raise ShapeError(f"power: x goes down to {low:g} and the exponent is an array; need x > 0, or a number for an exponent")
    y = x**exponent
    return y, (x, exponent, y)


def power_vjp(g, x, exponent, y, needs=(True, False)):
    if not hasattr(exponent, "dtype") or not exponent.ndim:
        return (g * exponent * x ** ((exponent or 1) - 1),)  # 0 x^-1 is NaN at 0, 0 x^0 is not
    log = xp(exponent).log(x)
    return g * exponent * y / x if needs[0] else None, g * y * log if needs[1] else None


def exp_reference(x):
    """y = e^x,  dy/dx = y"""
    y = xp(x).exp(x)
    return y, (y,)


def exp_vjp(g, y):
    return (g * y,)


def expm1_reference(x):
    """y = e^x - 1 without cancellation near 0,  dy/dx = y + 1"""
    y = xp(x).expm1(x)
    return y, (y,)


def expm1_vjp(g, y):
    return (g * (y + 1),)


def log_reference(x):
    """y = log x,  dy/dx = 1 / x"""
    return xp(x).log(x), (x,)


def log_vjp(g, x):
    return (g / x,)


def log1p_reference(x):
    """y = log(1 + x),  dy/dx = 1 / (1 + x)"""
    return xp(x).log1p(x), (x,)


def log1p_vjp(g, x):
    return (g / (1 + x),)


def sqrt_reference(x):
    """y = x^(1/2),  dy/dx = 1 / (2 y)"""
    y = xp(x).sqrt(x)
    return y, (y,)


def sqrt_vjp(g, y):
    return (g / (2 * y),)


def square_reference(x):
    """y = x^2,  dy/dx = 2 x"""
    return x * x, (x,)


def square_vjp(g, x):
    return (2 * g * x,)


def absolute_reference(x):
    """y = |x|,  dy/dx = sign x, and 0 at the kink"""
    # the sign of the real part, not the modulus: |x| then stays analytic away from 0, as a complex step needs
    sign = xp(x).sign(x.real)
    return x * sign, (sign,)


def absolute_vjp(g, sign):
    return (g * sign,)


def maximum_reference(a, b):
    """y = max(a, b); at a tie half of the gradient goes to each side"""
    return _select(a, b, a.real > b.real, a.real == b.real)


def minimum_reference(a, b):
    """y = min(a, b); at a tie half of the gradient goes to each side"""
    return _select(a, b, a.real < b.real, a.real == b.real)


def _select(a, b, take_a, tie):
    module = xp(take_a)
    take_a = take_a | module.isnan(a.real)  # a NaN loses every comparison: a's must win, b's does so by itself
    value = module.where(take_a, a, b)
    return value, ((take_a + 0.5 * tie).astype(value.real.dtype),)


def select_vjp(g, share):
    return g * share, g * (1 - share)


def where_reference(condition, a, b):
    """y = a where the condition holds, else b"""
    return xp(condition).where(condition, a, b), (condition,)


def where_vjp(g, condition):
    module = xp(g)
    return None, module.where(condition, g, 0), module.where(condition, 0, g)


add = Op("add", numpy=(add_reference, add_vjp))
subtract = Op("subtract", numpy=(subtract_reference, subtract_vjp))
multiply = Op("multiply", numpy=(multiply_reference, multiply_vjp))
divide = Op("divide", numpy=(divide_reference, divide_vjp))
negative = Op("negative", numpy=(negative_reference, negative_vjp))
power = Op("power", numpy=(power_reference, power_vjp))
exp = Op("exp", numpy=(exp_reference, exp_vjp))
expm1 = Op("expm1", numpy=(expm1_reference, expm1_vjp))
log = Op("log", numpy=(log_reference, log_vjp))
log1p = Op("log1p", numpy=(log1p_reference, log1p_vjp))
sqrt = Op("sqrt", numpy=(sqrt_reference, sqrt_vjp))
square = Op("square", numpy=(square_reference, square_vjp))
absolute = Op("absolute", numpy=(absolute_reference, absolute_vjp))
maximum = Op("maximum", numpy=(maximum_reference, select_vjp))
minimum = Op("minimum", numpy=(minimum_reference, select_vjp))
where = Op("where", numpy=(where_reference, where_vjp))
