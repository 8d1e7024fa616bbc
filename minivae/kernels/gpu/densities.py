"""Log densities and divergences on the GPU.  Equations: minivae/ops/densities.py; kernels: densities.cu."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import Array, one, xp
from ...errors import ShapeError
from .activations import ROWS
from .arrays import alike, event, plain
from .launcher import Kernel, arrived, empty
from .step import Draw

MATRIX = "float32[rows * columns]"
SHAPE = "int64 rows, int64 columns"
SAMPLES = "float32[samples * rows * columns]"
ROWS_RECORD = np.dtype([("at", np.uint64), ("size", np.int64), ("period", np.int64), ("pitch", np.int64)])
STRUCTURES = {"Rows": ROWS_RECORD}
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
    f"Rows mean, Rows logvar, {MATRIX} eps, uint64?[4] step, uint64 key, uint64 counter, {MATRIX} sigma, {MATRIX} z, float32[rows] kl, "
    f"{SHAPE}, int32 drawn, int32 estimate",
    grid=ROWS,
    block="team(columns)",
    structures=STRUCTURES,
)
SAMPLE_AND_KL_GRADIENT = Kernel(
    "sample_and_kl_gradient",
    "densities.cu",
    f"{SAMPLES} gz, float32[samples * rows] gkl, Rows mean, Rows logvar, {SAMPLES} eps, {SAMPLES} sigma, {SAMPLES} z, "
    f"float32[2 * rows * columns] gradient, int64 samples, {SHAPE}, int64 pitch, int64 second, int32 estimate",
    grid="(divide_up(rows * columns, THREADS if samples == 1 else 32),)",
    block="(THREADS, 1) if samples == 1 else (32, THREADS // 32)",
    structures=STRUCTURES,
)
BERNOULLI_BOUND = Kernel(
    "bernoulli_bound",
    "densities.cu",
    "float32[samples * images * columns] logits, Rows x, float32[samples * images] kl, float32[samples * images * columns] residual, "
    "float32[samples * images] log_prob, uint32[ARRIVALS] arrived, float32[1] loss, float32[images] reconstruction, "
    "float32[images] divergence, float32[samples * images] glikelihood, float32[samples * images] gkl, int64 samples, int64 images, "
    "int64 columns",
    grid="(samples * images,)",
    structures=STRUCTURES,
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


class Rows:
    """What densities.cu calls Rows: x (*lead, *event) as a matrix whose rows serve (*batch, *event) again and again, copied only where no
    pitch and no period describe it."""

    def __init__(self, x: Any, batch: tuple[int, ...], event_ndim: int):
        lead = x.shape[: x.ndim - event_ndim]
        if lead != batch[len(batch) - len(lead) :] or not lead:
            x, lead = xp(x).broadcast_to(x, batch + x.shape[x.ndim - event_ndim :]), batch
        columns = math.prod(x.shape[len(lead) :])
        if not (x.dtype == np.float32 and x.ndim == 2 and event_ndim == 1 and x.strides[1] == 4 and x.strides[0] % 4 == 0):
            x = plain(x)
        self.held, self.pitch = x, columns if x.flags.c_contiguous else x.strides[0] // 4
        self.at = x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr
        self.record = np.array([(self.at, x.size, max(math.prod(lead), 1), self.pitch)], ROWS_RECORD)


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


def sample_and_kl_forward(mean: Array, logvar: Array, eps: Any, event_ndim: int = 1) -> tuple[tuple[Array, Array], tuple]:
    shape = np.broadcast_shapes(mean.shape, logvar.shape)
    if tuple(eps.shape) != shape:
        if np.broadcast_shapes(shape, eps.shape) != shape:
            raise ShapeError(f"sample_and_kl: one sample is {shape}, eps is {eps.shape}; need equal shapes")
        eps = xp(eps).broadcast_to(eps, shape)
    return sampled(mean, logvar, eps, event_ndim, estimate=False)


def sampled(mean: Array, logvar: Array, eps: Any, event_ndim: int, estimate: bool) -> tuple[tuple[Array, Array], tuple]:
    """z, and the KL of each sample's Gaussian to the standard one, or its estimate by z.   mean, logvar (*batch, *event), eps an array or a
    Draw of (*samples, *batch, *event)"""
    batch, rows, columns = event(tuple(eps.shape), event_ndim)
    shape = np.broadcast_shapes(mean.shape, logvar.shape)
    own = [Rows(a if a.shape == shape else xp(a).broadcast_to(a, shape), batch, event_ndim) for a in (mean, logvar)]
    drawn = isinstance(eps, Draw)
    place = (eps.step, eps.key, eps.counter) if drawn else (None, 0, 0)
    eps = empty(eps.shape) if drawn else plain(eps)
    sigma, z, kl = empty(eps.shape), empty(eps.shape), empty(batch)
    SAMPLE_AND_KL(*own, eps, *place, sigma, z, kl, rows, columns, int(drawn), int(estimate))
    return (z, kl), (*own, shape, sigma, eps, z, estimate, columns)


def sample_and_kl_vjp(
    g: Sequence[Array],
    mean: Rows,
    logvar: Rows,
    shape: tuple[int, ...],
    sigma: Array,
    eps: Array,
    z: Array,
    estimate: bool,
    columns: int,
    needs: Sequence[bool] = (True, True, False),
) -> tuple[Array, Array, Array | None]:
    gz, gkl = map(plain, g)
    rows = math.prod(shape) // max(columns, 1)
    samples = z.size // max(rows * columns, 1)
    halves = mean.pitch == logvar.pitch == 2 * columns and logvar.at - mean.at == 4 * columns  # of one array: so will be the gradients
    gradient = empty((rows, 2 * columns) if halves else (2, *shape))
    gmean, glogvar = (gradient[:, :columns], gradient[:, columns:]) if halves else (gradient[0, ...], gradient[1, ...])
    pitch, second = (2 * columns, columns) if halves else (columns, rows * columns)
    SAMPLE_AND_KL_GRADIENT(gz, gkl, mean, logvar, eps, sigma, z, gradient, samples, rows, columns, pitch, second, int(estimate))
    return gmean, glogvar, gz * sigma if needs[2] else None


def filled(g: Sequence[Array | None], values: Sequence[Array]) -> list[Array]:
    """Zeros in the place of gradients that are not there."""
    return [xp(value).zeros_like(value) if own is None else own for own, value in zip(g, values, strict=True)]


def bernoulli_bound(logits: Array, x: Array, kl: Array, event_ndim: int) -> tuple[tuple[Array, Array, Array], tuple]:
    """(loss, reconstruction, kl) of distributions.bound, and what its vjp takes.   logits (*samples, N, *event), x (N, *event)"""
    logits, kl = plain(logits), plain(kl)
    batch, rows, columns = event(logits.shape, event_ndim)
    images = batch[-1]
    residual, log_prob, loss, reconstruction, divergence = (empty(s) for s in (logits.shape, batch, (), (images,), (images,)))
    glikelihood, gkl, samples = empty(batch), empty(batch), rows // images
    arrays = logits, Rows(x, batch, event_ndim), kl, residual, log_prob, arrived(), loss, reconstruction, divergence, glikelihood, gkl
    BERNOULLI_BOUND(*arrays, samples, images, columns)
    return (loss, reconstruction, divergence), (residual, glikelihood, gkl, samples)


def bernoulli_bound_vjp(g: tuple, residual: Array, glikelihood: Array, gkl: Array, samples: int) -> tuple[Array, Array]:
    of_loss, of_reconstruction, of_kl = g
    alone = of_reconstruction is None and of_kl is None and of_loss is one(of_loss)  # the gradients of the loss itself lie ready
    if alone and samples == 1:
        return residual, gkl
    if samples == 1:
        residual = residual * np.float32(-glikelihood.size)
    if not alone:
        of_loss = 0 if of_loss is None else of_loss
        glikelihood = glikelihood * of_loss - (0 if of_reconstruction is None else of_reconstruction / np.float32(samples))
        gkl = gkl * of_loss + (0 if of_kl is None else of_kl / np.float32(samples))
    return scaled(plain(glikelihood), residual, glikelihood.size, residual.size // glikelihood.size), gkl


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
