"""log p(x) - ELBO = KL(q(z | x) || p(z | x)), for encoders that have been trained: two integrals on a grid, and the objective itself."""

import sys

import numpy as np

from minivae import elbo
from minivae.distributions import Gaussian, StandardGaussian, kl
from minivae.quadrature import log_marginal, posterior_kl

from .bounds import exact_elbo


def gap_and_divergence(model, x):
    gap = log_marginal(model, x).log_p - [exact_elbo(elbo, model, x[i : i + 1])[0] for i in range(len(x))]
    divergence, error = posterior_kl(model, x)
    assert (error < 1e-10).all()
    return gap, divergence


def test_the_gap_of_a_trained_encoder_is_its_divergence_from_the_posterior(trained):
    gap, divergence = gap_and_divergence(*trained)
    np.testing.assert_allclose(gap, divergence, rtol=0, atol=1e-9)
    assert ((divergence > 1e-4) & (divergence < 1)).all()  # trained: near the posterior, not on it


def test_training_has_closed_most_of_the_gap(trained):
    model, x = trained[0], trained[1][:2]
    _, learned = gap_and_divergence(model, x)
    encode, model.encode = model.encode, lambda x: Gaussian(np.zeros((len(x), model.latent)), np.zeros((len(x), model.latent)))
    try:
        _, of_the_prior = gap_and_divergence(model, x)
    finally:
        model.encode = encode
    assert (learned < of_the_prior / 3).all()


def test_a_sample_with_the_wrong_sigma_is_found(trained, monkeypatch):
    """z = mean + exp(logvar) eps, where the KL reads sigma^2 = exp(logvar)."""

    def too_wide(q, p, rng):
        return q.mean + np.exp(q.logvar.data) * rng.normal(q.mean.shape, like=q.mean.data), kl(q, StandardGaussian())

    monkeypatch.setattr(sys.modules["minivae.objectives.elbo"], "sample_and_kl", too_wide)
    gap, divergence = gap_and_divergence(trained[0], trained[1][:2])
    assert (np.abs(gap - divergence) > 1e-5).all()  # 10,000 times what the identity is held to


def test_a_likelihood_averaged_over_pixels_is_found(trained, monkeypatch):
    def averaged(model, x, rng):
        terms = elbo(model, x, rng)
        return terms._replace(reconstruction=terms.reconstruction / 16)

    model, x = trained[0], trained[1][:2]
    gap = log_marginal(model, x).log_p - [exact_elbo(averaged, model, x[i : i + 1])[0] for i in range(len(x))]
    assert (np.abs(gap - posterior_kl(model, x)[0]) > 1).all()
