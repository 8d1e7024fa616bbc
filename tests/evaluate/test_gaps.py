"""The two parts of the ELBO's gap: judged in closed form where the posterior is Gaussian, and by SciPy's integrals and searches."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
from numpy.testing import assert_allclose

from minivae import VAE, Stream, UsageError
from minivae.distributions import Gaussian, StandardGaussian, kl
from minivae.evaluate import inference_gaps
from minivae.evaluate.estimators import LinearGaussian
from minivae.evaluate.gaps import best_on_grid, modes, moments
from minivae.quadrature import hermite_expectation, log_marginal, posterior_kl

X = np.array([[1.0, 0.3, -1.0], [-0.5, 2.0, 0.1]])


def linear(w, encoder):
    """The model, and the exact posterior of each of the two images."""
    model = LinearGaussian(np.array(w), np.array([0.1, -0.2, 0.3]), 0.4)
    model.encode = lambda x: encoder
    return model, [model.posterior(x) for x in X]


def gaussian_kl(q, i, mean, covariance):
    """KL of two Gaussians, the second of any covariance."""
    inverse, variance, offset = np.linalg.inv(covariance), np.exp(q.logvar[i]), q.mean[i] - mean
    logs = np.linalg.slogdet(covariance)[1] - q.logvar[i].sum()
    return (np.diag(inverse) @ variance + offset @ inverse @ offset - len(mean) + logs) / 2


@pytest.mark.parametrize(
    "w",
    [
        [[1.0, 0.5, -0.3]],
        [[1.0, 0.5, -0.3], [0.4, -0.2, 1.0]],  # orthogonal: independent latents given x
        [[1.0, 0.5, -0.3], [0.9, 0.7, 0.2]],
        [[1.0, 0.5, -0.3], [1.0, 0.52, -0.2]],  # correlated by -0.99
    ],
)
def test_a_posterior_that_is_gaussian(w):
    """The best variances are 1 / P_kk, P the posterior's precision, and the gap is (sum log P_kk - log det P) / 2: none where the latents
    are independent.  C. M. Bishop, "Pattern recognition and machine learning", 2006, section 10.1.2."""
    k = len(w)
    encoder = Gaussian(np.array([[0.7, -1.0], [1.0, 2.0]])[:, :k], np.array([[-1.0, -2.0], [0.0, -3.0]])[:, :k])
    model, posteriors = linear(w, encoder)
    found = inference_gaps(model, X)
    for i, (mean, covariance) in enumerate(posteriors):
        precision = np.linalg.inv(covariance)
        gap = (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]) / 2
        assert abs(found.approximation[i] - gap) < found.error[i] + 1e-9
        assert abs(found.total[i] - gaussian_kl(encoder, i, mean, covariance)) < found.error[i] + 1e-9 * found.total[i]
        # near its minimum the divergence is a parabola with the curvature P: an excess of 1e-9 is an offset of sqrt(2e-9 / P)
        assert_allclose(found.best.mean[i], mean, rtol=0, atol=math.sqrt(2e-9 / np.linalg.eigvalsh(precision)[0]))
        assert_allclose(found.best.logvar[i], -np.log(np.diag(precision)), rtol=0, atol=1e-4)
        assert found.error[i] < 1e-8
        assert found.amortization[i] > 0.1
    assert_allclose(found.approximation + found.amortization, found.total, rtol=1e-15)


def test_no_gap_is_left_where_the_encoder_is_right():
    model, posteriors = linear([[1.0, 0.5, -0.3], [0.4, -0.2, 1.0]], None)
    q = Gaussian(np.array([mean for mean, _ in posteriors]), np.log([np.diag(covariance) for _, covariance in posteriors]))
    model.encode = lambda x: q
    found = inference_gaps(model, X)
    assert (abs(found.total) <= found.error + 1e-9).all()
    assert (abs(found.amortization) <= 2 * found.error + 1e-9).all()


def squared(noise):
    """x = z^2 + noise: two modes, and one latent."""
    return SimpleNamespace(
        latent=1,
        prior=StandardGaussian(),
        decode=lambda z: Gaussian(z * z, np.full(1, 2 * math.log(noise)), event_ndim=1),
        encode=lambda x: Gaussian(np.full((len(x), 1), 1.4), np.full((len(x), 1), -3.0)),
    )


@pytest.mark.parametrize(("x", "noise"), [(0.1, 0.5), (1.0, 0.5), (2.0, 0.3)])  # one wide mode, two that touch, two far apart
def test_a_posterior_that_is_not_gaussian(x, noise):
    """SciPy integrates the divergence from the definition, and searches for its minimum from many places."""

    def log_joint(z):
        return scipy.stats.norm.logpdf(x, z * z, noise) + scipy.stats.norm.logpdf(z)

    log_p = math.log(scipy.integrate.quad(lambda z: math.exp(log_joint(z)), -8, 8, points=[-math.sqrt(x), math.sqrt(x)], epsabs=1e-13)[0])

    t = np.linspace(-9, 9, 1001)

    def divergence(theta):
        z = theta[0] + math.exp(theta[1] / 2) * t
        integrand = scipy.stats.norm.pdf(t) * (scipy.stats.norm.logpdf(t) - theta[1] / 2 - log_joint(z) + log_p)
        return float(scipy.integrate.simpson(integrand, x=t))

    starts = [(m, v) for m in (-1.4, 0.0, 1.4) for v in (-3.0, 0.0)]
    wanted = min(scipy.optimize.minimize(divergence, s, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-11}).fun for s in starts)
    found = inference_gaps(squared(noise), np.array([[x]]))
    assert found.approximation[0] == pytest.approx(wanted, abs=1e-7)
    assert found.total[0] == pytest.approx(divergence((1.4, -3.0)), abs=1e-7)
    assert wanted > 0.01


def test_the_better_of_two_modes():
    """A Gaussian in one mode of a mixture, far from the other, has the divergence -log of its share; the higher mode is the lesser here."""
    z = np.linspace(-12, 12, 2049)
    mixture = 0.3 * scipy.stats.norm.pdf(z, -6, 0.2) + 0.7 * scipy.stats.norm.pdf(z, 6, 1)
    for starts in [modes((z,), np.log(mixture)), [(np.array([-6.0]), np.array([-3.0])), moments((z,), np.log(mixture))]]:
        mean, logvar = best_on_grid((z,), np.log(mixture) + 7, starts)
        assert_allclose(mean, [6.0], atol=1e-5)
        assert_allclose(logvar, [0.0], atol=1e-5)


def test_the_modes_of_a_mixture_and_their_widths():
    """In two dimensions, correlated: the width along an axis is that of a cut.  A curve's second difference is off by h^2 / 12 of its own
    curvature's curvature, none for a parabola; between grid points a mode is found to half a step."""
    axes = np.linspace(-4, 4, 161), np.linspace(-6, 6, 241)
    z = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    covariance = np.array([[0.1, 0.09], [0.09, 0.2]])
    mixture = 0.5 * sum(scipy.stats.multivariate_normal(mean, covariance).pdf(z) for mean in ([-2, -3], [2, 3]))
    found = modes(axes, np.log(mixture))
    assert_allclose([mean for mean, _ in found], [[-2, -3], [2, 3]], atol=1e-9)
    assert_allclose([logvar for _, logvar in found], np.tile(-np.log(np.diag(np.linalg.inv(covariance))), (2, 1)), atol=1e-6)


def small_vae():
    """Larger weights than a VAE is born with, so that its posterior is no Gaussian; softplus is smooth, as Gauss-Hermite needs it."""
    model = VAE((2, 3, 1), Stream(3), latent=2, hidden=(5,), activation="softplus")
    for name, p in model.named_parameters().items():
        p.data = p.data.astype(np.float64) * (3 if name.startswith("decoder.layers.1") else 1)
    return model, (Stream(4).uniform((3, 2, 3, 1)) < 0.5).astype(np.float64)


def test_the_parts_of_a_vae_against_the_elbo_of_the_best_gaussian():
    """The ELBO by Gauss-Hermite, and SciPy's search for the Gaussian that makes it largest: no grid, and no posterior."""
    model, x = small_vae()
    found = inference_gaps(model, x)

    def elbo(i, mean, logvar):
        q = Gaussian(mean[None], logvar[None])
        return float((hermite_expectation(q, lambda z: model.decode(z).log_prob(x[i]), nodes=40) - kl(q, model.prior).data)[0])

    for i in range(len(x)):
        gap = found.posterior.log_p[i] - elbo(i, found.q.mean.data[i], found.q.logvar.data[i])
        assert gap == pytest.approx(found.total[i], abs=1e-8)
        start = [*found.q.mean.data[i], *found.q.logvar.data[i]]
        largest = -scipy.optimize.minimize(lambda theta, i=i: -elbo(i, theta[:2], theta[2:]), start, tol=1e-9).fun
        assert found.posterior.log_p[i] - largest == pytest.approx(found.approximation[i], abs=1e-8)
    assert (found.approximation > 1e-4).all()
    assert (found.amortization > 1e-4).all()
    assert (found.error < 1e-8).all()


def test_the_posterior_that_is_known_is_not_looked_for_again(monkeypatch):
    model, x = small_vae()
    wanted, posterior = posterior_kl(model, x), log_marginal(model, x)
    monkeypatch.setattr("minivae.quadrature.latents._find_box", None)
    assert_allclose(posterior_kl(model, x, posterior=posterior)[0], wanted[0], atol=1e-9)


def test_three_latents_are_refused():
    with pytest.raises(UsageError, match="the model has 3 latents; a grid does for 1 or 2"):
        inference_gaps(VAE((2, 2, 1), Stream(0), latent=3, hidden=(2,)), np.zeros((1, 2, 2, 1), np.float32))
