"""Activations and their gradients, one pass over memory each.

    y = unary("softplus", x);  gx = unary_vjp("softplus", g, x)

What a gradient needs saved is x or y, whichever makes it cheaper: `SAVES` says which.  One kernel holds a loop per function, chosen by a
number: all of them compile in two seconds, once, where a pair of kernels each would take half a minute.
"""

import numba
import numpy as np

from ...errors import ShapeError, UsageError
from . import vecmath
from .jit import kernel
from .vecmath import LARGEST, F, at_least, where

SAVES = {
    "relu": "y",
    "leaky_relu": "x",
    "elu": "y",
    "silu": "x",
    "tanh": "y",
    "sigmoid": "y",
    "softplus": "x",
    "exp": "y",
    "log": "x",
    "expm1": "y",
    "log1p": "x",
}
CODES = {name: code for code, name in enumerate(SAVES)}
RELU, LEAKY_RELU, ELU, SILU, TANH, SIGMOID, SOFTPLUS, EXP, LOG, EXPM1, LOG1P = CODES.values()

PARALLEL_FROM = 32_768  # numbers: some 5 us of work, against 1 us (22 after a pause) to wake a second thread
BLOCK = 4_096  # numbers per task: fixed, so that the bits of the result do not depend on the number of threads


def unary(name: str, x: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """y = f(x) for a name in SAVES; alpha is leaky_relu's slope and elu's alpha (>= 0).   any shape, float32 -> same shape"""
    y = np.empty(x.shape, F)
    run = _forward if x.size < PARALLEL_FROM else _forward_parallel
    run(_code(name, alpha), F(alpha), np.ascontiguousarray(x, F).reshape(-1), y.reshape(-1))
    return y


def unary_vjp(name: str, g: np.ndarray, saved: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """gx = g f'(x), from g = dL/dy and x or y, as SAVES says.   -> shape of g"""
    if g.shape != saved.shape:
        raise ShapeError(f"{name}: the gradient is {g.shape}, the saved array is {saved.shape}; need equal shapes")
    gx = np.empty(g.shape, F)
    run = _backward if g.size < PARALLEL_FROM else _backward_parallel
    flat_g, flat_saved = np.ascontiguousarray(g, F).reshape(-1), np.ascontiguousarray(saved, F).reshape(-1)
    run(_code(name, alpha), F(alpha), flat_g, flat_saved, gx.reshape(-1))
    return gx


def _code(name: str, alpha: float) -> int:
    if name not in CODES:
        raise UsageError(f"there is no kernel {name!r}; choose one of {', '.join(CODES)}")
    if name == "elu" and alpha < 0:
        raise UsageError(f"elu: alpha is {alpha}; its gradient is found from the sign of y, which needs alpha >= 0")
    return CODES[name]


@kernel
def _forward(code, alpha, x, y):
    n = x.size
    if code == RELU:
        for i in range(n):
            y[i] = at_least(x[i], F(0))
    elif code == LEAKY_RELU:
        for i in range(n):
            y[i] = where(x[i] < F(0), alpha * x[i], x[i])
    elif code == ELU:
        for i in range(n):
            y[i] = where(x[i] < F(0), alpha * vecmath.expm1(x[i]), x[i])
    elif code == SILU:
        for i in range(n):
            y[i] = at_least(x[i], -LARGEST) * vecmath.sigmoid(x[i])  # the limit at -inf is 0, not -inf * 0
    elif code == TANH:
        for i in range(n):
            y[i] = vecmath.tanh(x[i])
    elif code == SIGMOID:
        for i in range(n):
            y[i] = vecmath.sigmoid(x[i])
    elif code == SOFTPLUS:
        for i in range(n):
            y[i] = vecmath.softplus(x[i])
    elif code == EXP:
        for i in range(n):
            y[i] = vecmath.exp(x[i])
    elif code == LOG:
        for i in range(n):
            y[i] = vecmath.log(x[i])
    elif code == EXPM1:
        for i in range(n):
            y[i] = vecmath.expm1(x[i])
    elif code == LOG1P:
        for i in range(n):
            y[i] = vecmath.log1p(x[i])


@kernel
def _backward(code, alpha, g, saved, gx):
    n = g.size
    if code == RELU:
        for i in range(n):
            gx[i] = where(saved[i] > F(0), g[i], F(0))
    elif code == LEAKY_RELU:
        for i in range(n):
            gx[i] = where(saved[i] > F(0), g[i], alpha * g[i])
    elif code == ELU:
        for i in range(n):
            gx[i] = where(saved[i] > F(0), g[i], g[i] * (saved[i] + alpha))  # alpha e^x = y + alpha
    elif code == SILU:
        for i in range(n):
            x = vecmath.at_most(at_least(saved[i], -LARGEST), LARGEST)
            gx[i] = g[i] * (vecmath.sigmoid(x) * (F(1) + x * vecmath.sigmoid(-x)))
    elif code == TANH:
        for i in range(n):
            gx[i] = g[i] * ((F(1) - saved[i]) * (F(1) + saved[i]))
    elif code == SIGMOID:
        for i in range(n):
            gx[i] = g[i] * (saved[i] * (F(1) - saved[i]))
    elif code == SOFTPLUS:
        for i in range(n):
            gx[i] = g[i] * vecmath.sigmoid(saved[i])
    elif code == EXP:
        for i in range(n):
            gx[i] = g[i] * saved[i]
    elif code == LOG:
        for i in range(n):
            gx[i] = g[i] / saved[i]
    elif code == EXPM1:
        for i in range(n):
            gx[i] = g[i] * (F(1) + saved[i])
    elif code == LOG1P:
        for i in range(n):
            gx[i] = g[i] / (F(1) + saved[i])


@kernel(parallel=True)
def _forward_parallel(code, alpha, x, y):
    for block in numba.prange((x.size + BLOCK - 1) // BLOCK):
        i, j = block * BLOCK, (block + 1) * BLOCK
        _forward(code, alpha, x[i:j], y[i:j])


@kernel(parallel=True)
def _backward_parallel(code, alpha, g, saved, gx):
    for block in numba.prange((g.size + BLOCK - 1) // BLOCK):
        i, j = block * BLOCK, (block + 1) * BLOCK
        _backward(code, alpha, g[i:j], saved[i:j], gx[i:j])
