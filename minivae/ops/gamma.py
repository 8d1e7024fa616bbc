"""The gamma function: log Gamma, and the beta-binomial that is made of six of them.  In nats.

Both are analytic, so that a complex step checks them: an argument below 8 is raised by 8, by Gamma(x + 1) = x Gamma(x), and from there
Stirling's series is exact to rounding.  M. Abramowitz and I. Stegun, "Handbook of mathematical functions", 6.1.15, 6.1.41, 6.3.18.
"""

import math

from ..backend import xp
from ..engine import Op
from ..kernels.cpu import densities as kernels
from ..kernels.cpu import gammas
from ..kernels.lazy import kernels_only_rows
from .activations import sigmoid_of
from .densities import per_event, sum_event

SHIFT = 8
# log Gamma(z) = (z - 1/2) log z - z + log(2 pi) / 2 + sum_m STIRLING[m - 1] / z^(2m - 1), STIRLING[m - 1] = B_2m / 2m (2m - 1)
STIRLING = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400]
# psi(z) = log z - 1 / 2z - sum_m DIGAMMA[m - 1] / z^2m, DIGAMMA[m - 1] = B_2m / 2m; from z = 8 on the first that is left out is below 2^-53
DIGAMMA = [1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160, 43867 / 14364]


def power_series(coefficients, x):
    """sum_m coefficients[m] x^m"""
    total = 0
    for c in reversed(coefficients):
        total = total * x + c
    return total


def stirling(z):
    """The series of log Gamma, for Re z >= 8."""
    return power_series(STIRLING, 1 / (z * z)) / z


def digamma_series(z):
    """The series of psi, which is taken away, for Re z >= 8."""
    inverse = 1 / (z * z)
    return power_series(DIGAMMA, inverse) * inverse


def log_gamma_reference(x):
    """y = log Gamma(x) for x > 0,  dy/dx = psi(x)"""
    module = xp(x)
    small = x.real < SHIFT
    z, product = module.where(small, x + SHIFT, x), 1
    low = module.where(small, x, 1)
    for j in range(SHIFT):  # z^8 / x (x + 1) ... (x + 7), whose log is half as large as that of the divisor
        product = product * ((low + SHIFT) / (low + j))
    log_product = module.where(small, module.log(product), 0)
    return (x - 0.5) * module.log(z) + log_product - z + (math.log(2 * math.pi) / 2 + stirling(z)), (x,)


def log_gamma_vjp(g, x):
    """psi(x) = psi(x + 8) - sum_j 1 / (x + j)"""
    module = xp(x)
    small = x.real < SHIFT
    z, low = module.where(small, x + SHIFT, x), module.where(small, x, 1)
    steps = sum(1 / (low + j) for j in range(SHIFT))
    return (g * (module.log(z) - 1 / (2 * z) - digamma_series(z) - module.where(small, steps, 0)),)


def log_beta_ratio(log_a, log_b, k, n):
    """log B(a + k, b + n - k) / B(a, b), B(a, b) = Gamma(a) Gamma(b) / Gamma(a + b)

    Of the six log Gamma, each of which may be thousands, the large parts are taken from each other in closed form: by

        log Gamma(z + k) - log Gamma(z) = (z - 1/2) log(1 + k / z) + k log(z + k) - k + the difference of the series,

    so that float32 loses about n units of rounding and not n log(a + n).
    """
    module = xp(log_a)
    a, b, m = module.exp(log_a), module.exp(log_b), n - k
    total, end = a + b, a + b + n
    larger = log_a.real >= log_b.real
    top, low = module.where(larger, log_a, log_b), module.where(larger, log_b, log_a)
    # log(a + b) and log a as they are, and not of e^(...): that may be 0
    value = k * module.log((a + SHIFT + k) / (end + SHIFT)) + m * module.log((b + SHIFT + m) / (end + SHIFT))
    for log_x, x, count, sign in ((log_a, a, k, 1), (log_b, b, m, 1), (top + module.log1p(module.exp(low - top)), total, n, -1)):
        z, product = x + SHIFT, 1
        for j in range(1, SHIFT):
            product = product * ((x + j) / (x + j + count))
        first = module.where(count == 0, 0, log_x - module.log(x + count + (count == 0)))
        rise = (z - 0.5) * module.log1p(count / z) + (stirling(z + count) - stirling(z)) + (first + module.log(product))
        value = value + sign * rise
    return value


def beta_binomial_log_prob_reference(log_alpha, log_beta, k, n=255, event_ndim=1):
    """log p = sum log C(n, k) B(k + a, n - k + b) / B(a, b),  a = e^log_alpha, b = e^log_beta;  k from 0 to n, in any float

    log C(n, k) = -log(n + 1) - log B(1 + k, 1 + n - k) / B(1, 1): at a = b = 1 all n + 1 values are equally likely.
    """
    zero = k * 0.0
    values = log_beta_ratio(log_alpha, log_beta, k, n) - log_beta_ratio(zero, zero, k, n) - math.log(n + 1)
    return sum_event(values, event_ndim), (log_alpha, log_beta, k, n, values.shape)


def beta_binomial_log_prob_vjp(g, log_alpha, log_beta, k, n, shape):
    """dlog p/dlog a = a (psi(a + k) - psi(a)) - a (psi(a + b + n) - psi(a + b)), and so for b with n - k

    x (psi(x + c) - psi(x)) = c / (x + c) + x (the same at x + 1): written with c, because of x = 0 and since the difference cancels.
    """
    module = xp(log_alpha)
    g = per_event(g, shape)
    a, b = module.exp(log_alpha), module.exp(log_beta)
    both = n / (a + b + n)  # the first term of a + b, to be shared in the ratio a : b
    gradients = []
    for x, count, share in ((a, k, sigmoid_of(log_alpha - log_beta)), (b, n - k, sigmoid_of(log_beta - log_alpha))):
        own = module.where(count == 0, 0, count / (x + count + (count == 0)))
        gradients.append(g * (own - share * both + x * (psi_rise(x, count) - psi_rise(a + b, n))))
    return (*gradients, None)


def psi_rise(x, count):
    """psi(x + 1 + count) - psi(x + 1)"""
    z, module = x + SHIFT, xp(x)
    steps = sum(count / ((x + j) * (x + j + count)) for j in range(1, SHIFT))
    halves = count / (2 * z * (z + count))
    return module.log1p(count / z) + (halves + (digamma_series(z) - digamma_series(z + count)) + steps)


# --- fast kernels, for rows of pixels; anything else runs the reference ---------------------------------------------------------------


@kernels_only_rows
def beta_binomial_log_prob_numba(log_alpha, log_beta, k, n=255, event_ndim=1):
    if k.ndim - event_ndim != 1 or not log_alpha.shape == log_beta.shape == k.shape or not k.size:
        value, saved = beta_binomial_log_prob_reference(log_alpha, log_beta, k, n, event_ndim)
        return value, (False, *saved)
    a, b, c = (each.reshape(len(k), -1) for each in (log_alpha, log_beta, k))
    log_prob, by_alpha, by_beta = gammas.beta_binomial_log_prob(a, b, c, n)
    return log_prob, (True, by_alpha, by_beta, k.shape)


def beta_binomial_log_prob_numba_vjp(g, by_kernel, *saved):
    if not by_kernel:
        return beta_binomial_log_prob_vjp(g, *saved)
    by_alpha, by_beta, shape = saved
    return (*(kernels.bernoulli_log_prob_vjp(g, part).reshape(shape) for part in (by_alpha, by_beta)), None)


log_gamma = Op("log_gamma", numpy=(log_gamma_reference, log_gamma_vjp))
beta_binomial_log_prob = Op(
    "beta_binomial_log_prob",
    numpy=(beta_binomial_log_prob_reference, beta_binomial_log_prob_vjp),
    numba=(beta_binomial_log_prob_numba, beta_binomial_log_prob_numba_vjp),
)
