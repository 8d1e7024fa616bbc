"""Gaussian samples, with their KL divergence or without, and log-densities of importance samples: R = k M rows of x against M rows of
parameters, row i against row i % M.

The forward passes run over the rows of x.  The backward passes run over the rows of the parameters, each adding up the gradients of its
k samples in order: no two threads write to one row, and the number of threads does not change a bit.

A mixture asks for every row of x under every row of parameters, (R, M) log-densities.  There the rows of parameters lie side by side in a
vector, so that no sum runs across it: R M K deviations are computed and none is kept.
"""

import math

import numba
import numpy as np

from ...errors import ShapeError
from .elementwise import BLOCK, PARALLEL_FROM
from .jit import kernel
from .rows import alike, per_row, row, rows
from .vecmath import F, exp, exp_minus_1_minus, expm1

HALF_LOG_2PI = F(0.5 * math.log(2 * math.pi))


def log_prob(x: np.ndarray, mean: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """-1/2 sum_k ((x - mean) / sigma)^2 + log sigma^2 + log 2 pi, sigma^2 = e^logvar, in nats.   (R, K), two (M, K) -> (R,)"""
    x, mean, logvar = _fit(x, mean, logvar)
    value = np.empty(len(x), F)
    _over(_log_prob, _log_prob_parallel, len(x), x, mean, logvar, value)
    return value


def log_prob_vjp(g: np.ndarray, x: np.ndarray, mean: np.ndarray, logvar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gx, gmean, glogvar).   (R,), (R, K), two (M, K) -> (R, K), two (M, K)"""
    x, mean, logvar = _fit(x, mean, logvar)
    gx, gmean, glogvar = np.empty(x.shape, F), np.empty(mean.shape, F), np.empty(mean.shape, F)
    _over(_log_prob_vjp, _log_prob_vjp_parallel, len(mean), x, mean, logvar, np.ascontiguousarray(g, F), gx, gmean, glogvar)
    return gx, gmean, glogvar


def pairs_log_prob(x: np.ndarray, mean: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """log N(x_r; mean_m, sigma_m^2) of every row under all parameters, in nats.   (R, K), two (M, K) -> (R, M)"""
    x, columns = _columns_of(x, mean, logvar)
    value = np.empty((len(x), len(mean)), F)
    _over(_pairs, _pairs_parallel, len(x), value, x, columns)
    return value


def pairs_log_prob_vjp(g: np.ndarray, x: np.ndarray, mean: np.ndarray, logvar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gx, gmean, glogvar).   (R, M), (R, K), two (M, K) -> (R, K), two (M, K)"""
    if g.shape != (len(x), len(mean)):
        raise ShapeError(f"the gradient is {g.shape} for {len(x)} rows under {len(mean)}; need a number for each pair")
    x, columns = _columns_of(x, mean, logvar)
    gx, both = np.empty(x.shape, F), np.empty((2 * x.shape[1], len(mean)), F)
    _over(_pairs_vjp, _pairs_vjp_parallel, x.shape[1], rows(g), x, columns, gx, both)
    return gx, both[: x.shape[1]].T, both[x.shape[1] :].T


def standard_log_prob(x: np.ndarray) -> np.ndarray:
    """-1/2 sum_k x^2 + log 2 pi.   (R, K) -> (R,)"""
    x = rows(x)
    value = np.empty(len(x), F)
    _over(_standard, _standard_parallel, len(x), x, value)
    return value


def sample(mean: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """z = mean + sigma eps.   two (M, K), (R, K) -> (R, K)"""
    eps, mean, logvar = _fit(eps, mean, logvar)
    z = np.empty(eps.shape, F)
    _over(_sample, _sample_parallel, len(eps), eps, mean, logvar, z)
    return z


def sample_vjp(g: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(gmean, glogvar) = (sum g, sum g eps sigma / 2) over the samples of a row.   (R, K), (M, K), (R, K) -> two (M, K)"""
    if g.shape != eps.shape:
        raise ShapeError(f"the gradient is {g.shape}, the noise is {eps.shape}; need equal shapes")
    g, (eps, logvar) = rows(g), _fit(eps, logvar)
    gmean, glogvar = np.empty(logvar.shape, F), np.empty(logvar.shape, F)
    _over(_sample_vjp, _sample_vjp_parallel, len(logvar), g, logvar, eps, gmean, glogvar)
    return gmean, glogvar


def sample_and_kl(mean: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z = mean + sigma eps and KL(N(mean, sigma^2) || N(0, 1)) of each row.   three (M, K) -> (M, K), (M,)"""
    eps, mean, logvar = alike("sample_and_kl", eps, mean, logvar)
    z, kl = np.empty(eps.shape, F), np.empty(len(eps), F)
    _over(_sample_and_kl, _sample_and_kl_parallel, len(eps), eps, mean, logvar, z, kl)
    return z, kl


def sample_and_kl_vjp(
    gz: np.ndarray, gkl: np.ndarray, mean: np.ndarray, logvar: np.ndarray, eps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(gmean, glogvar) = (gz + gkl mean, gz eps sigma / 2 + gkl (e^logvar - 1) / 2), the halves of one (M, 2K) array.   -> two (M, K)"""
    gz, mean, logvar, eps = alike("sample_and_kl_vjp", gz, mean, logvar, eps)
    both = np.empty((len(gz), 2 * gz.shape[1]), F)
    gmean, glogvar = both[:, : gz.shape[1]], both[:, gz.shape[1] :]
    _over(_sample_and_kl_vjp, _sample_and_kl_vjp_parallel, len(gz), gz, per_row(gkl, gz), mean, logvar, eps, gmean, glogvar)
    return gmean, glogvar


def _fit(x: np.ndarray, *parameters: np.ndarray) -> list[np.ndarray]:
    """All as `rows`, if x holds samples for parameters of one shape: a kernel would read beyond their ends."""
    for a in parameters:
        if a.shape != parameters[0].shape or x.shape[1:] != a.shape[1:] or (len(x) and (not len(a) or len(x) % len(a))):
            shapes = " and ".join(str(b.shape) for b in parameters)
            raise ShapeError(f"Gaussian samples are {x.shape}, their parameters {shapes}; need (k M, K) and (M, K)")
    return [rows(x), *(rows(a) for a in parameters)]


def _columns_of(x, mean, logvar):
    """x as `rows`, and (2 K + 1, M) of the parameters: the means, 1 / sigma, and what log N has besides the squares."""
    if mean.shape != logvar.shape or x.shape[1:] != mean.shape[1:]:
        raise ShapeError(f"rows are {x.shape}, the parameters of Gaussians {mean.shape} and {logvar.shape}; need (R, K) and twice (M, K)")
    columns = np.empty((2 * x.shape[1] + 1, len(mean)), F)
    _columns(rows(mean), rows(logvar), columns)
    return rows(x), columns


def _over(serial, parallel, count, x, *others):
    """serial(start, stop, ...) over `count` rows, or parallel(rows a task, ...) if x is large."""
    if x.size < PARALLEL_FROM:
        serial(0, count, x, *others)
    else:
        parallel(max(1, count * BLOCK // x.size), x, *others)


@kernel
def _log_prob(start, stop, x, mean, logvar, value):
    for i in range(start, stop):
        x_row, mean_row, logvar_row = row(x, i), row(mean, i % len(mean)), row(logvar, i % len(mean))
        total = F(0)
        for k in range(x_row.size):
            deviation = (x_row[k] - mean_row[k]) * exp(F(-0.5) * logvar_row[k])
            total += deviation * deviation + logvar_row[k]
        value[i] = F(-0.5) * total - F(x_row.size) * HALF_LOG_2PI


@kernel
def _log_prob_vjp(start, stop, x, mean, logvar, g, gx, gmean, glogvar):
    for m in range(start, stop):
        mean_row, logvar_row, gmean_row, glogvar_row = row(mean, m), row(logvar, m), row(gmean, m), row(glogvar, m)
        gmean_row[:] = F(0)
        glogvar_row[:] = F(0)
        for i in range(m, len(x), len(mean)):
            x_row, gx_row, g_i = row(x, i), row(gx, i), g[i]
            for k in range(x_row.size):
                inverse = exp(F(-0.5) * logvar_row[k])
                deviation = (x_row[k] - mean_row[k]) * inverse
                pull = g_i * deviation * inverse
                gx_row[k] = -pull
                gmean_row[k] += pull
                glogvar_row[k] += F(0.5) * g_i * (deviation * deviation - F(1))


@kernel
def _columns(mean, logvar, columns):
    K = mean.shape[1]
    for m in range(len(mean)):
        total = F(0)
        for k in range(K):
            columns[k, m] = mean[m, k]
            columns[K + k, m] = exp(F(-0.5) * logvar[m, k])
            total += logvar[m, k]
        columns[2 * K, m] = F(-0.5) * total - F(K) * HALF_LOG_2PI


@kernel
def _pairs(start, stop, value, x, columns):
    K = x.shape[1]
    for r in range(start, stop):
        value_row, rest = row(value, r), row(columns, 2 * K)
        value_row[:] = F(0)
        for k in range(K):
            x_rk, mean_k, inverse_k = x[r, k], row(columns, k), row(columns, K + k)
            for m in range(value_row.size):
                deviation = (x_rk - mean_k[m]) * inverse_k[m]
                value_row[m] += deviation * deviation
        for m in range(value_row.size):
            value_row[m] = rest[m] - F(0.5) * value_row[m]


@kernel
def _pairs_vjp(start, stop, g, x, columns, gx, both):
    """The latents from start to stop: each has gradients of its own."""
    K = x.shape[1]
    for k in range(start, stop):
        mean_k, inverse_k, gmean_k, glogvar_k = row(columns, k), row(columns, K + k), row(both, k), row(both, K + k)
        gmean_k[:] = F(0)
        glogvar_k[:] = F(0)
        for r in range(len(x)):
            x_rk, g_row, total = x[r, k], row(g, r), F(0)
            for m in range(g_row.size):
                deviation = (x_rk - mean_k[m]) * inverse_k[m]
                pull = g_row[m] * deviation * inverse_k[m]
                total += pull
                gmean_k[m] += pull
                glogvar_k[m] += F(0.5) * g_row[m] * (deviation * deviation - F(1))
            gx[r, k] = -total


@kernel
def _standard(start, stop, x, value):
    for i in range(start, stop):
        x_row = row(x, i)
        total = F(0)
        for k in range(x_row.size):
            total += x_row[k] * x_row[k]
        value[i] = F(-0.5) * total - F(x_row.size) * HALF_LOG_2PI


@kernel
def _sample(start, stop, eps, mean, logvar, z):
    for i in range(start, stop):
        eps_row, mean_row, logvar_row, z_row = row(eps, i), row(mean, i % len(mean)), row(logvar, i % len(mean)), row(z, i)
        for k in range(z_row.size):
            z_row[k] = mean_row[k] + exp(F(0.5) * logvar_row[k]) * eps_row[k]


@kernel
def _sample_vjp(start, stop, g, logvar, eps, gmean, glogvar):
    for m in range(start, stop):
        logvar_row, gmean_row, glogvar_row = row(logvar, m), row(gmean, m), row(glogvar, m)
        gmean_row[:] = F(0)
        glogvar_row[:] = F(0)
        for i in range(m, len(g), len(logvar)):
            g_row, eps_row = row(g, i), row(eps, i)
            for k in range(g_row.size):
                gmean_row[k] += g_row[k]
                glogvar_row[k] += g_row[k] * eps_row[k]
        for k in range(glogvar_row.size):
            glogvar_row[k] *= F(0.5) * exp(F(0.5) * logvar_row[k])


@kernel
def _sample_and_kl(start, stop, eps, mean, logvar, z, kl):
    for i in range(start, stop):
        eps_row, mean_row, logvar_row, z_row = row(eps, i), row(mean, i), row(logvar, i), row(z, i)
        total = F(0)
        for k in range(z_row.size):
            z_row[k] = mean_row[k] + exp(F(0.5) * logvar_row[k]) * eps_row[k]
            total += mean_row[k] * mean_row[k] + exp_minus_1_minus(logvar_row[k])
        kl[i] = F(0.5) * total


@kernel
def _sample_and_kl_vjp(start, stop, gz, gkl, mean, logvar, eps, gmean, glogvar):
    for i in range(start, stop):
        gz_row, mean_row, logvar_row, eps_row = row(gz, i), row(mean, i), row(logvar, i), row(eps, i)
        gmean_row, glogvar_row = row(gmean, i), row(glogvar, i)
        for k in range(gz_row.size):
            gmean_row[k] = gz_row[k] + gkl[i] * mean_row[k]
            pull = gz_row[k] * eps_row[k] * exp(F(0.5) * logvar_row[k])
            glogvar_row[k] = F(0.5) * (pull + gkl[i] * expm1(logvar_row[k]))


@kernel(parallel=True)
def _log_prob_parallel(task, x, mean, logvar, value):
    for t in numba.prange((len(x) + task - 1) // task):
        _log_prob(t * task, min((t + 1) * task, len(x)), x, mean, logvar, value)


@kernel(parallel=True)
def _log_prob_vjp_parallel(task, x, mean, logvar, g, gx, gmean, glogvar):
    for t in numba.prange((len(mean) + task - 1) // task):
        _log_prob_vjp(t * task, min((t + 1) * task, len(mean)), x, mean, logvar, g, gx, gmean, glogvar)


@kernel(parallel=True)
def _pairs_parallel(task, value, x, columns):
    for t in numba.prange((len(x) + task - 1) // task):
        _pairs(t * task, min((t + 1) * task, len(x)), value, x, columns)


@kernel(parallel=True)
def _pairs_vjp_parallel(task, g, x, columns, gx, both):
    for t in numba.prange((x.shape[1] + task - 1) // task):
        _pairs_vjp(t * task, min((t + 1) * task, x.shape[1]), g, x, columns, gx, both)


@kernel(parallel=True)
def _standard_parallel(task, x, value):
    for t in numba.prange((len(x) + task - 1) // task):
        _standard(t * task, min((t + 1) * task, len(x)), x, value)


@kernel(parallel=True)
def _sample_parallel(task, eps, mean, logvar, z):
    for t in numba.prange((len(eps) + task - 1) // task):
        _sample(t * task, min((t + 1) * task, len(eps)), eps, mean, logvar, z)


@kernel(parallel=True)
def _sample_vjp_parallel(task, g, logvar, eps, gmean, glogvar):
    for t in numba.prange((len(logvar) + task - 1) // task):
        _sample_vjp(t * task, min((t + 1) * task, len(logvar)), g, logvar, eps, gmean, glogvar)


@kernel(parallel=True)
def _sample_and_kl_parallel(task, eps, mean, logvar, z, kl):
    for t in numba.prange((len(eps) + task - 1) // task):
        _sample_and_kl(t * task, min((t + 1) * task, len(eps)), eps, mean, logvar, z, kl)


@kernel(parallel=True)
def _sample_and_kl_vjp_parallel(task, gz, gkl, mean, logvar, eps, gmean, glogvar):
    for t in numba.prange((len(gz) + task - 1) // task):
        _sample_and_kl_vjp(t * task, min((t + 1) * task, len(gz)), gz, gkl, mean, logvar, eps, gmean, glogvar)
