"""The bound on log p(x) that `minivae evaluate` prints, where log p(x) is known: in closed form, and by quadrature."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
import scipy.stats

from minivae import Stream, ops
from minivae.distributions import Gaussian, StandardGaussian
from minivae.evaluate import log_likelihood
from minivae.quadrature import expectation, log_marginal

W, B, NOISE = np.array([[0.8, -1.1, 0.3]]), np.array([0.2, -0.5, 1.0]), 0.6
X = np.array([[0.5, -1.0, 1.1], [2.0, -3.0, 1.5], [-40.0, 50.0, 0.0]])  # the last is far out: e^log p is no float64


def linear_gaussian(shift=0.0, wider=0.0):
    """z ~ N(0, 1), x = W z + B + noise; an encoder that knows the posterior, or is off by shift sigmas and `wider` in log sigma^2."""
    variance = 1 / (1 + (W @ W.T).item() / NOISE**2)
    mean = (X - B) @ W.T / NOISE**2 * variance
    return SimpleNamespace(
        latent=1,
        prior=StandardGaussian(),
        decode=lambda z: Gaussian(ops.dense(z, W, B), np.full(3, 2 * math.log(NOISE))),
        encode=lambda x: Gaussian(mean + shift * math.sqrt(variance), np.full_like(mean, math.log(variance) + wider)),
    )


@pytest.mark.parametrize("samples", [1, 2, 30])
def test_with_the_posterior_for_an_encoder_every_sample_is_log_p(samples):
    """The weight p(x, z) / p(z | x) is p(x), whatever z: no chance is left, and no digit is lost 5,000 nats down."""
    wanted = scipy.stats.multivariate_normal(B, W.T @ W + NOISE**2 * np.eye(3)).logpdf(X)
    assert wanted[2] < -1000
    np.testing.assert_allclose(log_likelihood(linear_gaussian(), X, Stream(0), samples), wanted, rtol=1e-12)


def test_with_another_encoder_the_mean_weight_is_p():
    """log of a mean of k weights is off by their relative standard error, which an integral knows: 6 of them are exceeded once in 5e8."""
    model, k = linear_gaussian(shift=0.7, wider=0.5), 20_000
    log_p = log_marginal(model, X).log_p
    q = model.encode(X)

    def squared_weight(z):
        """(w / p(x))^2 at z (n, 3, 1)"""
        log_w = model.decode(z).log_prob(X).data + model.prior.log_prob(z).data - q.log_prob(z).data
        return np.exp(2 * (log_w - log_p))[..., None]

    error = np.sqrt((expectation(q, squared_weight)[:, 0] - 1) / k)
    assert (error < 0.02).all()
    off = log_likelihood(model, X, Stream(1), k) - log_p
    assert (abs(off) < 6 * error).all()
    assert (abs(off) > 1e-6).all()


@pytest.mark.parametrize("samples", [2, 3, 7])
def test_the_weight_of_many_samples_is_the_mean_of_the_weights_of_each(samples):
    """Far from the posterior, so that weights differ by orders of magnitude and the largest comes late or early."""
    model = linear_gaussian(shift=5.0, wider=1.0)
    for seed in range(10):
        rng = Stream(seed)
        each = [log_likelihood(model, X, rng, 1) for _ in range(samples)]
        wanted = scipy.special.logsumexp(each, axis=0) - math.log(samples)
        np.testing.assert_allclose(log_likelihood(model, X, Stream(seed), samples), wanted, rtol=1e-12)
