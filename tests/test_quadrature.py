"""Integrals against mpmath and SciPy; decoders whose log p(x) is known; the identity that the ELBO's gap is a KL divergence."""

import math
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from minivae import VAE, Stream, kl, ops
from minivae.distributions import Bernoulli, ContinuousBernoulli, Gaussian, Laplace, StandardGaussian
from minivae.errors import NonFiniteError, ShapeError, UsageError
from minivae.quadrature import expectation, hermite_expectation, integrate, kl_by_integration, log_marginal, posterior_kl
from minivae.quadrature.integrals import NODES, WEIGHTS, array

INF = math.inf
UNIT = 2.0**-53


def test_the_rules_are_exact_for_polynomials():
    """Gauss's 7 points to degree 13, Kronrod's 15 to degree 22 (23 by symmetry), and no further."""
    for weights, degree in ((WEIGHTS[1], 13), (WEIGHTS[0], 23)):
        for n in range(degree + 1):
            assert weights @ NODES**n == pytest.approx((1 + (-1) ** n) / (n + 1), abs=1e-15)
        assert abs(weights @ NODES ** (degree + 1) - 2 / (degree + 2)) > 1e-12


INTEGRALS = {  # f for NumPy, f for mpmath, ends
    "peak": (lambda x: 1 / (1e-4 + x * x), lambda x: 1 / (mpmath.mpf("1e-4") + x * x), (-1, 1)),
    "oscillation": (lambda x: np.cos(50 * x), lambda x: mpmath.cos(50 * x), (0, 3)),
    "root": (np.sqrt, mpmath.sqrt, (0, 2)),
    "logarithm": (np.log, mpmath.log, (0, 1)),
    "bell": (lambda x: np.exp(-x * x), lambda x: mpmath.exp(-x * x), (-INF, INF)),
    "heavy tail": (lambda x: 1 / (1 + x**4), lambda x: 1 / (1 + x**4), (-INF, INF)),
    "half line": (lambda x: np.exp(-x) * x**3, lambda x: mpmath.exp(-x) * x**3, (0, INF)),
    "other half": (lambda x: np.exp(x), lambda x: mpmath.exp(x), (-INF, 1)),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_integrals_and_their_error_estimates(name):
    f, exact, (low, high) = INTEGRALS[name]
    value, error = integrate(f, low, high, rtol=1e-11)
    with mpmath.workdps(30):
        ends = [mpmath.mpf(low) if math.isfinite(low) else -mpmath.inf, mpmath.mpf(high) if math.isfinite(high) else mpmath.inf]
        inner = [0] if low < 0 < high else []
        wanted = mpmath.quad(exact, mpmath.linspace(low, high, 60) if name == "oscillation" else [ends[0], *inner, ends[1]])
    assert abs(value - float(wanted)) <= error + abs(float(wanted)) * 2**-50
    assert error <= 2e-11 * abs(value)
    assert value == pytest.approx(scipy.integrate.quad(f, low, high, limit=200)[0], rel=1e-7)


def test_components_are_integrated_together():
    n = np.arange(6)
    value, _ = integrate(lambda x: x[:, None] ** n, 0, 2)
    np.testing.assert_allclose(value, 2.0 ** (n + 1) / (n + 1), rtol=1e-14)


def test_a_kink_given_as_a_point_costs_nothing():
    seen = []
    for points in ([], [1 / 3]):
        count = 0

        def f(x):
            nonlocal count
            count += len(x)
            return np.abs(x - 1 / 3)

        assert integrate(f, 0, 1, points).value == pytest.approx(5 / 18, rel=1e-12)
        seen.append(count)
    assert seen[1] == 30 < seen[0]


def test_hopeless_integrals_are_refused_with_the_numbers():
    with pytest.raises(UsageError, match=r"error is .* after \d+ intervals, the tolerance"):
        integrate(lambda x: np.sin(1 / x), 1e-6, 1, limit=50)
    with pytest.raises(NonFiniteError, match=r"f\(0\) is not finite"):
        integrate(lambda x: np.divide(1, x, where=x != 0, out=np.full(len(x), INF)), -1, 1)
    with pytest.raises(UsageError, match="low is 1, high is 1"):
        integrate(np.exp, 1, 1)


def gaussian(mean, logvar):
    return Gaussian(np.array(mean, np.float64), np.array(logvar, np.float64))


means, logvars = st.floats(-1e3, 1e3), st.floats(-20, 20)
logits = st.floats(-1e4, 1e4)


@given(st.lists(st.tuples(means, logvars, means, logvars), min_size=1, max_size=3))
def test_kl_of_gaussians_by_integration_and_by_hermite(parameters):
    """The closed form over its domain: means to 1000, standard deviations from e^-10 to e^10.

    (x - mean) / sigma is known to |mean| / sigma units of rounding, and so is log q(x): the weight of every x is off by that much.  log p
    is off by as many units of its own, times its slope.  Beyond that the agreement is to 1e-12.
    """
    m, l, n, k = np.array(parameters).T
    q, p = gaussian(m, l), gaussian(n, k)
    closed = float(kl(q, p).data)
    size = closed + float((1 + abs(l) + abs(k)).sum())
    slope = (abs(m) + abs(n)) * np.exp(-k / 2) * (1 + (abs(m - n) + np.exp(l / 2)) * np.exp(-k / 2))
    slack = 1e-12 * size + UNIT * (8 * float((abs(m) * np.exp(-l / 2)).max()) * size + 8 * float(slope.sum()))
    assert float(kl_by_integration(q, p)) == pytest.approx(closed, rel=0, abs=slack)
    by_hermite = hermite_expectation(q, lambda z: q.log_prob(z).data - p.log_prob(z).data, nodes=4)
    assert float(by_hermite) == pytest.approx(closed, rel=0, abs=slack)


@given(means, logvars)
@example(0.0, 0.0)
@example(1e-6, 1e-6)
def test_kl_against_the_standard_gaussian(mean, logvar):
    q = gaussian([mean], [logvar])
    closed = float(kl(q, StandardGaussian()).data)
    slack = (1e-12 + 8 * UNIT * abs(mean) * math.exp(-logvar / 2)) * (closed + abs(logvar) + 1)
    assert float(kl_by_integration(q, StandardGaussian())) == pytest.approx(closed, rel=0, abs=slack)


@given(means, logvars, st.floats(-8, 8))
def test_densities_integrate_to_one_with_their_moments(mean, logvar, log_scale):
    for q, variance, far in (
        (gaussian([mean], [logvar]), math.exp(logvar), abs(mean) * math.exp(-logvar / 2)),
        (Laplace(np.array([mean]), np.array([log_scale])), 2 * math.exp(2 * log_scale), abs(mean) * math.exp(-log_scale)),
    ):
        tolerance = 1e-12 + 8 * UNIT * far
        assert float(expectation(q, np.ones_like)[0]) == pytest.approx(1, rel=tolerance)
        assert float(expectation(q, lambda x: (x - mean) ** 2)[0]) == pytest.approx(variance, rel=4 * tolerance)


@given(st.lists(logits, min_size=1, max_size=3))
@example([0.0, 1e-9, -1e-3])
@example([0.5, -0.5, 0.4999999])
def test_continuous_bernoulli_integrates_to_one_with_its_mean(drawn):
    q = ContinuousBernoulli(np.array(drawn))
    tolerance = 1e-12 + 4 * 2.0**-53 * float(np.abs(drawn).max())  # l x is rounded before its exponential is taken
    np.testing.assert_allclose(expectation(q, np.ones_like, (0, 1)), 1, rtol=tolerance)
    np.testing.assert_allclose(expectation(q, lambda x: x, (0, 1)), array(q.mean), rtol=10 * tolerance)


def test_kl_of_any_two_densities():
    """Against mpmath: Gaussian, Laplace and continuous Bernoulli, in both directions, batches and events."""
    q, p = gaussian([[0.3, -1.0]], [[-0.5, 1.2]]), Laplace(np.array([0.7, 0.1]), np.array([0.2, -0.4]))
    wanted = 0.0
    with mpmath.workdps(25):
        for m, l, n, b in ((0.3, -0.5, 0.7, 0.2), (-1.0, 1.2, 0.1, -0.4)):
            m, l, n, b = map(mpmath.mpf, (m, l, n, b))  # the doubles that the library sees
            log_q = lambda x, m=m, l=l: -((x - m) ** 2 / mpmath.exp(l) + l + mpmath.log(2 * mpmath.pi)) / 2  # noqa: E731
            log_p = lambda x, n=n, b=b: -abs(x - n) / mpmath.exp(b) - b - mpmath.log(2)  # noqa: E731
            wanted += float(mpmath.quad(lambda x: mpmath.exp(log_q(x)) * (log_q(x) - log_p(x)), [-30, -5, m, n, 5, 30]))  # noqa: B023
    found = kl_by_integration(q, p)
    assert found.shape == (1,)  # a batch of one event of two numbers
    np.testing.assert_allclose(found, [wanted], rtol=1e-12)
    a, b = ContinuousBernoulli(np.array([2.0])), ContinuousBernoulli(np.array([-30.0]))
    closed = (array(a.mean)[0] - 0) * 32 + float(
        array(a.log_prob(np.zeros(1))) - array(b.log_prob(np.zeros(1)))
    )  # E log q/p is linear in x
    assert float(kl_by_integration(a, b, (0, 1))) == pytest.approx(closed, rel=1e-12)
    with pytest.raises(UsageError, match="support is"):
        kl_by_integration(a, b, (0, INF))


def test_hermite_is_exact_for_polynomials_and_converges_for_others():
    q = gaussian([[0.5, -0.3], [2.0, 0.0]], [[0.2, -1.0], [0.0, 0.7]])
    mean, var = array(q.mean), np.exp(array(q.logvar))
    cubic = hermite_expectation(q, lambda z: z[..., 0] ** 3 * z[..., 1] ** 2, nodes=2)
    third, second = mean[:, 0] ** 3 + 3 * mean[:, 0] * var[:, 0], mean[:, 1] ** 2 + var[:, 1]
    np.testing.assert_allclose(cubic, third * second, rtol=1e-13)
    exponential = hermite_expectation(q, lambda z: np.exp(z.sum(axis=-1)))
    np.testing.assert_allclose(exponential, np.exp(mean.sum(axis=1) + var.sum(axis=1) / 2), rtol=1e-13)
    with pytest.raises(UsageError, match="100 nodes in 4 dimensions are 100,000,000 points"):
        hermite_expectation(gaussian([0] * 4, [0] * 4), np.sum, nodes=100)
    with pytest.raises(ShapeError, match=r"returned \(4, 2, 2\) for z \(4, 2, 2\)"):
        hermite_expectation(q, lambda z: z, nodes=2)


def linear_gaussian(latent, seed, noise=0.3):
    """x = W z + b + noise has a Gaussian posterior: the model, x, log p(x), and the posterior's mean and covariance."""
    rng = np.random.default_rng(seed)
    w, b, x = rng.normal(size=(latent, 5)), rng.normal(size=5), rng.normal(size=(3, 5))
    model = SimpleNamespace(
        latent=latent,
        prior=StandardGaussian(),
        decode=lambda z: Gaussian(ops.dense(z, w, b), np.full(5, 2 * math.log(noise))),
    )
    covariance = np.linalg.inv(np.eye(latent) + w @ w.T / noise**2)
    mean = (x - b) @ w.T / noise**2 @ covariance
    # Bayes' rule at the posterior mean: its inverse covariance is well conditioned where the marginal's is not
    normal = scipy.stats.norm.logpdf
    log_p = normal(x, mean @ w + b, noise).sum(axis=1) + normal(mean).sum(axis=1)
    log_p += (latent * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1]) / 2
    marginal = scipy.stats.multivariate_normal(b, w.T @ w + noise**2 * np.eye(5))
    np.testing.assert_allclose(log_p, marginal.logpdf(x), rtol=1e-16 / noise**3 + 1e-12)
    return model, x, log_p, mean, covariance


@pytest.mark.parametrize("noise", [1.0, 0.1, 0.003])
@pytest.mark.parametrize("latent", [1, 2])
def test_log_p_and_posterior_of_a_linear_decoder(latent, noise):
    model, x, wanted, mean, covariance = linear_gaussian(latent, 4, noise)
    found = log_marginal(model, x)
    np.testing.assert_allclose(found.log_p, wanted, rtol=1e-12, atol=1e-9)
    assert (abs(found.log_p - wanted) <= found.error + 1e-12 * abs(wanted) + 1e-12).all()
    for i, axes in enumerate(found.axes):
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        exact = scipy.stats.multivariate_normal(mean[i], covariance).pdf(points).reshape(found.density[i].shape)
        np.testing.assert_allclose(found.density[i], exact, rtol=0, atol=1e-8 * exact.max())
        assert exact.max() > 0.01 * scipy.stats.multivariate_normal(mean[i], covariance).pdf(mean[i])  # the grid saw the peak


@pytest.mark.parametrize("latent", [1, 2])
def test_posterior_kl_of_a_linear_decoder(latent):
    model, x, _, mean, covariance = linear_gaussian(latent, 7)
    m, v = mean + 0.2, np.full((3, latent), -2.0)
    model.encode = lambda x: Gaussian(m, v)
    found, error = posterior_kl(model, x)
    inverse, difference = np.linalg.inv(covariance), mean - m
    quadratic = np.einsum("ni,ij,nj->n", difference, inverse, difference)
    wanted = (np.trace(inverse) * math.exp(-2) + quadratic - latent + np.linalg.slogdet(covariance)[1] + 2 * latent) / 2
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert (error < 1e-9).all()


def bernoulli_vae(latent, activation="softplus", seed=3):
    """A small VAE with larger weights than it is born with, so that its posterior is no Gaussian; and binary images.

    Softplus and the likelihood have their poles i pi away from the real axis, tanh i pi / 2: Gauss-Hermite needs them far."""
    model = VAE((2, 3, 1), Stream(seed), latent=latent, hidden=(5,), activation=activation)
    for name, p in model.named_parameters().items():
        p.data = p.data.astype(np.float64) * (3 if name.startswith("decoder.layers.1") else 1)
    return model, (Stream(seed + 1).uniform((3, 2, 3, 1)) < 0.5).astype(np.float64)


@pytest.mark.parametrize("latent", [1, 2])
def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior(latent):
    """log p(x) - ELBO = KL(q(z | x) || p(z | x)): three numbers from three integrals, two on a grid, one by Gauss-Hermite."""
    model, x = bernoulli_vae(latent)
    q = model.encode(x)
    reconstruction = hermite_expectation(q, lambda z: model.decode(z).log_prob(x), nodes=100)
    gap = log_marginal(model, x).log_p - (reconstruction - array(kl(q, model.prior)))
    divergence, error = posterior_kl(model, x)
    assert (divergence > 1e-3).all()
    np.testing.assert_allclose(gap, divergence, rtol=0, atol=1e-9)
    assert (error < 1e-9).all()
    wrong = log_marginal(model, x).log_p - (reconstruction - 2 * array(kl(q, model.prior)))  # a KL without its 1/2
    assert (abs(wrong - divergence) > 1e-4).all()


def test_log_p_of_all_images_sums_to_one():
    """A decoder over binary images is a distribution: the sum of p(x) over all 64 of them is 1."""
    model, _ = bernoulli_vae(2)
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.float64).reshape(64, 2, 3, 1)
    assert np.exp(log_marginal(model, every).log_p).sum() == pytest.approx(1, abs=1e-9)


def test_the_error_of_a_decoder_with_kinks_is_honest():
    for seed in range(6):
        model, x = bernoulli_vae(1, "relu", seed)
        found = log_marginal(model, x, tolerance=1e-6)
        for i in range(len(x)):

            def joint(z, model=model, image=x[i]):
                return np.exp(array(model.decode(z[:, None]).log_prob(image)) - z**2 / 2) / math.sqrt(2 * math.pi)

            exact = math.log(integrate(joint, -12, 12, np.linspace(-12, 12, 400)).value)
            assert abs(found.log_p[i] - exact) <= found.error[i] <= 1e-6


def test_a_posterior_too_narrow_for_the_grid_is_admitted():
    model, x, _, mean, _ = linear_gaussian(1, 5)
    model.encode = lambda x: Gaussian(mean + 0.01234, np.full((3, 1), -32.0))
    _, error = posterior_kl(model, x)
    assert (error > 0.5).all()


def test_posteriors_far_from_the_prior_and_narrow_ones_are_found():
    for centre, width in ((14.0, 0.05), (-14.0, 0.05), (-3.3, 1e-4), (0.0, 3.0)):
        model = SimpleNamespace(
            latent=1, prior=StandardGaussian(), decode=lambda z, w=width: Gaussian(z * 1.0, np.full(1, 2 * math.log(w)), event_ndim=1)
        )
        found = log_marginal(model, np.array([[centre]]))
        wanted = scipy.stats.norm(0, math.hypot(1, width)).logpdf(centre)
        assert found.log_p[0] == pytest.approx(wanted, abs=1e-9)


def test_three_latents_are_refused():
    model = VAE((2, 2, 1), Stream(0), latent=3, hidden=(2,))
    for f in (log_marginal, posterior_kl):
        with pytest.raises(UsageError, match="the model has 3 latents"):
            f(model, np.zeros((1, 2, 2, 1), np.float32))
    assert isinstance(model.decode(np.zeros((1, 3))), Bernoulli)
