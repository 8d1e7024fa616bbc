"""Log-densities and divergences in closed form, each one op, summed over the event (the last `event_ndim` axes).  In nats."""

import math

import numpy as np

from ..backend import xp
from ..engine import Op
from ..kernels.cpu import densities as kernels
from ..kernels.cpu import gaussians
from ..kernels.gpu import KERNELS as GPU
from ..kernels.lazy import kernels_only_rows
from .activations import sigmoid_of

LOG_2PI = math.log(2 * math.pi)
# 1/s - 1/sinh(s) = sum_n COSECH[n - 1] s^(2n - 1), COSECH[n - 1] = 2 (2^(2n - 1) - 1) B_2n / (2n)! with the Bernoulli numbers B_2n
COSECH = [
    0.16666666666666666,
    -0.019444444444444445,
    0.00205026455026455,
    -0.0002099867724867725,
    2.1336045641601196e-05,
    -2.1633474427786596e-06,
    2.192327134456764e-07,
    -2.2213930853920414e-08,
    2.2507674795567867e-09,
    -2.280510770721821e-10,
    2.3106421580996967e-11,
]


def sum_event(values, event_ndim):
    """The sum over the last event_ndim axes."""
    return values.sum(axis=tuple(range(values.ndim - event_ndim, values.ndim)))


def per_event(g, shape):
    """The adjoint of sum_event: every element of an event gets the event's gradient.     (*batch) -> shape = (*batch, *event)"""
    return xp(g).broadcast_to(g.reshape(g.shape + (1,) * (len(shape) - g.ndim)), shape)


def bernoulli_log_prob_reference(logits, x, event_ndim=1):
    """log p = sum x l - log(1 + e^l),  d/dl = x - sigmoid(l),  d/dx = l;  x in [0, 1], p = sigmoid(l).  No log of a rounded 0 or 1."""
    module = xp(logits)
    positive = logits.real > 0
    # x l - max(l, 0) as one product: the difference of two large numbers would leave no digit of log p of a certain pixel
    surprise = (x - positive.astype(logits.real.dtype)) * logits
    values = surprise - module.log1p(module.exp(module.where(positive, -logits, logits)))
    return sum_event(values, event_ndim), (logits, x, values.shape)


def bernoulli_log_prob_vjp(g, logits, x, shape, needs):
    g = per_event(g, shape)
    return g * (x - sigmoid_of(logits)), g * logits if needs[1] else None


def continuous_bernoulli_log_normalizer_reference(logits):
    """log C(l) = log(l / tanh(l / 2)), elementwise: C p^x (1-p)^(1-x) integrates to 1 over [0, 1]; log 2 at l = 0.

    G. Loaiza-Ganem and J. P. Cunningham, "The continuous Bernoulli", NeurIPS 2019, eq. 6-7, written in the logit.
    """
    module = xp(logits)
    s = module.where(logits.real < 0, -logits, logits)  # even in l
    s = module.where(s == 0, s.real.dtype.type(1e-30), s)  # 0 / 0 has the limit 1
    # tanh(s/2) = -expm1(-s) / (1 + e^-s): both factors are accurate for every s >= 0
    return module.log(s / -module.expm1(-s)) + module.log1p(module.exp(-s)), (logits,)


def continuous_bernoulli_log_normalizer_vjp(g, logits):
    """d/dl = 1/l - 1/sinh(l), by its series where the difference cancels"""
    module = xp(logits)
    small = abs(logits.real) < 0.5
    l = module.where(small, logits, 0)
    series = 0
    for coefficient in reversed(COSECH):
        series = series * l * l + coefficient
    large = module.where(small, 1, logits)
    s = module.where(large.real < 0, -large, large)
    e = module.exp(-s)
    exact = 1 / s - 2 * e / (1 - e * e)
    return (g * module.where(small, series * l, module.where(large.real < 0, -exact, exact)),)


def exp_remainder_of(x):
    """e^x - 1 - x, to rounding for every x: by its series sum_{n>=2} x^n / n! where the difference cancels."""
    module = xp(x)
    small = abs(x.real) < 0.5
    t = module.where(small, x, 0)
    series = 1
    for n in range(14, 2, -1):  # 0.5^13 / 15! < 2^-53
        series = 1 + t / n * series
    with np.errstate(over="ignore", invalid="ignore"):  # e^104 is beyond float32, and infinity is its rounded value
        large = module.expm1(module.where(small, 0, x)) - x
    return module.where(small, t * t / 2 * series, large)


def exp_remainder_reference(x):
    """y = e^x - 1 - x,  dy/dx = e^x - 1"""
    return exp_remainder_of(x), (x,)


def exp_remainder_vjp(g, x):
    with np.errstate(over="ignore"):
        return (g * xp(x).expm1(x),)


def reparameterize_reference(mean, logvar, eps):
    """z = mean + sigma eps with sigma = exp(logvar / 2),  dz/dmean = 1,  dz/dlogvar = sigma eps / 2        Kingma and Welling 2014, 2.4"""
    sigma = xp(logvar).exp(logvar / 2)
    return mean + sigma * eps, (sigma, eps)


def reparameterize_vjp(g, sigma, eps, needs):
    return g, g * sigma * eps / 2, g * sigma if needs[2] else None


def gaussian_log_prob_reference(x, mean, logvar, event_ndim=1):
    """log N(x; mean, sigma^2) = -1/2 sum ((x - mean) / sigma)^2 + log sigma^2 + log 2 pi"""
    module = xp(logvar)
    with np.errstate(over="ignore"):
        inverse = module.exp(-logvar / 2)  # 1 / sigma and not 1 / sigma^2, which overflows twice as early
        deviation = (x - mean) * inverse
        return sum_event(-(deviation * deviation + logvar + LOG_2PI) / 2, event_ndim), (deviation, inverse)


def gaussian_log_prob_vjp(g, deviation, inverse):
    g = per_event(g, deviation.shape)
    with np.errstate(over="ignore"):
        gmean = g * deviation * inverse
        return -gmean, gmean, g * (deviation * deviation - 1) / 2


def gaussian_kl_standard_reference(mean, logvar, event_ndim=1):
    """KL(N(mean, sigma^2) || N(0, 1)) = 1/2 sum mean^2 + sigma^2 - log sigma^2 - 1        Kingma and Welling 2014, appendix B

    sigma^2 - log sigma^2 - 1 = e^l - 1 - l is computed without cancellation: as it stands it has lost all digits at l = 1e-4 in float32.
    """
    values = (mean * mean + exp_remainder_of(logvar)) / 2
    return sum_event(values, event_ndim), (mean, logvar, values.shape)


def gaussian_kl_standard_vjp(g, mean, logvar, shape):
    g = per_event(g, shape)
    with np.errstate(over="ignore"):
        return g * mean, g * xp(logvar).expm1(logvar) / 2


def sample_and_kl_reference(mean, logvar, eps, event_ndim=1):
    """(z, KL) = (mean + sigma eps, KL(N(mean, sigma^2) || N(0, 1))): what the encoder's Gaussian is asked for in every step, in one pass"""
    z, (sigma, _) = reparameterize_reference(mean, logvar, eps)
    divergence, (_, _, shape) = gaussian_kl_standard_reference(mean, logvar, event_ndim)
    return (z, divergence), (mean, logvar, sigma, eps, shape)


def sample_and_kl_vjp(g, mean, logvar, sigma, eps, shape, needs):
    gz, gkl = g
    gmean, glogvar, geps = reparameterize_vjp(gz, sigma, eps, needs)
    more = gaussian_kl_standard_vjp(gkl, mean, logvar, shape)
    return gmean + more[0], glogvar + more[1], geps


# --- fast kernels, for the shapes of a VAE: rows of events; anything else runs the reference ----------------------------------------


@kernels_only_rows
def bernoulli_log_prob_numba(logits, x, event_ndim=1):
    n = x.ndim - event_ndim  # x may be shared by leading axes of logits: importance samples
    if not 0 < n <= 1 or logits.shape[logits.ndim - x.ndim :] != x.shape or not x.size:
        value, saved = bernoulli_log_prob_reference(logits, x, event_ndim)
        return value, (None, *saved)
    log_prob, residual = kernels.bernoulli_log_prob(_rows(logits, event_ndim), _rows(x, event_ndim))
    return log_prob.reshape(logits.shape[: logits.ndim - event_ndim]), (residual, logits, x, logits.shape)


@kernels_only_rows
def bernoulli_log_prob_numba_vjp(g, residual, logits, x, shape, needs):
    if residual is None:
        return bernoulli_log_prob_vjp(g, logits, x, shape, needs)
    glogits = kernels.bernoulli_log_prob_vjp(g.reshape(-1), residual).reshape(shape)
    # g times the logits, by the kernel of g times the residual: a recording repeats kernels alone
    gx = kernels.bernoulli_log_prob_vjp(g.reshape(-1), logits.reshape(residual.shape)).reshape(shape) if needs[1] else None
    return glogits, gx


def _rows(a, event_ndim):
    return a.reshape(math.prod(a.shape[: a.ndim - event_ndim]), -1)


def _samples_of(x, mean, logvar):
    """Whether x (..., M, K) holds samples of one event a row for parameters (M, K)."""
    return mean.ndim == 2 and mean.shape == logvar.shape == x.shape[-2:] and x.size > 0


def _one_under_all(x, mean, logvar):
    """Whether x (..., 1, K) holds events for several rows of parameters (M, K) each, as a mixture has them."""
    if mean.ndim != 2 or len(mean) < 2 or mean.shape != logvar.shape or x.ndim < 2:
        return False
    return x.shape[-2:] == (1, mean.shape[1]) and x.size > 0


@kernels_only_rows
def reparameterize_numba(mean, logvar, eps):
    if not _samples_of(eps, mean, logvar):
        value, saved = reparameterize_reference(mean, logvar, eps)
        return value, (None, *saved)
    z = gaussians.sample(mean, logvar, eps if eps.ndim == 2 else eps.reshape(-1, mean.shape[1]))
    return z if eps.ndim == 2 else z.reshape(eps.shape), (logvar, None, eps)


@kernels_only_rows
def reparameterize_numba_vjp(g, logvar, sigma, eps, needs):
    if logvar is None or needs[2]:
        return reparameterize_vjp(g, np.exp(logvar / 2) if sigma is None else sigma, eps, needs)
    width = logvar.shape[1]
    return *gaussians.sample_vjp(g.reshape(-1, width), logvar, eps.reshape(-1, width)), None


@kernels_only_rows
def gaussian_log_prob_numba(x, mean, logvar, event_ndim=1):
    if event_ndim == 1 and x.ndim > 1 and type(mean) is float and mean == 0 and logvar.ndim == 0 and logvar == 0 and x.size:
        return gaussians.standard_log_prob(x.reshape(-1, x.shape[-1])).reshape(x.shape[:-1]), ("standard", x)
    if event_ndim == 1 and hasattr(mean, "ndim") and _samples_of(x, mean, logvar):
        return gaussians.log_prob(x.reshape(-1, mean.shape[1]), mean, logvar).reshape(x.shape[:-1]), ("samples", x, mean, logvar)
    if event_ndim == 1 and hasattr(mean, "ndim") and _one_under_all(x, mean, logvar):
        value = gaussians.pairs_log_prob(x.reshape(-1, mean.shape[1]), mean, logvar)
        return value.reshape(*x.shape[:-2], len(mean)), ("pairs", x, mean, logvar)
    value, saved = gaussian_log_prob_reference(x, mean, logvar, event_ndim)
    return value, ("reference", *saved)


@kernels_only_rows
def gaussian_log_prob_numba_vjp(g, case, *saved):
    if case == "reference":
        return gaussian_log_prob_vjp(g, *saved)
    x = saved[0]
    rows = x.reshape(-1, x.shape[-1])
    if case == "standard":
        return kernels.standard_log_prob_vjp(g.reshape(-1), rows).reshape(x.shape), None, None
    if case == "pairs":
        gx, gmean, glogvar = gaussians.pairs_log_prob_vjp(g.reshape(len(rows), -1), rows, *saved[1:])
        return gx.reshape(x.shape), gmean, glogvar
    gx, gmean, glogvar = gaussians.log_prob_vjp(g.reshape(-1), rows, *saved[1:])
    return gx.reshape(x.shape), gmean, glogvar


@kernels_only_rows
def gaussian_kl_standard_numba(mean, logvar, event_ndim=1):
    if mean.ndim != 2 or event_ndim != 1 or mean.shape != logvar.shape:
        return gaussian_kl_standard_reference(mean, logvar, event_ndim)
    return kernels.gaussian_kl_standard(mean, logvar), (mean, logvar, None)


@kernels_only_rows
def gaussian_kl_standard_numba_vjp(g, mean, logvar, shape):
    return kernels.gaussian_kl_standard_vjp(g, mean, logvar) if shape is None else gaussian_kl_standard_vjp(g, mean, logvar, shape)


@kernels_only_rows
def sample_and_kl_numba(mean, logvar, eps, event_ndim=1):
    if not mean.ndim == eps.ndim == 2 or event_ndim != 1 or not mean.shape == logvar.shape == eps.shape:
        return sample_and_kl_reference(mean, logvar, eps, event_ndim)
    return gaussians.sample_and_kl(mean, logvar, eps), (mean, logvar, None, eps, None)


@kernels_only_rows
def sample_and_kl_numba_vjp(g, mean, logvar, sigma, eps, shape, needs):
    if shape is not None or needs[2]:
        sigma = np.exp(logvar / 2) if sigma is None else sigma
        return sample_and_kl_vjp(g, mean, logvar, sigma, eps, mean.shape if shape is None else shape, needs)
    return *gaussians.sample_and_kl_vjp(g[0], g[1], mean, logvar, eps), None


bernoulli_log_prob = Op(
    "bernoulli_log_prob",
    numpy=(bernoulli_log_prob_reference, bernoulli_log_prob_vjp),
    numba=(bernoulli_log_prob_numba, bernoulli_log_prob_numba_vjp),
    cupy=GPU["bernoulli_log_prob"],
)
continuous_bernoulli_log_normalizer = Op(
    "continuous_bernoulli_log_normalizer",
    numpy=(continuous_bernoulli_log_normalizer_reference, continuous_bernoulli_log_normalizer_vjp),
)
exp_remainder = Op("exp_remainder", numpy=(exp_remainder_reference, exp_remainder_vjp))
reparameterize = Op(
    "reparameterize",
    numpy=(reparameterize_reference, reparameterize_vjp),
    numba=(reparameterize_numba, reparameterize_numba_vjp),
    cupy=GPU["reparameterize"],
)
gaussian_log_prob = Op(
    "gaussian_log_prob",
    numpy=(gaussian_log_prob_reference, gaussian_log_prob_vjp),
    numba=(gaussian_log_prob_numba, gaussian_log_prob_numba_vjp),
    cupy=GPU["gaussian_log_prob"],
)
gaussian_kl_standard = Op(
    "gaussian_kl_standard",
    numpy=(gaussian_kl_standard_reference, gaussian_kl_standard_vjp),
    numba=(gaussian_kl_standard_numba, gaussian_kl_standard_numba_vjp),
    cupy=GPU["gaussian_kl_standard"],
)
sample_and_kl = Op(
    "sample_and_kl",
    numpy=(sample_and_kl_reference, sample_and_kl_vjp),
    numba=(sample_and_kl_numba, sample_and_kl_numba_vjp),
    cupy=GPU["sample_and_kl"],
)
