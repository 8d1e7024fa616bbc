"""exp, tanh and sigmoid of a float32, without calls and branches so that loops over them become vector code."""

import numba
import numpy as np
from llvmlite import ir
from numba import types

from .jit import intrinsic

f = np.float32


@intrinsic
def _float_of_bits(typing_context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


# no "reassoc": r = x - n * ln 2 is computed in two steps on purpose
_precise = numba.njit(forceinline=True, error_model="numpy", fastmath={"contract", "nsz", "afn"})


@_precise
def exp(x):
    """e^x (Cephes expf, 1 ulp); 0 below -87.3, inf above 88.72, NaN kept."""
    z = f(-88) if x < f(-88) else (f(89) if x > f(89) else x)
    n = np.floor(z * f(1.44269504088896341) + f(0.5))
    r = z - n * f(0.693359375)
    r = r - n * f(-2.12194440e-4)
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    y = p * r * r + r + f(1)
    y = (y + y) * _float_of_bits(np.int32((np.int32(n) + np.int32(126)) << np.int32(23)))  # 2^128 would not fit
    return f(0) if x < f(-87.3) else (f(np.inf) if x > f(88.72284) else y)


@_precise
def tanh(x):
    """A polynomial near 0, 1 - 2 / (e^2x + 1) beyond."""
    z = abs(x)
    large = f(1) - f(2) / (exp(z + z) + f(1))
    s = x * x
    p = f(-5.70498872745e-3)
    p = p * s + f(2.06390887954e-2)
    p = p * s + f(-5.37397155531e-2)
    p = p * s + f(1.33314422036e-1)
    p = p * s + f(-3.33332819422e-1)
    small = p * s * x + x
    return small if z < f(0.625) else (-large if x < f(0) else large)


@_precise
def sigmoid(x):
    """1 / (1 + e^-x) by the side that does not overflow."""
    e = exp(-abs(x))
    r = f(1) / (f(1) + e)
    return r if x >= f(0) else e * r
