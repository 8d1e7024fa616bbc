"""Gradient estimators against the exact gradient: their means by quadrature, to rounding, and by drawing, to a bound; what STL promises."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats

from minivae import Stream, Tensor, elbo, stop_gradient
from minivae.distributions import Gaussian, kl
from minivae.errors import ShapeError, UsageError
from minivae.evaluate.estimators import (
    LinearGaussian,
    closed_form_kl,
    doubly_reparameterized,
    moments,
    per_repetition,
    reparameterized,
    repeated,
    score_function,
    sticking_the_landing,
)
from minivae.objectives import iwae
from minivae.quadrature import hermite_rule, integrate
from minivae.quadrature.integrals import array

from .bounds import Given, misses

with_baseline = partial(score_function, baseline=-7.0)
FOR_THE_ELBO = {
    "closed-form KL": closed_form_kl,
    "reparameterized": reparameterized,
    "score function": score_function,
    "score function with a baseline": with_baseline,
    "sticking the landing": sticking_the_landing,
    "doubly reparameterized": doubly_reparameterized,
}
UNBIASED = {name: f for name, f in FOR_THE_ELBO.items() if name not in ("closed-form KL", "sticking the landing")}


def encoded(model, x):
    q = model.encode(x)
    return q.mean.data[0], q.logvar.data[0]


def exact_gradient_of_the_elbo(model, x, mean, logvar):
    """One latent.  d/dtheta of the integral of q(z) f(z), f = log p(x, z) - log q(z), is the integral of dq/dtheta f: SciPy's density and
    adaptive quadrature.  The engine differentiates nothing."""
    sigma = math.exp(logvar[0] / 2)
    normal = scipy.stats.norm(mean[0], sigma)

    def integrand(z):
        with np.errstate(all="ignore"):
            log_joint = array(model.decode(z[:, None]).log_prob(x)) + scipy.stats.norm.logpdf(z)
        t = (z - mean[0]) / sigma
        return (normal.pdf(z) * (log_joint - normal.logpdf(z)) * np.stack([t / sigma, (t * t - 1) / 2])).T

    return integrate(integrand, mean[0] - 12 * sigma, mean[0] + 12 * sigma, [mean[0]], atol=1e-12).value


@pytest.mark.parametrize("name", FOR_THE_ELBO)
def test_the_mean_is_the_exact_gradient_of_the_elbo(name, trained_line):
    model, x = trained_line
    for i in range(2):
        mean, logvar = encoded(model, x[i : i + 1])
        found = moments(FOR_THE_ELBO[name], model, x[i : i + 1], mean, logvar, nodes=100)
        np.testing.assert_allclose(found.mean, exact_gradient_of_the_elbo(model, x[i : i + 1], mean, logvar), rtol=0, atol=1e-8)
        assert (found.variance > 1e-6).all()


def linear():
    """Two latents with orthogonal columns: (model, x, posterior mean, posterior variances)."""
    model = LinearGaussian(np.array([[1.0, 0.5, -0.3], [0.4, -0.2, 1.0]]), np.array([0.1, -0.2, 0.3]), 0.7)
    x = np.array([[1.0, 0.3, -1.0]])
    mean, covariance = model.posterior(x[0])
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-16)
    return model, x, mean, np.diag(covariance)


@pytest.mark.parametrize("name", FOR_THE_ELBO)
def test_two_latents_with_a_gradient_in_closed_form(name):
    """KL(q || posterior) of Gaussians: d/dmean = (mean - m) / s^2, d/dlogvar = (sigma^2 / s^2 - 1) / 2, and the ELBO has the negative."""
    model, x, m, variance = linear()
    mean, logvar = m + np.array([0.3, -0.5]), np.log(variance) + np.array([0.4, -0.7])
    wanted = [*(m - mean) / variance, *(1 - np.exp(logvar) / variance) / 2]
    np.testing.assert_allclose(moments(FOR_THE_ELBO[name], model, x, mean, logvar, nodes=12).mean, wanted, rtol=1e-11)


@pytest.mark.parametrize("name", UNBIASED)
def test_the_mean_is_the_exact_gradient_of_two_samples(name, trained_line):
    """Central differences of L_2 itself, an integral over two numbers; Richardson's step takes away their h^2."""
    model, x = trained_line[0], trained_line[1][:1]
    mean, logvar = encoded(model, x)
    points, weight = hermite_rule(2, 40)

    def bound(theta):
        q = Gaussian(np.tile(theta[:1], (len(points), 1)), np.tile(theta[1:], (len(points), 1)))
        z = q.mean + np.exp(q.logvar / 2) * points.T[..., None]
        log_weights = array(model.decode(z).log_prob(x)) + array(model.prior.log_prob(z)) - array(q.log_prob(z))
        return weight @ (np.logaddexp(*log_weights) - math.log(2))

    theta, wanted = np.concatenate([mean, logvar]), []
    for step in 1e-2 * np.eye(2):
        coarse, fine = ((bound(theta + h * step) - bound(theta - h * step)) / (0.02 * h) for h in (1, 0.5))
        wanted.append((4 * fine - coarse) / 3)
    found = moments(UNBIASED[name], model, x, mean, logvar, samples=2, nodes=40).mean
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def forgets_one_path(model, x, q, eps):
    """Doubly reparameterized with v where v^2 belongs: sticking the landing."""
    return sticking_the_landing(model, x, q, eps)


def baseline_that_looks(model, x, q, eps):
    """A baseline made from the very sample that it is subtracted from."""
    return score_function(model, x, q, eps, baseline=0.5 * eps[0, :, 0])


def noise_with_a_gradient_left_out(model, x, q, eps):
    """z = mean + [sigma] eps: the half of the path that moves sigma is cut."""
    z = q.mean + stop_gradient(np.exp(q.logvar.data / 2) * eps)
    return model.decode(z).log_prob(x).mean(axis=0) - kl(q, model.prior)


@pytest.mark.parametrize(("wrong", "k"), [(forgets_one_path, 2), (baseline_that_looks, 1), (noise_with_a_gradient_left_out, 1)])
def test_a_biased_estimator_is_found(wrong, k, trained_line):
    model, x = trained_line[0], trained_line[1][:1]
    mean, logvar = encoded(model, x)
    logvar = logvar + 0.5
    right = moments(reparameterized, model, x, mean, logvar, samples=k, nodes=60)
    assert np.abs(moments(wrong, model, x, mean, logvar, samples=k, nodes=60).mean - right.mean).max() > 1e-3


def drawn(estimator, model, x, mean, logvar, k, repetitions=20_000, seed=7):
    q = repeated(mean, logvar, repetitions)
    eps = Stream(seed).normal((k, repetitions, len(mean)), like=q.mean.data)
    return per_repetition(estimator(model, x, q, eps), [q.mean, q.logvar])


@pytest.mark.parametrize(("name", "k"), [*((name, 1) for name in FOR_THE_ELBO), *((name, 2) for name in UNBIASED)])
def test_drawn_gradients_have_the_exact_mean_and_variance(name, k, trained_line):
    """The median of means against quadrature.  False alarms: 1e-6.  Power: a bias of 2 t, about a quarter of one estimate's standard
    deviation, is found with a chance of 1 - 1e-6."""
    model, x = trained_line[0], trained_line[1][:1]
    mean, logvar = encoded(model, x)
    expected, variance = moments(FOR_THE_ELBO[name], model, x, mean, logvar, samples=k, nodes=50)
    estimates = drawn(FOR_THE_ELBO[name], model, x, mean, logvar, k)
    missed, t = misses(estimates, expected, variance)
    assert not missed.any()
    assert (t < 0.13 * np.sqrt(variance)).all()
    assert misses(estimates + 2 * t, expected, variance)[0].all()


def test_two_estimators_of_many_samples_agree():
    """k = 20, where no quadrature reaches: reparameterized and doubly reparameterized have one mean, on common noise.  The variance of the
    difference is that of other noise, and the bound's 1e-6 as good as that estimate; the biased one is found by it."""
    model, x, m, variance = linear()
    args = model, x, m + 0.4, np.log(variance) + 0.5, 20
    plain, doubly, biased = (drawn(f, *args) for f in (reparameterized, doubly_reparameterized, sticking_the_landing))
    other = [drawn(f, *args, seed=8) for f in (reparameterized, doubly_reparameterized)]
    spread = (other[0] - other[1]).var(axis=0)
    assert not misses(plain - doubly, 0, spread)[0].any()
    assert misses(biased - doubly, 0, (biased - doubly).var(axis=0))[0].any()


def test_sticking_the_landing_lands_without_noise():
    """Where q is the posterior, each estimate of the ELBO's gradient is 0, to rounding; the others' are 0 on average alone."""
    model, x, m, variance = linear()
    at_posterior = model, x, m, np.log(variance), 1
    for f in (sticking_the_landing, doubly_reparameterized):
        assert np.abs(drawn(f, *at_posterior, repetitions=1000)).max() < 1e-14
    for f in (closed_form_kl, reparameterized, score_function):
        estimates = drawn(f, *at_posterior, repetitions=1000)
        assert (estimates.std(axis=0) > 0.1).all()


def test_doubly_reparameterized_has_less_variance_than_reparameterized():
    """Tucker et al. 2019: for every k here, by quadrature."""
    model, x, m, variance = linear()
    for k in (1, 2):
        args = model, x, m + 0.3, np.log(variance) + 0.4, k, 12
        assert (moments(doubly_reparameterized, *args).variance < moments(reparameterized, *args).variance).all()


def test_the_variance_is_that_of_the_closed_form():
    """x and z Gaussian: the reparameterized estimate of d/dmean is -(z - m) / s^2, whose variance is sigma^2 / s^4."""
    model, x, m, variance = linear()
    logvar = np.log(variance) + np.array([0.4, -0.7])
    found = moments(reparameterized, model, x, m + np.array([0.3, -0.5]), logvar, nodes=8).variance[:2]
    np.testing.assert_allclose(found, np.exp(logvar) / variance**2, rtol=1e-11)


@pytest.mark.parametrize("k", [1, 4])
def test_the_value_is_the_objective_of_training(k, trained):
    """Not the gradient alone: what is differentiated is the library's own bound, on the same noise."""
    model, x = trained
    eps = Stream(3).normal((k, len(x), model.latent), like=np.zeros(0))
    q = model.encode(x)
    for f in (reparameterized, sticking_the_landing):
        assert f(model, x, q, eps).data.mean() == pytest.approx(-iwae(model, x, Given(eps), k).item(), rel=1e-12)
    if k == 1:
        assert closed_form_kl(model, x, q, eps).data.mean() == pytest.approx(-elbo(model, x, Given(eps[0])).loss.item(), rel=1e-12)


def test_shapes_that_do_not_fit_are_refused_with_the_numbers():
    model, x, m, variance = linear()
    with pytest.raises(ShapeError, match="mean has 2 numbers, logvar 3"):
        repeated(m, np.zeros(3), 5)
    q = repeated(m, np.log(variance), 5)
    surrogate = reparameterized(model, x, q, np.zeros((1, 5, 2)))
    with pytest.raises(ShapeError, match=r"the surrogate is \(5,\), the params are \[\(2,\)\]"):
        per_repetition(surrogate, [Tensor(m)])
    with pytest.raises(UsageError, match="40 nodes in 10 dimensions"):
        moments(reparameterized, model, x, m, np.log(variance), samples=5)
