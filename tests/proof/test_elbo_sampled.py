"""The ELBO that training sees is an unbiased estimate: its mean over many draws against the integral, by Chernoff's bound."""

import math
import sys

import numpy as np
from scipy.stats import binom

from minivae import Stream, elbo
from minivae.distributions import StandardGaussian, kl
from minivae.quadrature import hermite_rule

from .bounds import ALARM, chernoff, exact_elbo

N = 40_000


def deviation(model, x, seed):
    """Mean of N sampled ELBOs less the exact one, and how far Chernoff lets it be: below, above."""
    exact, values, weight = exact_elbo(elbo, model, x[:1])
    terms = elbo(model, np.repeat(x[:1], N, axis=0), Stream(seed))
    sampled = (-terms.reconstruction - terms.kl).data
    assert sampled.shape == (N,)
    assert np.isclose(-terms.loss.item(), sampled.mean(), rtol=1e-12)
    return sampled.mean() - exact, chernoff(values, weight, N)


def test_the_sampled_elbo_is_unbiased(trained):
    """False alarms: 1e-6.  Power: a bias of 2 t, here below 0.05 nats of about 8, is found with a chance of 1 - 1e-6."""
    off, (low, high) = deviation(*trained, seed=5)
    assert -low <= off <= high
    assert 2 * max(low, high) < 0.05


def test_a_bias_as_large_as_the_stated_power_is_found(trained):
    off, (low, high) = deviation(*trained, seed=6)
    assert off + 2 * max(low, high) > high
    assert off - 2 * max(low, high) < -low


def test_noise_that_is_not_centred_is_found(trained, monkeypatch):
    """eps with a mean of 1/4."""
    exact, values, weight = exact_elbo(elbo, trained[0], trained[1][:1])
    low, high = chernoff(values, weight, N)

    def off_centre(q, p, rng):
        z = q.mean + np.exp(q.logvar.data / 2) * (rng.normal(q.mean.shape, like=q.mean.data) + 0.25)
        return z, kl(q, StandardGaussian())

    monkeypatch.setattr(sys.modules["minivae.objectives.elbo"], "sample_and_kl", off_centre)
    terms = elbo(trained[0], np.repeat(trained[1][:1], N, axis=0), Stream(5))
    off = (-terms.reconstruction - terms.kl).data.mean() - exact
    assert not -low <= off <= high


def test_the_bound_itself():
    """For a Gaussian X the bound is known: sigma sqrt(2 log(2 / ALARM) / n) on both sides; and a coin's is never less than the truth."""
    points, weight = hermite_rule(1, 80)
    wanted = 3 * math.sqrt(2 * math.log(2 / ALARM) / 1000)
    np.testing.assert_allclose(chernoff(3 * points[:, 0] + 7, weight, 1000), [wanted, wanted], rtol=1e-3)
    low, high = chernoff(np.array([0.0, 1.0]), np.array([0.9, 0.1]), 500)
    false_alarm = binom.cdf(np.ceil(500 * (0.1 - low)) - 1, 500, 0.1) + binom.sf(np.floor(500 * (0.1 + high)), 500, 0.1)
    assert ALARM / 1000 < false_alarm <= ALARM
