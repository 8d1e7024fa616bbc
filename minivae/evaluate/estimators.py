"""The gradient of the ELBO, and of its tighter relatives, with respect to the encoder: five estimators, and their exact moments.

All estimate the gradient of one bound, with respect to the mean and logvar of q = N(mean, sigma^2):

    L_k = E[log 1/k sum_i w_i],   w_i = p(x, z_i) / q(z_i | x),   z_i ~ q independently;   L_1 is the ELBO

An estimator takes (model, x, q, eps) and returns Tensors (R,), one a repetition.  The gradient of each is one estimate; the values of the
last two mean nothing.

    model   has decode(z).log_prob(x) and prior.log_prob(z), as everywhere
    x       one datum, (1, ...), or R of them
    q       a Gaussian of Tensors (R, K): a row for each repetition, so that each has a gradient of its own; see `repeated`
    eps     standard normal noise (k, R, K)

    q = repeated(mean, logvar, 1000)
    estimates = per_repetition(sticking_the_landing(model, x, q, rng.normal((1, 1000, K))), [q.mean, q.logvar])     # (1000, 2K)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backend import Array, xp
from ..distributions import Gaussian, StandardGaussian, kl
from ..engine import Tensor, gradients, stop_gradient
from ..errors import ShapeError
from ..quadrature import hermite_rule
from ..random import Stream

Estimator = Callable[..., Tensor]


def closed_form_kl(model: Any, x: Any, q: Gaussian, eps: Array) -> Tensor:
    """1/k sum_i log p(x | z_i) - KL(q || p),   z_i = mean + sigma eps_i: what `objectives.elbo` trains with.  For L_1 alone.     -> (R,)

    D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014, eq. 7.
    """
    return model.decode(_path(q, eps)).log_prob(x).mean(axis=0) - kl(q, model.prior)


def reparameterized(model: Any, x: Any, q: Gaussian, eps: Array) -> Tensor:
    """log 1/k sum_i w_i,   z_i = mean + sigma eps_i: through the samples, and through log q(z_i) as well.  Unbiased.     -> (R,)

    Kingma and Welling 2014, eq. 6, for k = 1; Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016.
    """
    return _bound(_log_weights(model, x, _path(q, eps), q))


def score_function(model: Any, x: Any, q: Gaussian, eps: Array, baseline: Any = 0.0) -> Tensor:
    """[L - baseline] sum_i log q(z_i) + L,   L = log 1/k sum_i w_i, z_i and the bracket constants.  Unbiased.     -> (R,)

    From grad E_q[L] = E_q[L grad log q(z_1 .. z_k) + grad L]: no derivative of the decoder with respect to z is needed, which may be
    discrete.  The baseline is any number (or (R,)) that does not depend on eps: E[grad log q] = 0, so that it moves no mean, and it takes
    away the variance that comes with the size of L.  At k = 1 grad L = -grad log q(z) has the mean 0 itself.

    R. J. Williams, 1992 (REINFORCE); J. Paisley, D. Blei and M. Jordan, "Variational Bayesian inference with stochastic search", 2012;
    A. Mnih and D. Rezende, "Variational inference for Monte Carlo objectives", 2016, for k > 1.
    """
    z = stop_gradient(_path(q, eps))
    bound = _bound(_log_weights(model, x, z, q))
    return stop_gradient(bound.data - baseline) * q.log_prob(z).sum(axis=0) + bound


def sticking_the_landing(model: Any, x: Any, q: Gaussian, eps: Array) -> Tensor:
    """log 1/k sum_i p(x, z_i) / [q](z_i),   z_i = mean + sigma eps_i, [q] constant: through the samples alone.     -> (R,)

    What is left out, E[grad log q(z)] at fixed z, is 0 at k = 1.  Where q is the posterior, log w does not depend on z: the estimate is
    exactly 0, whatever eps is.  At k > 1 the weights make the part left out count, and the estimate is biased (Tucker et al. 2019).

    G. Roeder, Y. Wu and D. Duvenaud, "Sticking the landing", 2017.
    """
    return _bound(_log_weights(model, x, _path(q, eps), _constant(q)))


def doubly_reparameterized(model: Any, x: Any, q: Gaussian, eps: Array) -> Tensor:
    """sum_i [v_i^2] log p(x, z_i) / [q](z_i),   v_i = w_i / sum_j w_j; brackets are constant.  Unbiased for every k.     -> (R,)

    The part that sticking the landing leaves out is a score function, sum_i v_i grad log q(z_i): reparameterized a second time it turns v
    into v^2.  The same as sticking the landing at k = 1.  For the encoder alone: a decoder's gradient would have v^2 where it needs v.

    G. Tucker, D. Lawson, S. Gu and C. Maddison, "Doubly reparameterized gradient estimators for Monte Carlo objectives", 2019.
    """
    log_weights = _log_weights(model, x, _path(q, eps), _constant(q))
    share = ops.softmax(stop_gradient(log_weights), axis=0)
    return (log_weights * share * share).sum(axis=0)


def _path(q: Gaussian, eps: Array) -> Tensor:
    return ops.reparameterize(q.mean, q.logvar, eps)


def _constant(q: Gaussian) -> Gaussian:
    return Gaussian(stop_gradient(q.mean), stop_gradient(q.logvar))


def _log_weights(model: Any, x: Any, z: Tensor, q: Gaussian) -> Tensor:
    """log w_i     (k, R)"""
    return model.decode(z).log_prob(x) + (model.prior.log_prob(z) - q.log_prob(z))


def _bound(log_weights: Tensor) -> Tensor:
    return ops.logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def repeated(mean: Any, logvar: Any, repetitions: int) -> Gaussian:
    """N(mean, exp(logvar)) as `repetitions` rows of Tensors, each with a gradient of its own.     (K,) -> (R, K)"""
    rows = [np.repeat(np.asarray(a, np.float64).reshape(1, -1), repetitions, axis=0) for a in (mean, logvar)]
    if rows[0].shape != rows[1].shape:
        raise ShapeError(f"repeated: mean has {rows[0].shape[1]} numbers, logvar {rows[1].shape[1]}; need K each, of one datum")
    return Gaussian(Tensor(rows[0]), Tensor(rows[1]))


def per_repetition(surrogate: Tensor, params: Sequence[Tensor]) -> Array:
    """The gradient of each repetition with respect to its own rows of the params, side by side.     (R,), each (R, ...) -> (R, P)"""
    rows = surrogate.shape
    if len(rows) != 1 or any(p.shape[:1] != rows for p in params):
        raise ShapeError(f"per_repetition: the surrogate is {rows}, the params are {[p.shape for p in params]}; need (R,) and (R, ...)")
    found = gradients(surrogate.sum(), params)
    return xp(found[0]).concatenate([g.reshape(rows[0], -1) for g in found], axis=1)


class Moments(NamedTuple):
    """Of an estimator of the 2K numbers (d/dmean, d/dlogvar)."""

    mean: np.ndarray  # (2K,)
    variance: np.ndarray  # (2K,), of one repetition


def moments(estimator: Estimator, model: Any, x: Any, mean: Any, logvar: Any, samples: int = 1, nodes: int = 40) -> Moments:
    """Mean and variance of an estimate with k = samples, by quadrature over eps: its bias and its noise, with no noise in them.

    An estimate is a function of the k K numbers eps, so that a product of as many Gauss-Hermite rules of n nodes integrates it.  The mean
    of an unbiased one is the exact gradient of L_k.     mean, logvar (K,).  Raises UsageError for more than 4 million points.
    """
    points, weight = hermite_rule(samples * np.size(mean), nodes)
    q = repeated(mean, logvar, len(points))
    eps = np.moveaxis(points.reshape(len(points), samples, -1), 1, 0)  # (P, k K) -> (k, P, K)
    estimates = per_repetition(estimator(model, x, q, eps), [q.mean, q.logvar])
    expected = weight @ estimates
    return Moments(expected, weight @ (estimates - expected) ** 2)


class LinearGaussian:
    """x = z w + b + noise: the decoder whose posterior is a Gaussian.     z (..., K), w (K, D), b (D,), or (R, D): one a repetition"""

    prior = StandardGaussian()

    def __init__(self, w: Any, b: Any, noise: float):
        self.w, self.b, self.noise = w, b, noise
        self.latent = w.shape[0]

    def decode(self, z: Any) -> Gaussian:
        return Gaussian(ops.dense(z, self.w) + self.b, 2 * math.log(self.noise))

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p(z | x) = N(m, S),  S = (I + w w' / noise^2)^-1,  m = S w (x - b) / noise^2.     x (D,) -> (K,), (K, K)

        C. M. Bishop, "Pattern recognition and machine learning", 2006, eq. 12.42.
        """
        covariance = np.linalg.inv(np.eye(self.latent) + self.w @ self.w.T / self.noise**2)
        return covariance @ self.w @ (x - self.b) / self.noise**2, covariance


def signal_to_noise(
    model: LinearGaussian, x: np.ndarray, mean: Any, logvar: Any, samples: Sequence[int], repetitions: int, rng: Stream
) -> dict[str, np.ndarray]:
    """|E g| / sqrt(trace Cov g) of one estimate g of the gradient of L_k, for each k in samples.     x (1, D) -> {name: (len(samples),)}

    T. Rainforth et al., "Tighter variational bounds are not necessarily better", 2018, theorem 1: the encoder's falls with k^-1/2, since
    L_k ceases to depend on q faster than its estimate does; the decoder's rises with k^1/2.  The doubly reparameterized encoder's rises.
    The encoder's E g is the mean of the doubly reparameterized estimates for both, which differ in their noise alone.
    """
    ratios = []
    for k in samples:
        q, b = repeated(mean, logvar, repetitions), Tensor(np.repeat(model.b[None], repetitions, axis=0))
        eps = rng.normal((k, repetitions, model.latent), like=q.mean.data)
        plain = per_repetition(reparameterized(LinearGaussian(model.w, b, model.noise), x, q, eps), [q.mean, q.logvar, b])
        encoder, decoder = plain[:, : 2 * model.latent], plain[:, 2 * model.latent :]
        doubly = per_repetition(doubly_reparameterized(model, x, q, eps), [q.mean, q.logvar])
        signals = ((encoder, doubly), (doubly, doubly), (decoder, decoder))
        ratios.append([np.linalg.norm(s.mean(axis=0)) / math.sqrt(g.var(axis=0).sum()) for g, s in signals])
    names = ("encoder, reparameterized", "encoder, doubly reparameterized", "decoder")
    return dict(zip(names, np.array(ratios).T, strict=True))
