"""Samples: their distribution by moments and by Kolmogorov and Smirnov's test, their slopes by central differences with frozen noise.

Seeds are fixed, so a statistical test passes or fails for good; with a seed drawn afresh a moment fails once in 2e6 (5 standard
errors) and a Kolmogorov-Smirnov or chi-square test once in 1e4.
"""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, special, stats

from minivae import Stream, Tensor, gradients, ops
from minivae.distributions import Bernoulli, Categorical, ContinuousBernoulli, Gaussian, Laplace, StandardGaussian, kl, sample_and_kl

RARE = 1e-4
DTYPES = [np.float32, np.float64]
LOGITS = [0.0, 1e-6, -1e-3, 0.019, -0.021, 0.3, -3.0, 30.0, -80.0, 80.0]
N = 40_000


def repeated(dtype, *values):
    """Parameters for N independent one-element events."""
    return [np.full((N, 1), v, dtype) for v in values]


def agrees_with(samples, law):
    """The samples have the mean and variance of a frozen scipy distribution, within 5 standard errors, and its distribution function."""
    x = np.asarray(samples, np.float64).reshape(-1)
    mean, variance, kurtosis = (float(value) for value in law.stats(moments="mvk"))
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / x.size)
    assert abs(((x - mean) ** 2).mean() - variance) < 5 * variance * math.sqrt((kurtosis + 2) / x.size)
    assert stats.kstest(x, law.cdf).pvalue > RARE


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logvar", [-6.0, 0.0, 2.5])
def test_gaussian_samples(dtype, logvar):
    z = Gaussian(*repeated(dtype, -1.5, logvar)).sample(Stream(1))
    assert z.dtype == dtype
    agrees_with(z.data, stats.norm(-1.5, math.exp(logvar / 2)))
    agrees_with(
        Gaussian(np.full(1, -1.5, dtype), np.full(1, logvar, dtype)).sample(Stream(2), (N,)).data, stats.norm(-1.5, math.exp(logvar / 2))
    )
    agrees_with(Gaussian.from_log_sigma(*repeated(dtype, -1.5, logvar)).sample(Stream(3)).data, stats.norm(-1.5, math.exp(logvar)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_standard_gaussian_samples(dtype):
    z = StandardGaussian(4).sample(Stream(4), N // 4, like=np.zeros(1, dtype))
    assert z.number == 0
    assert z.dtype == dtype
    assert_array_equal(z.data, Stream(4).normal((N // 4, 4), like=np.zeros(1, dtype)))
    agrees_with(z.data, stats.norm())


@pytest.mark.parametrize("dtype", DTYPES)
def test_laplace_samples(dtype):
    law = stats.laplace(0.7, math.exp(-0.8))
    x = Laplace(*repeated(dtype, 0.7, -0.8)).sample(Stream(5))
    assert x.dtype == dtype
    agrees_with(x.data, law)
    # the inverse of 1 - F, whose argument is rounded where u is near 1, and then the result
    u = Stream(5).uniform((N, 1), like=np.zeros(1, dtype)).astype(float)
    assert_allclose(law.sf(x.data), u, atol=4 * np.finfo(dtype).eps)


def test_every_element_has_its_own_noise():
    zero, wide = np.zeros(3), np.zeros((500, 3))
    for d in (
        Gaussian(zero, wide),
        Gaussian(wide, zero),
        Laplace(zero, wide),
        Laplace(wide, zero),
        Laplace(0.0, wide),
        Gaussian(0.0, wide),
    ):
        x = d.sample(Stream(6)).data
        assert x.shape == (500, 3)
        assert len(np.unique(x)) == x.size
    assert Gaussian(zero, wide).sample(Stream(6), (2, 4)).shape == (2, 4, 500, 3)


class BySimpleIntegration:
    """The density proportional to e^(l x) on [0, 1], every quantity of it a Gauss-Legendre sum: exact to rounding for |l| <= 80."""

    nodes, weights = (np.array(half) for half in special.roots_legendre(90))

    def __init__(self, l):
        self.l = l

    def integral(self, f, end=1.0):
        """The integral of f(x) e^(l x - max(l, 0)) over [0, end], for each end."""
        end = np.asarray(end, float)[..., None]
        x = (self.nodes + 1) / 2 * end
        return (f(x) * np.exp(self.l * x - max(self.l, 0)) * self.weights).sum(axis=-1) * end[..., 0] / 2

    def cdf(self, x):
        return self.integral(np.ones_like, x) / self.integral(np.ones_like)

    def stats(self, moments):
        assert moments == "mvk"
        total = self.integral(np.ones_like)
        mean = self.integral(lambda x: x) / total
        variance, fourth = (self.integral(lambda x, k=k: (x - mean) ** k) / total for k in (2, 4))
        return mean, variance, fourth / variance**2 - 3


def test_the_judge_of_the_continuous_bernoulli():
    for l in LOGITS:
        law = BySimpleIntegration(l)
        assert_allclose(law.integral(np.ones_like), integrate.quad(lambda x, l=l: math.exp(l * x - max(l, 0)), 0, 1)[0], rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l", LOGITS)
def test_continuous_bernoulli_samples(dtype, l):
    x = ContinuousBernoulli(*repeated(dtype, l)).sample(Stream(7))
    assert x.dtype == dtype
    assert x.data.min() >= 0
    assert x.data.max() <= 1
    agrees_with(x.data, BySimpleIntegration(l))
    # the sample is F^-1(u): x is rounded by eps where F is as steep as |l|; the series near 0 omits a sixth cumulant <= 1/4, over 6!
    u = Stream(7).uniform((N, 1), like=np.zeros(1, dtype))
    error = BySimpleIntegration(l).cdf(x.data[:2000, 0]) - u[:2000, 0]
    assert abs(error).max() < 4 * np.finfo(dtype).eps * (1 + abs(l)) + 1e-13 + abs(l) ** 5 / 2880 * (abs(l) < 0.02)


class Constant(Stream):
    """A stream whose uniforms are given."""

    def __init__(self, *values):
        super().__init__(0)
        self.values = values

    def uniform(self, shape, like=None):
        return np.array(self.values, like.dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_of_the_uniform_give_samples_in_range(dtype):
    last = 1 - np.finfo(dtype).eps / 2
    logits = np.array([-1e4, -200, -80, -1, -1e-3, 0, 1e-3, 1, 80, 200, 1e4], dtype)
    low = ContinuousBernoulli(logits).sample(Constant(*[0] * 11)).data
    high = ContinuousBernoulli(logits).sample(Constant(*[last] * 11)).data
    assert np.all((low >= 0) & (low <= high) & (high <= 1))
    assert_allclose(low[:9], [0] * 8 + [1 - np.log(1 / np.finfo(dtype).eps * 2) / 80], atol=4 * np.finfo(dtype).eps)
    for u in (0, 0.5, last):
        assert np.isfinite(Laplace(np.zeros(1, dtype), np.zeros(1, dtype)).sample(Constant(u)).data).all()
    # a class of probability e^-60 must not win because its uniform is 0
    assert Categorical(np.array([0, -60], dtype)).sample(Constant(0.5, 0)).data == 0


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 24), (np.float64, 53)])
def test_a_uniform_of_0_stands_for_half_a_step_of_its_grid(dtype, bits):
    """-log(1 - u) is then half a step, and Gumbel noise minus its logarithm; at u = 1 - 1/e it is 0, and the larger logit wins.  A Laplace
    tail of half a step is the largest sample."""
    assert_allclose(
        Laplace(np.zeros(1, dtype), np.zeros(1, dtype)).sample(Constant(0)).data, stats.laplace.isf(2.0 ** -(bits + 1)), rtol=1e-6
    )
    largest = (bits + 1) * math.log(2)
    for margin, winner in ((-0.1, 0), (0.1, 1)):
        assert Categorical(np.array([0, largest + margin], dtype)).sample(Constant(0, 1 - math.exp(-1))).data == winner


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_samples(dtype):
    logits = np.array([-30, -2, 0, 0.7, 40], dtype)
    x = Bernoulli(np.broadcast_to(logits, (N, 5))).sample(Stream(8))
    assert x.number == 0
    assert x.dtype == dtype
    assert set(np.unique(x.data)) == {0, 1}
    p = special.expit(logits.astype(float))
    assert np.all(abs(x.data.mean(axis=0) - p) <= 5 * np.sqrt(p * (1 - p) / N))


@pytest.mark.parametrize("dtype", DTYPES)
def test_categorical_samples(dtype):
    logits = np.array([0.0, 1.0, -2.0, 3.0, -1e4], dtype)
    x = Categorical(np.broadcast_to(logits, (N, 5))).sample(Stream(9))
    assert x.shape == (N,)
    assert x.dtype == np.int64
    counts = np.bincount(x.data, minlength=5)
    assert counts[4] == 0
    assert stats.chisquare(counts[:4], N * special.softmax(logits[:4].astype(float))).pvalue > RARE


def test_reparameterization_is_exact():
    """dz/dmean = 1 and dz/dlogvar = sigma eps / 2, with the noise read from the same stream."""
    mean, logvar = Tensor(np.linspace(-1, 1, 12).reshape(3, 4)), Tensor(np.linspace(-8, 4, 12).reshape(3, 4))
    z = Gaussian(mean, logvar).sample(Stream(10))
    eps, sigma = Stream(10).normal((3, 4), mean.data), np.exp(logvar.data / 2)
    assert_array_equal(z.data, mean.data + sigma * eps)
    for_mean, for_logvar = gradients(z.sum(), [mean, logvar])
    assert_array_equal(for_mean, np.ones((3, 4)))
    assert_array_equal(for_logvar, sigma * eps / 2)


def slope_by_differences(draw, stream, parameter, direction, h=1e-4):
    """d/dt of draw(parameter + t direction), the same noise every time; Richardson's extrapolation, so the error is of order h^4."""
    state = stream.state()

    def at(t):
        stream.set_state(state)
        return draw(parameter + t * direction, stream).data

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


DRAWS = {
    "gaussian, mean": lambda p, stream: Gaussian(p, np.linspace(-2, 2, 6)).sample(stream),
    "gaussian, logvar": lambda p, stream: Gaussian(np.linspace(-2, 2, 6), p).sample(stream),
    "gaussian, log sigma": lambda p, stream: Gaussian.from_log_sigma(np.linspace(-2, 2, 6), p).sample(stream),
    "laplace, mean": lambda p, stream: Laplace(p, np.linspace(-2, 2, 6)).sample(stream),
    "laplace, log scale": lambda p, stream: Laplace(np.linspace(-2, 2, 6), p).sample(stream),
    "continuous bernoulli": lambda p, stream: ContinuousBernoulli(p).sample(stream),
}


@pytest.mark.parametrize("name", DRAWS)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6), st.integers(0, 1000))
@example([0.0, 1e-6, -1e-3, 1e-3, 1.0, -1.0], 1)
def test_slopes_of_samples(name, values, seed):
    check_slopes(DRAWS[name], np.array(values), seed)


@pytest.mark.parametrize("seed", range(5))
def test_slopes_of_continuous_bernoulli_samples_near_zero_and_far_out(seed):
    check_slopes(DRAWS["continuous bernoulli"], np.array([0.0, 1e-9, -1e-3, 0.0195, -0.0205, 0.3, -80.0, 80.0, 30.0, -30.0]), seed)


def check_slopes(draw, values, seed):
    values = np.where(abs(abs(values) - 0.02) < 3e-4, 0.0, values)  # the continuous Bernoulli's series ends at 0.02: a step of 1e-12
    stream = Stream(seed)
    expected = slope_by_differences(draw, stream, values, np.ones_like(values))
    parameter = Tensor(values)
    x = draw(parameter, Stream(seed))
    # rounding of x, at most 20, over h
    assert_allclose(gradients(x.sum(), [parameter])[0], expected, rtol=1e-9, atol=2e-11)


def test_slopes_reach_the_loss_through_any_later_op():
    """The pathwise gradient of E[z^2] = mean^2 + sigma^2 is (2 mean, sigma^2) on average: 5 standard errors."""
    mean, logvar = Tensor(np.full((N, 1), 0.8)), Tensor(np.full((N, 1), -0.6))
    for_mean, for_logvar = gradients(ops.square(Gaussian(mean, logvar).sample(Stream(11))).sum(), [mean, logvar])
    for g, expected in ((for_mean, 1.6), (for_logvar, math.exp(-0.6))):
        assert abs(g.mean() - expected) < 5 * g.std() / math.sqrt(N)


@pytest.mark.parametrize("shapes", [((4, 3), (4, 3)), ((4, 3), (3,))])
def test_gaussian_sample_and_kl_in_one_pass_are_the_two(shapes):
    rng = np.random.default_rng(0)
    q = Gaussian(*(rng.normal(size=shape) for shape in shapes))
    z, divergence = sample_and_kl(q, StandardGaussian(), Stream(7))
    np.testing.assert_allclose(z.data, q.sample(Stream(7)).data, rtol=1e-12)
    np.testing.assert_allclose(divergence.data, kl(q, StandardGaussian()).data, rtol=1e-12)
