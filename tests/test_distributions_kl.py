"""KL divergences and a whole ELBO against numerical integrals of densities that are scipy's, not ours.

A Gaussian's expectation of a quadratic is exact under Gauss-Hermite quadrature; what remains is the rounding of the sum, which is
bounded term by term where the test stands.
"""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, special, stats

from minivae import Stream, Tensor, gradients, no_grad, ops
from minivae.distributions import Bernoulli, Gaussian, StandardGaussian, kl

EPS = float(np.finfo(float).eps)
means, logvars = st.floats(-5, 5), st.floats(-8, 4)
NODES, WEIGHTS = special.roots_hermite(40)
NODES, WEIGHTS = NODES * math.sqrt(2), WEIGHTS / math.sqrt(math.pi)  # E f(x) = sum w f(mean + sigma node)


def one(mean, logvar):
    return Gaussian(np.array([mean]), np.array([logvar]))


def divergence_by_quadrature(q, p):
    """(E_q[log q - log p], a bound of the rounding of that sum) of two Gaussians given as (mean, logvar)."""
    (mean, sigma), (m, s) = ((location, math.exp(logvar / 2)) for location, logvar in (q, p))
    x = mean + sigma * NODES
    log_q, log_p = stats.norm.logpdf(x, mean, sigma), stats.norm.logpdf(x, m, s)
    # each log density is rounded; and x, rounded by |x| eps, moves it by its slope
    slopes = abs(x - mean) / sigma**2 + abs(x - m) / s**2
    return WEIGHTS @ (log_q - log_p), 8 * EPS * WEIGHTS @ (abs(log_q) + abs(log_p) + abs(x) * slopes)


@given(means, logvars)
def test_kl_against_the_standard_gaussian(mean, logvar):
    expected, rounding = divergence_by_quadrature((mean, logvar), (0.0, 0.0))
    assert_allclose(kl(one(mean, logvar), StandardGaussian()).data, expected, rtol=1e-9, atol=rounding)


@given(means, logvars, means, logvars)
def test_kl_of_two_gaussians(mean, logvar, m, logvar_p):
    expected, rounding = divergence_by_quadrature((mean, logvar), (m, logvar_p))
    assert_allclose(kl(one(mean, logvar), one(m, logvar_p)).data, expected, rtol=1e-9, atol=rounding)


@pytest.mark.parametrize(
    ("q", "p"), [((0.5, -1.0), (0.0, 0.0)), ((-5.0, -8.0), (0.0, 0.0)), ((1e-3, 1e-4), (0.0, 0.0)), ((2.0, 3.0), (-1.0, -2.0))]
)
def test_kl_by_thirty_digit_quadrature(q, p):
    """The integral itself, with the densities written out in arbitrary precision: the judge of the judge."""
    with mpmath.workdps(30):
        (mean, variance), (m, s2) = ((mpmath.mpf(location), mpmath.exp(mpmath.mpf(logvar))) for location, logvar in (q, p))
        sigma = mpmath.sqrt(variance)

        def integrand(x):
            log_q = -((x - mean) ** 2) / (2 * variance) - mpmath.log(2 * mpmath.pi * variance) / 2
            log_p = -((x - m) ** 2) / (2 * s2) - mpmath.log(2 * mpmath.pi * s2) / 2
            return mpmath.exp(log_q) * (log_q - log_p)

        expected = float(mpmath.quad(integrand, [mean + k * sigma for k in range(-12, 13, 3)]))
    assert_allclose(kl(one(*q), one(*p)).data, expected, rtol=1e-13)
    by_hermite, rounding = divergence_by_quadrature(q, p)
    assert abs(by_hermite - expected) <= rounding
    if p == (0.0, 0.0):
        assert_allclose(kl(one(*q), StandardGaussian()).data, expected, rtol=1e-13)


@pytest.mark.parametrize("logvar", [1e-5, -1e-5, 1e-4, -1e-4, 1e-3, -1e-3, 0.4999, -0.5, 0.5001, -3.0, 3.0])
def test_float32_kl_near_zero_keeps_its_digits(logvar):
    zero, l = np.zeros(1, np.float32), np.array([logvar], np.float32)
    with mpmath.workdps(40):
        exact = mpmath.mpf(float(l[0]))
        expected = float((mpmath.expm1(exact) - exact) / 2)
    for p in (StandardGaussian(), Gaussian(zero, zero), Gaussian(0.0, 0.0)):
        value = kl(Gaussian(zero, l), p)
        assert value.dtype == np.float32
        assert_allclose(value.data, expected, rtol=1e-6)


@given(means, logvars, means, logvars)
def test_kl_is_zero_at_equality_and_positive_elsewhere(mean, logvar, m, logvar_p):
    assert kl(one(mean, logvar), one(mean, logvar)).item() == 0
    assert kl(one(0.0, 0.0), StandardGaussian()).item() == 0
    # squares of numbers below 1e-150 round to zero
    assume(max(abs(mean - m), abs(logvar - logvar_p)) > 1e-150)
    assert kl(one(mean, logvar), one(m, logvar_p)).item() > 0
    assume(max(abs(mean), abs(logvar)) > 1e-150)
    assert kl(one(mean, logvar), StandardGaussian()).item() > 0


@pytest.mark.parametrize("event_ndim", [0, 1, 3])
def test_kl_sums_over_the_event_and_broadcasts(event_ndim):
    rng = np.random.default_rng(1)
    mean, logvar, m, logvar_p = rng.normal(size=(4, 5, 2, 3, 4))
    elements = [
        [divergence_by_quadrature(q, p)[0] for q, p in zip(zip(*qs, strict=True), zip(*ps, strict=True), strict=True)]
        for qs, ps in [((mean.flat, logvar.flat), (m.flat, logvar_p.flat)), ((mean.flat, logvar.flat), (0 * m.flat[:], 0 * m.flat[:]))]
    ]
    two, standard = (np.reshape(e, mean.shape).sum(axis=tuple(range(4 - event_ndim, 4))) for e in elements)
    q = Gaussian(mean, logvar, event_ndim)
    assert_allclose(kl(q, Gaussian(m, logvar_p, event_ndim)).data, two, rtol=1e-11)
    assert_allclose(kl(q, StandardGaussian()).data, standard, rtol=1e-11)
    repeated = kl(q, Gaussian(m[0], logvar_p[0, 0, 0], event_ndim)).data
    full = Gaussian(np.broadcast_to(m[0], mean.shape), np.broadcast_to(logvar_p[0, 0, 0], mean.shape), event_ndim)
    assert_allclose(repeated, kl(q, full).data, rtol=1e-14)


@pytest.mark.parametrize(("mean_shape", "logvar_shape"), [((3,), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 3))])
def test_gradients_of_kl_with_parameters_that_broadcast(mean_shape, logvar_shape):
    rng = np.random.default_rng(2)
    mean, logvar = Tensor(rng.normal(size=mean_shape)), Tensor(rng.normal(size=logvar_shape))
    loss = kl(Gaussian(mean, logvar), StandardGaussian()).sum()
    full_mean, full_logvar = (np.broadcast_to(t.data, (2, 3)) for t in (mean, logvar))
    assert_allclose(
        loss.data, sum(divergence_by_quadrature(q, (0, 0))[0] for q in zip(full_mean.flat, full_logvar.flat, strict=True)), rtol=1e-12
    )
    for parameter, g in zip((mean, logvar), gradients(loss, [mean, logvar]), strict=True):
        assert g.shape == parameter.shape
        direction, h = rng.normal(size=parameter.shape), 1e-20
        moved = [t.data + 1j * h * direction if t is parameter else t.data for t in (mean, logvar)]
        assert_allclose((g * direction).sum(), kl(Gaussian(*moved), StandardGaussian()).sum().data.imag / h, rtol=1e-12)


class Story:
    """One latent number, four pixels: p(z) = N(0, 1), p(x | z) = Bernoulli(w tanh(u z + a) + b), q(z | x) = N(0.7, e^-1.3)."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self.u, self.a, self.w, self.b = rng.normal(size=(1, 5)), rng.normal(size=5), rng.normal(size=(5, 4)), rng.normal(size=4)
        self.x = np.array([1.0, 0.0, 1.0, 1.0])
        self.mean, self.logvar = 0.7, -1.3
        self.sigma = math.exp(self.logvar / 2)
        self.q = one(self.mean, self.logvar)

    def decode(self, z):
        return Bernoulli(ops.dense(ops.dense(z, self.u, self.a, activation="tanh"), self.w, self.b))

    def log_likelihood(self, z):
        """log p(x | z) at the numbers z, by NumPy and SciPy alone."""
        logits = np.tanh(np.multiply.outer(z, self.u[0]) + self.a) @ self.w + self.b
        return (special.log_expit(np.where(self.x == 1, logits, -logits))).sum(axis=-1)

    def log_joint(self, z):
        return stats.norm.logpdf(z) + self.log_likelihood(z)

    def log_q(self, z):
        return stats.norm.logpdf(z, self.mean, self.sigma)

    def integral(self, f, center, width):
        """Over +-12 widths around the center, beyond which a Gaussian holds 4e-33."""
        knots = [center + k * width for k in range(-12, 13, 2)]
        return math.fsum(integrate.quad(f, a, b, epsabs=1e-16, epsrel=1e-12)[0] for a, b in pairwise(knots))

    def elbo(self):
        """E_q[log p(x, z) - log q(z)] by adaptive quadrature."""
        return self.integral(lambda z: np.exp(self.log_q(z)) * (self.log_joint(z) - self.log_q(z)), self.mean, self.sigma)

    def library_elbo(self):
        """E_q[log p(x | z)] of the library's densities, by Gauss-Legendre quadrature on 24 panels of one sigma, less the closed-form KL."""
        nodes, weights = special.roots_legendre(30)
        z = (self.mean + self.sigma * (np.arange(-12, 12)[:, None] + (nodes + 1) / 2)).reshape(-1, 1)
        expectation = np.tile(weights, 24) * self.sigma / 2 * np.exp(self.q.log_prob(z).data) @ self.decode(z).log_prob(self.x).data
        return expectation - kl(self.q, StandardGaussian()).item()


story = Story()


def test_the_elbo_is_the_integral_it_stands_for():
    assert_allclose(story.library_elbo(), story.elbo(), rtol=1e-9)


def test_the_gap_is_the_divergence_to_the_posterior():
    log_evidence = math.log(story.integral(lambda z: np.exp(story.log_joint(z)), 0, 1))
    # the posterior on a grid: the trapezoidal rule converges exponentially for an analytic integrand that vanishes at both ends
    z = np.linspace(-12, 12, 4001)
    assert_allclose(special.logsumexp(story.log_joint(z)) + math.log(z[1] - z[0]), log_evidence, rtol=1e-12)
    log_posterior = story.log_joint(z) - log_evidence
    gap = (np.exp(story.log_q(z)) * (story.log_q(z) - log_posterior)).sum() * (z[1] - z[0])
    assert gap > 0.01
    assert_allclose(log_evidence - story.library_elbo(), gap, rtol=1e-9)


def test_the_sampled_elbo_is_unbiased():
    """Both estimators: the closed-form divergence, and log p(z) - log q(z) sampled too.  6 standard errors: false alarms 2e-9 each."""
    n = 100_000
    with no_grad():
        z = story.q.sample(Stream(4), (n,))
        reconstruction = story.decode(z).log_prob(story.x).data
        divergence = kl(story.q, StandardGaussian()).data
        ratio = (StandardGaussian().log_prob(z) - story.q.log_prob(z)).data
    expected = story.elbo()
    for sampled in (reconstruction - divergence, reconstruction + ratio):
        assert sampled.shape == (n,)
        assert abs(sampled.mean() - expected) < 6 * sampled.std() / math.sqrt(n)
