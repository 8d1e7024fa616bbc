"""Log densities and divergences on the GPU.  Equations: minivae/ops/densities.py; kernels: densities.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import Array
from ...errors import ShapeError
from .activations import ROWS
from .arrays import alike, event, plain
from .launcher import Kernel, empty

MATRIX = "float32[rows * columns]"
SHAPE = "int64 rows, int64 columns"
BERNOULLI = Kernel(
    "bernoulli_log_prob",
    "densities.cu",
    f"{MATRIX} logits, {MATRIX} x, {MATRIX} residual, float32[rows] log_prob, {SHAPE}",
    grid=ROWS,
    block="team(columns)",
)
SCALE_ROWS = Kernel(
    "scale_rows",
    "densities.cu",
    f"float32[rows] g, {MATRIX} factor, {MATRIX} product, {SHAPE}",
    grid="spread(rows * columns)",
)
REPARAMETERIZE = Kernel(
    "reparameterize",
    "densities.cu",
    "float32[n] mean, float32[n] logvar, float32[n] eps, float32[n] sigma, float32[n] z, int64 n",
    grid="spread(n)",
)
REPARAMETERIZE_GRADIENT = Kernel(
    "reparameterize_gradient",
    "densities.cu",
    "float32[n] g, float32[n] sigma, float32[n] eps, float32[n] glogvar, float32[n] geps, int64 n",
    grid="spread(n)",
)
KL = Kernel(
    "gaussian_kl_standard",
    "densities.cu",
    f"{MATRIX} mean, {MATRIX} logvar, float32[rows] kl, {SHAPE}",
    grid=ROWS,
    block="team(columns)",
)
KL_GRADIENT = Kernel(
    "gaussian_kl_standard_gradient",
    "densities.cu",
    f"float32[rows] g, {MATRIX} mean, {MATRIX} logvar, {MATRIX} gmean, {MATRIX} glogvar, {SHAPE}",
    grid="spread(rows * columns)",
)
SAMPLE_AND_KL = Kernel(
    "sample_and_kl",
    "densities.cu",
    f"{MATRIX} mean, {MATRIX} logvar, {MATRIX} eps, {MATRIX} sigma, {MATRIX} z, float32[rows] kl, {SHAPE}",
    grid=ROWS,
    block="team(columns)",
)
SAMPLE_AND_KL_GRADIENT = Kernel(
    "sample_and_kl_gradient",
    "densities.cu",
    f"{MATRIX} gz, float32[rows] gkl, {MATRIX} mean, {MATRIX} logvar, {MATRIX} eps, {MATRIX} sigma, {MATRIX} gmean, "
    f"{MATRIX} glogvar, {SHAPE}",
    grid="spread(rows * columns)",
)
GAUSSIAN = Kernel(
    "gaussian_log_prob",
    "densities.cu",
    f"{MATRIX} x, {MATRIX} mean, {MATRIX} logvar, {MATRIX} deviation, {MATRIX} inverse, float32[rows] log_prob, {SHAPE}",
    grid=ROWS,
    block="team(columns)",
)
GAUSSIAN_GRADIENT = Kernel(
    "gaussian_log_prob_gradient",
    "densities.cu",
    f"float32[rows] g, {MATRIX} deviation, {MATRIX} inverse, {MATRIX} gx, {MATRIX} gmean, {MATRIX} glogvar, {SHAPE}",
    grid="spread(rows * columns)",
)


def scaled(g: Array, factor: Array, rows: int, columns: int) -> Array:
    product = empty(factor.shape)
    SCALE_ROWS(g, factor, product, rows, columns)
    return product


def bernoulli_log_prob_forward(logits: Array, x: Any, event_ndim: int = 1) -> tuple[Array, tuple]:
    logits, x = alike(logits, x)
    batch, rows, columns = event(logits.shape, event_ndim)
    residual, log_prob = empty(logits.shape), empty(batch)
    BERNOULLI(logits, x, residual, log_prob, rows, columns)
    return log_prob, (logits, residual, rows, columns)


def bernoulli_log_prob_vjp(g: Array, logits: Array, residual: Array, rows: int, columns: int, needs: tuple[bool, ...]) -> tuple:
    g = plain(g)
    return scaled(g, residual, rows, columns), scaled(g, logits, rows, columns) if needs[1] else None


def reparameterize_forward(mean: Array, logvar: Array, eps: Array) -> tuple[Array, tuple]:
    mean, logvar, eps = alike(mean, logvar, eps)
    sigma, z = empty(mean.shape), empty(mean.shape)
    REPARAMETERIZE(mean, logvar, eps, sigma, z, mean.size)
    return z, (sigma, eps)


def reparameterize_vjp(g: Array, sigma: Array, eps: Array, needs: Sequence[bool]) -> tuple[Array, Array, Array | None]:
    g = plain(g)
    glogvar, geps = empty(sigma.shape), empty(sigma.shape)
    REPARAMETERIZE_GRADIENT(g, sigma, eps, glogvar, geps, sigma.size)
    return g, glogvar, geps if needs[2] else None


def gaussian_kl_standard_forward(mean: Array, logvar: Array, event_ndim: int = 1) -> tuple[Array, tuple]:
    mean, logvar = alike(mean, logvar)
    batch, rows, columns = event(mean.shape, event_ndim)
    kl = empty(batch)
    KL(mean, logvar, kl, rows, columns)
    return kl, (mean, logvar, rows, columns)


def gaussian_kl_standard_vjp(g: Array, mean: Array, logvar: Array, rows: int, columns: int) -> tuple[Array, Array]:
    gmean, glogvar = empty(mean.shape), empty(mean.shape)
    KL_GRADIENT(plain(g), mean, logvar, gmean, glogvar, rows, columns)
    return gmean, glogvar


def sample_and_kl_forward(mean: Array, logvar: Array, eps: Array, event_ndim: int = 1) -> tuple[tuple[Array, Array], tuple]:
    shape = np.broadcast_shapes(mean.shape, logvar.shape)
    mean, logvar, eps = alike(mean, logvar, eps)
    if mean.shape != shape:
        raise ShapeError(f"sample_and_kl: one sample is {shape}, eps is {eps.shape}; need equal shapes")
    batch, rows, columns = event(shape, event_ndim)
    sigma, z, kl = empty(shape), empty(shape), empty(batch)
    SAMPLE_AND_KL(mean, logvar, eps, sigma, z, kl, rows, columns)
    return (z, kl), (mean, logvar, sigma, eps, rows, columns)


def sample_and_kl_vjp(
    g: Sequence[Array], mean: Array, logvar: Array, sigma: Array, eps: Array, rows: int, columns: int, needs: Sequence[bool]
) -> tuple[Array, Array, Array | None]:
    gz, gkl = map(plain, g)
    gmean, glogvar = empty(mean.shape), empty(mean.shape)
    SAMPLE_AND_KL_GRADIENT(gz, gkl, mean, logvar, eps, sigma, gmean, glogvar, rows, columns)
    return gmean, glogvar, gz * sigma if needs[2] else None


def gaussian_log_prob_forward(x: Any, mean: Any, logvar: Any, event_ndim: int = 1) -> tuple[Array, tuple]:
    x, mean, logvar = alike(x, mean, logvar)
    batch, rows, columns = event(x.shape, event_ndim)
    deviation, inverse, log_prob = empty(x.shape), empty(x.shape), empty(batch)
    GAUSSIAN(x, mean, logvar, deviation, inverse, log_prob, rows, columns)
    return log_prob, (deviation, inverse, rows, columns)


def gaussian_log_prob_vjp(g: Array, deviation: Array, inverse: Array, rows: int, columns: int) -> tuple[Array, Array, Array]:
    gx, gmean, glogvar = empty(deviation.shape), empty(deviation.shape), empty(deviation.shape)
    GAUSSIAN_GRADIENT(plain(g), deviation, inverse, gx, gmean, glogvar, rows, columns)
    return gx, gmean, glogvar


bernoulli_log_prob = (bernoulli_log_prob_forward, bernoulli_log_prob_vjp)
reparameterize = (reparameterize_forward, reparameterize_vjp)
gaussian_kl_standard = (gaussian_kl_standard_forward, gaussian_kl_standard_vjp)
sample_and_kl = (sample_and_kl_forward, sample_and_kl_vjp)
gaussian_log_prob = (gaussian_log_prob_forward, gaussian_log_prob_vjp)
