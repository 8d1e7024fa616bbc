"""What a VAE does to rows of numbers: Bernoulli log-likelihoods, the KL divergence of a Gaussian, log-sum-exp.

A kernel does the rows from `start` to `stop`; its parallel twin at the end of the file hands out such ranges.  No sum crosses rows, so
that the bits of a result do not depend on the number of threads.
"""

import numba
import numpy as np

from ...errors import ShapeError
from .jit import kernel
from .rows import alike, per_row, row, rows, run
from .subnormals import flush, restore
from .vecmath import INFINITY, F, I, bits, exp, exp_minus_1_minus, expm1, from_bits, log, log1p_unit, plus, where

# --- Bernoulli -----------------------------------------------------------------------------------------------------------------------


def bernoulli_log_prob(logits: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p(x | l) = sum_d x l - log(1 + e^l), in nats, and its gradient by l, x - sigmoid(l).   (N, D), (M, D) -> (N,), (N, D)

    Row i is judged by x[i % M], with N a multiple of M: several decodings of the same data, one after the other.
    """
    logits, x = rows(logits), rows(x)
    if x.shape[1] != logits.shape[1] or not len(x) or len(logits) % len(x):
        raise ShapeError(f"bernoulli_log_prob: logits are {logits.shape}, x is {x.shape}; need (N, D) and (M, D) with N a multiple of M")
    log_prob, residual = np.empty(len(logits), F), np.empty(logits.shape, F)
    run(_bernoulli, _bernoulli_parallel, logits, x, log_prob, residual)
    return log_prob, residual


def bernoulli_log_prob_vjp(g: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """glogits = g[:, None] * residual.   (N,), (N, D) -> (N, D)"""
    return _scaled(residual, g, F(1))


def standard_log_prob_vjp(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """gx = -g[:, None] x, the gradient of log N(x; 0, 1).   (N,), (N, K) -> (N, K)"""
    return _scaled(x, g, F(-1))


def _scaled(matrix: np.ndarray, factor: np.ndarray, sign: np.float32) -> np.ndarray:
    matrix, scaled = rows(matrix), np.empty(matrix.shape, F)
    run(_scale_rows, _scale_rows_parallel, matrix, per_row(factor, matrix), sign, scaled)
    return scaled


@kernel
def _bernoulli(start, stop, logits, x, log_prob, residual):
    for i in range(start, stop):
        l_row, x_row, residual_row = row(logits, i), row(x, i % len(x)), row(residual, i)
        total = F(0)
        for d in range(l_row.size):
            l = l_row[d]
            e = exp(-abs(l))
            q = e / plus(F(1), e)
            # x l - softplus(l) = (x - [l > 0]) l - log(1 + e^-|l|): no large terms that cancel; nor in x - sigmoid(l) = (x - [l > 0]) +- q
            rest = plus(x_row[d], where(l > F(0), F(-1), F(0)))
            total += where(rest == F(0), F(0), rest * l) - log1p_unit(e)
            residual_row[d] = plus(rest, where(l > F(0), q, -plus(e, -e * q)))
        log_prob[i] = total


@kernel
def _scale_rows(start, stop, matrix, factor, sign, scaled):
    mode = flush()  # a factor may be an importance weight, of any size
    for i in range(start, stop):
        f, source, target = sign * factor[i], row(matrix, i), row(scaled, i)
        for d in range(source.size):
            target[d] = f * source[d]
    restore(mode)


# --- Gaussian ------------------------------------------------------------------------------------------------------------------------


def gaussian_kl_standard(mean: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """KL(N(mean, e^logvar) || N(0, 1)) = 1/2 sum_k mean^2 + (e^logvar - 1 - logvar), in nats.   two (N, K) -> (N,)"""
    mean, logvar = alike("gaussian_kl_standard", mean, logvar)
    kl = np.empty(len(mean), F)
    run(_kl, _kl_parallel, mean, logvar, kl)
    return kl


def gaussian_kl_standard_vjp(g: np.ndarray, mean: np.ndarray, logvar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(gmean, glogvar) = (g mean, g (e^logvar - 1) / 2).   (N,), two (N, K) -> two (N, K)"""
    mean, logvar = alike("gaussian_kl_standard_vjp", mean, logvar)
    gmean, glogvar = np.empty(mean.shape, F), np.empty(mean.shape, F)
    run(_kl_vjp, _kl_vjp_parallel, mean, logvar, per_row(g, mean), gmean, glogvar)
    return gmean, glogvar


@kernel
def _kl(start, stop, mean, logvar, kl):
    for i in range(start, stop):
        mean_row, logvar_row = row(mean, i), row(logvar, i)
        total = F(0)
        for k in range(mean_row.size):
            total += mean_row[k] * mean_row[k] + exp_minus_1_minus(logvar_row[k])
        kl[i] = F(0.5) * total


@kernel
def _kl_vjp(start, stop, mean, logvar, g, gmean, glogvar):
    for i in range(start, stop):
        mean_row, logvar_row, gmean_row, glogvar_row = row(mean, i), row(logvar, i), row(gmean, i), row(glogvar, i)
        for k in range(mean_row.size):
            gmean_row[k] = g[i] * mean_row[k]
            glogvar_row[k] = F(0.5) * g[i] * expm1(logvar_row[k])


# --- log-sum-exp ---------------------------------------------------------------------------------------------------------------------


def lines(x: np.ndarray) -> np.ndarray:
    """The numbers along the middle axis as rows; x itself where they lie so.   (I, C, J) -> (I J, C)"""
    I, C, J = x.shape
    if J == 1:
        return x.reshape(I, C)
    y = np.empty((I * J, C), F)
    _lines(np.ascontiguousarray(x, F), y)
    return y


def logsumexp(x: np.ndarray) -> np.ndarray:
    """log sum_c e^x[r, c]; -inf for a row of -inf, inf where an inf is.   (R, C) -> (R,)"""
    x = rows(x)
    value = np.empty(len(x), F)
    run(_logsumexp, _logsumexp_parallel, x, value)
    return value


def logsumexp_vjp(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """gx = g[:, None] softmax(x), and zeros in a row of nothing but -inf.   (R,), (R, C) -> (R, C)"""
    x = rows(x)
    gx = np.empty(x.shape, F)
    run(_logsumexp_vjp, _logsumexp_vjp_parallel, x, per_row(g, x), gx)
    return gx


def softmax(x: np.ndarray) -> np.ndarray:
    """y = e^x / sum_c e^x; NaN in a row that holds an inf or nothing but -inf.   (R, C) -> (R, C)"""
    x = rows(x)
    y = np.empty(x.shape, F)
    run(_softmax, _softmax_parallel, x, y)
    return y


def softmax_vjp(g: np.ndarray, y: np.ndarray) -> np.ndarray:
    """gx = y (g - <g, y>) in each row.   two (R, C) -> (R, C)"""
    y, g = alike("softmax_vjp", y, g)
    gx = np.empty(y.shape, F)
    run(_softmax_vjp, _softmax_vjp_parallel, y, g, gx)
    return gx


@kernel
def _largest(x):
    """The largest number of a row.  It may overlook a NaN, which will turn up in the sum of exponentials."""
    # floats sort like integers once the negative ones' bits are flipped, and an integer maximum is vectorized
    largest = I(-0x7F800001)  # -inf
    for c in range(x.size):
        i = bits(x[c])
        largest = max(largest, I(i ^ I(I(i >> 31) & I(0x7FFFFFFF))))
    return from_bits(I(largest ^ I(I(largest >> 31) & I(0x7FFFFFFF))))


@kernel
def _lines(x, y):
    for r in range(len(y)):
        for c in range(x.shape[1]):
            y[r, c] = x[r // x.shape[2], c, r % x.shape[2]]


@kernel
def _logsumexp(start, stop, x, value):
    for i in range(start, stop):
        x_row = row(x, i)
        m, total = _largest(x_row), F(0)
        m = where(abs(m) < INFINITY, m, F(0))  # inf - inf is NaN, yet the sums 0 and inf have a logarithm
        for c in range(x_row.size):
            total += exp(x_row[c] - m)
        value[i] = m + log(total)


@kernel
def _logsumexp_vjp(start, stop, x, g, gx):
    for i in range(start, stop):
        x_row, gx_row = row(x, i), row(gx, i)
        m = _largest(x_row)
        total = _exponentials(x_row, where(abs(m) < INFINITY, m, F(0)), gx_row)
        factor = g[i] / where(total == F(0), F(1), total)
        for c in range(x_row.size):
            gx_row[c] *= factor


@kernel
def _softmax(start, stop, x, y):
    for i in range(start, stop):
        y_row = row(y, i)
        factor = F(1) / _exponentials(row(x, i), _largest(row(x, i)), y_row)
        for c in range(y_row.size):
            y_row[c] *= factor


@kernel
def _exponentials(x, m, e):
    """e = e^(x - m), and their sum."""
    total = F(0)
    for c in range(x.size):
        e[c] = exp(x[c] - m)
        total += e[c]
    return total


@kernel
def _softmax_vjp(start, stop, y, g, gx):
    for i in range(start, stop):
        y_row, g_row, gx_row = row(y, i), row(g, i), row(gx, i)
        mean = F(0)
        for c in range(y_row.size):
            mean += g_row[c] * y_row[c]
        for c in range(y_row.size):
            gx_row[c] = y_row[c] * (g_row[c] - mean)


# --- the same, `task` rows a task ---------------------------------------------------------------------------------------------------


@kernel(parallel=True)
def _bernoulli_parallel(task, logits, x, log_prob, residual):
    for t in numba.prange((len(logits) + task - 1) // task):
        _bernoulli(t * task, min((t + 1) * task, len(logits)), logits, x, log_prob, residual)


@kernel(parallel=True)
def _scale_rows_parallel(task, matrix, factor, sign, scaled):
    for t in numba.prange((len(matrix) + task - 1) // task):
        _scale_rows(t * task, min((t + 1) * task, len(matrix)), matrix, factor, sign, scaled)


@kernel(parallel=True)
def _kl_parallel(task, mean, logvar, kl):
    for t in numba.prange((len(mean) + task - 1) // task):
        _kl(t * task, min((t + 1) * task, len(mean)), mean, logvar, kl)


@kernel(parallel=True)
def _kl_vjp_parallel(task, mean, logvar, g, gmean, glogvar):
    for t in numba.prange((len(mean) + task - 1) // task):
        _kl_vjp(t * task, min((t + 1) * task, len(mean)), mean, logvar, g, gmean, glogvar)


@kernel(parallel=True)
def _logsumexp_parallel(task, x, value):
    for t in numba.prange((len(x) + task - 1) // task):
        _logsumexp(t * task, min((t + 1) * task, len(x)), x, value)


@kernel(parallel=True)
def _logsumexp_vjp_parallel(task, x, g, gx):
    for t in numba.prange((len(x) + task - 1) // task):
        _logsumexp_vjp(t * task, min((t + 1) * task, len(x)), x, g, gx)


@kernel(parallel=True)
def _softmax_parallel(task, x, y):
    for t in numba.prange((len(x) + task - 1) // task):
        _softmax(t * task, min((t + 1) * task, len(x)), x, y)


@kernel(parallel=True)
def _softmax_vjp_parallel(task, y, g, gx):
    for t in numba.prange((len(y) + task - 1) // task):
        _softmax_vjp(t * task, min((t + 1) * task, len(y)), y, g, gx)
