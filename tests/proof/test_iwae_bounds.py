"""ELBO = L_1 <= L_2 <= ... <= log p(x): by quadrature where a grid can hold the samples, by inequalities without statistics else."""

import math

import numpy as np
import pytest

from minivae import Stream, elbo
from minivae.distributions import StandardGaussian
from minivae.objectives import iwae
from minivae.quadrature import hermite_rule, log_marginal

from .bounds import ALARM, Given, exact_elbo


def expected_bound(model, x, samples, nodes):
    """E over eps of -iwae, for one image and one latent: each node of the product rule is handed over as the noise of one call."""
    points, weight = hermite_rule(samples, nodes)
    bounds = [-iwae(model, x, Given(eps.reshape(samples, 1, 1)), samples).item() for eps in points]
    return weight @ bounds


def test_at_one_sample_it_is_the_elbo(trained_line):
    """The objectives differ in the KL, a closed form or sampled; not in what they expect."""
    model, x = trained_line
    for i in range(len(x)):
        assert expected_bound(model, x[i : i + 1], 1, 60) == pytest.approx(exact_elbo(elbo, model, x[i : i + 1])[0], abs=1e-9)


def test_the_bound_rises_with_k_by_quadrature(trained_line):
    """k = 1, 2, 3 are integrals over one, two and three numbers; log p(x) is one over z.  The rule's own error: another number of nodes."""
    model, x = trained_line
    for i in range(2):
        bounds = [expected_bound(model, x[i : i + 1], k, nodes) for k, nodes in ((1, 40), (2, 24), (3, 12))]
        again = [expected_bound(model, x[i : i + 1], k, nodes) for k, nodes in ((1, 32), (2, 20), (3, 10))]
        error = np.abs(np.subtract(bounds, again)).max()
        steps = np.diff([*bounds, log_marginal(model, x[i : i + 1]).log_p[0]])
        assert (steps > 4 * error).all()
        assert error < 1e-4


@pytest.mark.parametrize(("k", "groups"), [(1, 2), (1, 5), (5, 2), (5, 10)])
def test_more_samples_never_lower_the_bound(trained, k, groups):
    """Jensen: log of the mean of all weights >= the mean of the logs of the groups' means, draw by draw: there is no chance in it."""
    model, x = trained
    noise = Stream(3).normal((groups, k, len(x), model.latent), like=np.zeros(0))
    together = -iwae(model, x, Given(noise.reshape(groups * k, len(x), -1)), groups * k).item()
    apart = np.mean([-iwae(model, x, Given(part), k).item() for part in noise])
    assert together > apart


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_bound_stays_below_log_p(trained, k):
    """E[1/k sum w] = p(x), so E[e^{L - log p(x)}] = 1, and by Markov a mean of n independent L exceeds log p(x) by t with a chance of
    at most e^{-n t}: at n = 4,000 images, t = 0.0035 nats for false alarms of 1e-6.  At k = 50 the bound is that near from below, too."""
    model, x = trained
    n = 4000
    log_p = log_marginal(model, x).log_p.mean()
    bound = -iwae(model, np.concatenate([x] * (n // len(x))), Stream(4), k).item()
    assert bound <= log_p + math.log(1 / ALARM) / n
    if k == 50:
        assert bound > log_p - 0.01


def wrong_sign(model, x, rng, samples):
    """Importance weights q / p: the sign that is wrong in the wild."""
    q = model.encode(x)
    z = q.sample(rng, (samples,))
    log_weights = (q.log_prob(z) - model.prior.log_prob(z)) + model.decode(z).log_prob(x)
    largest = log_weights.data.max(axis=0)
    return -(np.log(np.exp(log_weights.data - largest).mean(axis=0)) + largest).mean()


def forgets_the_mean(model, x, rng, samples):
    """log sum w without log 1/k."""
    return iwae(model, x, rng, samples).item() - math.log(samples)


@pytest.mark.parametrize("wrong", [wrong_sign, forgets_the_mean])
def test_wrong_weights_are_found(trained, wrong):
    model, x = trained
    n = 4000
    assert isinstance(model.prior, StandardGaussian)
    bound = -wrong(model, np.concatenate([x] * (n // len(x))), Stream(4), 5)
    assert bound > log_marginal(model, x).log_p.mean() + math.log(1 / ALARM) / n


def test_a_mean_of_logs_is_found(trained):
    """An ELBO that calls itself IWAE, the log inside of the mean: no rise with k."""
    model, x = trained
    noise = Stream(3).normal((10, len(x), model.latent), like=np.zeros(0))
    together = np.mean([-iwae(model, x, Given(part[None]), 1).item() for part in noise])
    apart = np.mean([np.mean([-iwae(model, x, Given(part[None]), 1).item() for part in half]) for half in (noise[:5], noise[5:])])
    assert not together > apart + 1e-12
