"""The beta-binomial log-likelihood of rows of pixels and its gradients in one pass: ops/gamma.py has the equations.

A pixel shares its logarithms between the value and both gradients; they are computed in float64, one pixel after the other.
"""

import math

import numba
import numpy as np

from .jit import inline, kernel
from .rows import row, rows, run
from .vecmath import F

D = np.float64


def beta_binomial_log_prob(log_alpha: np.ndarray, log_beta: np.ndarray, k: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p of each row, in nats, and its gradients by log alpha and log beta.     (N, D) each -> (N,), (N, D), (N, D)"""
    log_alpha, log_beta, k = rows(log_alpha), rows(log_beta), rows(k)
    log_prob, by_alpha, by_beta = np.empty(len(k), F), np.empty(k.shape, F), np.empty(k.shape, F)
    # log C(n, k), the only part that a table can hold
    choices = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(n + 1)])
    run(_beta_binomial, _beta_binomial_parallel, log_alpha, log_beta, k, choices, log_prob, by_alpha, by_beta)
    return log_prob, by_alpha, by_beta


@inline
def stirling(z):
    """The series of log Gamma, z >= 8, to 1e-13."""
    i = 1 / (z * z)
    return ((((-1 / 1680 * i + 1 / 1260) * i - 1 / 360) * i) + 1 / 12) / z


@inline
def digamma_series(z):
    i = 1 / (z * z)
    return (((-1 / 240 * i + 1 / 252) * i - 1 / 120) * i + 1 / 12) * i


@inline
def ratios(x, count):
    """(product of (x + j) / (x + j + count), sum of count / ((x + j) (x + j + count))) over j = 1 ... 7, with one division"""
    if x > 1e12:
        return D(1), 7 * count / (x * x)  # to 1e-9; the products below would overflow
    over, under = D(1), D(1)
    steps = D(0)  # the sum over a common denominator: s / d + c / e = (s e + c d) / (d e)
    for j in range(1, 8):
        low, high = x + j, x + j + count
        steps = steps * (low * high) + count * (over * under)
        over, under = over * low, under * high
    return over / under, steps / (over * under)


@kernel
def _beta_binomial(start, stop, log_alpha, log_beta, k, choices, log_prob, by_alpha, by_beta):
    n = D(choices.size - 1)
    for i in range(start, stop):
        la_row, lb_row, k_row, ga_row, gb_row = row(log_alpha, i), row(log_beta, i), row(k, i), row(by_alpha, i), row(by_beta, i)
        total = D(0)
        for d in range(k_row.size):
            la, lb, c = D(la_row[d]), D(lb_row[d]), D(k_row[d])
            if not (c >= 0 and c <= n):  # a NaN stays one
                total, ga_row[d], gb_row[d] = D(np.nan), F(np.nan), F(np.nan)
                continue
            m = n - c
            a, b = math.exp(la), math.exp(lb)
            s = a + b
            shares = 1 / (1 + math.exp(lb - la))
            rise_s, end = math.log1p(n / (s + 8)), s + 8 + n
            product_s, steps_s = ratios(s, n)
            log_s = max(la, lb) + math.log1p(math.exp(-abs(la - lb)))
            # the first factors, log a - log(a + k) and so on; with a zero count there is none, nor anything else of its side
            rest, product = s + n, 1 / product_s
            value = stirling(s + 8) - stirling(end) - log_s - (s + 7.5) * rise_s
            psi_s = rise_s + n / (2 * (s + 8) * end) + digamma_series(s + 8) - digamma_series(end) + steps_s
            psi_a, psi_b = D(0), D(0)
            if c > 0:
                rise, last = math.log1p(c / (a + 8)), a + 8 + c
                by, steps = ratios(a, c)
                rest, product = rest / (a + c), product * by
                value += la + c * math.log(last / end) + (a + 7.5) * rise + stirling(last) - stirling(a + 8)
                psi_a = rise + c / (2 * (a + 8) * last) + digamma_series(a + 8) - digamma_series(last) + steps
            if m > 0:
                rise, last = math.log1p(m / (b + 8)), b + 8 + m
                by, steps = ratios(b, m)
                rest, product = rest / (b + m), product * by
                value += lb + m * math.log(last / end) + (b + 7.5) * rise + stirling(last) - stirling(b + 8)
                psi_b = rise + m / (2 * (b + 8) * last) + digamma_series(b + 8) - digamma_series(last) + steps
            total += value + math.log(product * rest) + choices[int(c)]
            ga, gb = a * (psi_a - psi_s) - shares * n / (s + n), b * (psi_b - psi_s) - (1 - shares) * n / (s + n)
            ga_row[d] = F(ga + c / (a + c) if c > 0 else ga)
            gb_row[d] = F(gb + m / (b + m) if m > 0 else gb)
        log_prob[i] = F(total)


@kernel(parallel=True)
def _beta_binomial_parallel(task, log_alpha, log_beta, k, choices, log_prob, by_alpha, by_beta):
    for t in numba.prange((len(k) + task - 1) // task):
        first, end = t * task, min((t + 1) * task, len(k))
        _beta_binomial(first, end, log_alpha, log_beta, k, choices, log_prob, by_alpha, by_beta)
