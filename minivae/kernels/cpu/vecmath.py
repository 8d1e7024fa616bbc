"""float32 functions that LLVM vectorizes: no calls, no branches, within 2 ulp of the exact value over the whole range.

Kernels are compiled with `reassoc` so that sums become SIMD sums; the same licence would undo the careful sums in here (x - n hi - n lo
is x - n (hi + lo) to an optimizer).  Hence `plus` and `times`: one addition, one product that may not be reordered, only contracted to
a fused multiply-add.  The polynomials are minimax in the relative error of the result (Remez exchange):
below 2^-27, until the coefficients are rounded to float32.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from .jit import inline

intrinsic: Any = extending.intrinsic  # its type hints ask the caller for the typing context too

F, I = np.float32, np.int32

NAN, INFINITY, LARGEST = F(np.nan), F(np.inf), np.finfo(F).max
SMALLEST_NORMAL = np.finfo(F).tiny
LOG2E = F(1.4426950408889634)
LN2_HIGH, LN2_LOW = F(0.693359375), F(-2.12194440e-4)  # ln 2 in two parts; the high one has 10 bits, so that n * LN2_HIGH is exact
ROUNDER = F(12582912.0)  # 1.5 * 2^23: v + ROUNDER has v, rounded to an integer, in its low bits
ROUNDER_BITS = ROUNDER.view(I)
ONE_BITS = F(1).view(I)
SQRT_HALF_BITS = F(0.70710678).view(I)
MANTISSA, SIGN = I(0x007FFFFF), I(-0x80000000)
TWO_PI = F(6.2831853071795865)
TWO_PI_REST = F(6.2831853071795865 - float(TWO_PI))


@intrinsic
def bits(typing, x):
    """The 32 bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def from_bits(typing, i):
    """The float32 whose bits are the int32 i."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def where(typing, condition, a, b):
    """a if condition else b, without a branch."""
    return a(types.boolean, a, a), lambda context, builder, signature, args: builder.select(*args)


# numba gives its fast-math flags only to instructions that have none: this one flag keeps `reassoc` away
@intrinsic
def plus(typing, a, b):
    """a + b where the order of summation matters."""
    return types.float32(types.float32, types.float32), lambda context, builder, signature, args: builder.fadd(*args, flags=["contract"])


@intrinsic
def times(typing, a, b):
    """a * b where the order of multiplication matters."""
    return types.float32(types.float32, types.float32), lambda context, builder, signature, args: builder.fmul(*args, flags=["contract"])


@intrinsic
def polynomial(typing, x, *coefficients):
    """c0 + c1 x + c2 x^2 + ... by Horner's rule."""

    def generate(context, builder, signature, args):
        x, coefficients = args[0], cgutils.unpack_tuple(builder, args[1])
        value = coefficients[-1]
        for c in coefficients[-2::-1]:
            value = builder.fadd(builder.fmul(value, x, flags=["contract"]), c, flags=["contract"])
        return value

    return types.float32(types.float32, types.StarArgTuple(coefficients)), generate


@inline
def at_least(x, low):
    """max(x, low); NaN stays NaN."""
    return where(x < low, low, x)


@inline
def at_most(x, high):
    """min(x, high); NaN stays NaN."""
    return where(x > high, high, x)


@inline
def power_of_two(n):
    """2^n for -126 <= n <= 127."""
    return from_bits(I(I(n << 23) + ONE_BITS))


@inline
def with_sign(y, x):
    """|y| with the sign of x."""
    return from_bits(I(I(bits(y) & I(~SIGN)) | I(bits(x) & SIGN)))


@inline
def nearest_integer(v):
    """v rounded to an integer, as float32 and as int32.   |v| < 2^22"""
    shifted = plus(v, ROUNDER)
    return plus(shifted, -ROUNDER), I(bits(shifted) - ROUNDER_BITS)


@inline
def reduce(x):
    """x = n ln 2 + r, |r| <= ln(2) / 2.   -> n (int32), r"""
    n, i = nearest_integer(x * LOG2E)
    return i, plus(plus(x, -n * LN2_HIGH), -n * LN2_LOW)


@inline
def exp(x):
    """e^x = 2^n e^r."""
    n, r = reduce(at_most(at_least(x, F(-104)), F(89)))
    y = polynomial(r, F(1), F(1), F(5e-1), F(1.666652e-1), F(4.1666217e-2), F(8.368963e-3), F(1.3950295e-3))
    half = I(n >> 1)  # 2^n in two factors: 2^128 is infinite and 2^-149 has no exponent field, but their products with y may be finite
    return times(times(y, power_of_two(half)), power_of_two(I(n - half)))


@inline
def expm1(x):
    """e^x - 1 = (2^n - 1) + 2^n r + 2^n (e^r - 1 - r)."""
    t = at_most(at_least(x, F(-18)), F(89))
    n, r = reduce(t)
    q = polynomial(r, F(5e-1), F(1.666652e-1), F(4.1666217e-2), F(8.368963e-3), F(1.3950295e-3))
    huge = t > F(64)  # 2^128 is infinite though e^x may not be: there, compute half of it
    s = power_of_two(I(n - where(huge, I(1), I(0))))
    y = plus(plus(s * r, plus(s, F(-1))), s * (r * r * q))
    return with_sign(where(huge, y + y, y), x)


@inline
def exp_minus_1_minus(x):
    """e^x - 1 - x, accurate at 0, where it is x^2 / 2 + x^3 / 6 + ..."""
    series = polynomial(
        x, F(5e-1), F(1.6666667e-1), F(4.1666735e-2), F(8.3333105e-3), F(1.3885451e-3), F(1.9844023e-4), F(2.535483e-5), F(2.772284e-6)
    )
    return where(abs(x) < F(1), times(x, times(x, series)), plus(expm1(x), -at_most(x, LARGEST)))  # inf - inf would be NaN


@inline
def split(x):
    """x = 2^e m with sqrt(1/2) <= m < sqrt(2), for a normal x > 0.   -> e, m"""
    i = I(bits(x) - SQRT_HALF_BITS)
    return I(i >> 23), from_bits(I(I(i & MANTISSA) + SQRT_HALF_BITS))


@inline
def log_near_one(f, e):
    """log(2^e (1 + f)) = e ln 2 + f - f^2 / 2 + f^3 P(f),  sqrt(1/2) <= 1 + f <= sqrt(2)."""
    p = polynomial(
        f,
        F(3.3333313e-1),
        F(-2.5000829e-1),
        F(2.0002459e-1),
        F(-1.662386e-1),
        F(1.4176686e-1),
        F(-1.313222e-1),
        F(1.2916191e-1),
        F(-7.891936e-2),
    )
    square = f * f
    y = plus(plus(times(f, times(square, p)), e * LN2_LOW), F(-0.5) * square)
    return plus(plus(f, y), e * LN2_HIGH)


@inline
def log_limits(y, x, u):
    """y = log u, mended where u is 0 (-inf), negative (NaN), infinite or NaN (x itself)."""
    y = where(u <= F(0), where(u == F(0), -INFINITY, NAN), y)
    return where(u < INFINITY, y, x)


@inline
def log(x):
    """log x; -inf at 0, NaN below."""
    subnormal = x < SMALLEST_NORMAL
    e, m = split(where(subnormal, x * F(8388608.0), x))
    return log_limits(log_near_one(plus(m, F(-1)), F(I(e - where(subnormal, I(23), I(0))))), x, x)


@inline
def log_of_normal(x):
    """log x for x positive, finite and not subnormal."""
    e, m = split(x)
    return log_near_one(plus(m, F(-1)), F(e))


@inline
def log1p(x):
    """log(1 + x); -inf at -1, NaN below."""
    u = plus(F(1), x)
    e, m = split(u)
    s = power_of_two(I(-e))
    # 2^-e (1 + x) - 1 without the rounding of 1 + x, which no longer matters, while 2^-e may underflow, for large e
    f = where(e > I(60), plus(m, F(-1)), plus(s * x, plus(s, F(-1))))
    return with_sign(log_limits(log_near_one(f, F(e)), x, u), x)


@inline
def tanh(x):
    """tanh x = sign(x) (1 - 2 / (e^(2 |x|) + 1)), or its odd series below 0.625."""
    z = abs(x)
    square = x * x
    p = polynomial(square, F(-3.333328e-1), F(1.3331442e-1), F(-5.3739715e-2), F(2.0639088e-2), F(-5.704988e-3))
    large = plus(F(1), -(F(2) / plus(exp(z + z), F(1))))
    return with_sign(where(z < F(0.625), plus(z, times(z, times(square, p))), large), x)


@inline
def sigmoid(x):
    """1 / (1 + e^-x): with e = e^-|x| and q = e / (1 + e), it is e - e q below 0 and 1 - q above, which round better than the quotients."""
    e = exp(-abs(x))
    q = e / plus(F(1), e)
    return where(x < F(0), plus(e, -e * q), plus(F(1), -q))


@inline
def log1p_unit(e):
    """log(1 + e) for 0 <= e <= 1."""
    upper = e > F(0.41421356)  # 1 + e above sqrt(2): factor a 2 out
    f = where(upper, plus(F(0.5) * e, F(-0.5)), e)
    return log_near_one(f, where(upper, F(1), F(0)))


@inline
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return plus(at_least(x, F(0)), log1p_unit(exp(-abs(x))))


@inline
def sincos2pi(u):
    """sin(2 pi u), cos(2 pi u).   |u| < 2^20"""
    quarter, i = nearest_integer(F(4) * u)
    r = plus(u, F(-0.25) * quarter)  # exact, |r| <= 1/8
    z = r * r
    tail = times(z, polynomial(z, F(-4.1341675e1), F(8.159404e1), F(-7.545788e1)))
    sine = plus(r * TWO_PI, r * plus(tail, TWO_PI_REST))
    cosine = plus(F(1), times(z, polynomial(z, F(-1.9739208e1), F(6.493933e1), F(-8.544387e1), F(5.9250042e1))))
    swap = I(i & I(1)) != I(0)
    a, b = where(swap, cosine, sine), where(swap, sine, cosine)
    minus_a, minus_b = I(i << 30) & SIGN, I(I(i + I(1)) << 30) & SIGN
    return from_bits(I(bits(a) ^ I(minus_a))), from_bits(I(bits(b) ^ I(minus_b)))
