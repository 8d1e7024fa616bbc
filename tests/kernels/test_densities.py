"""Row kernels against float64, normalisation, quadrature and complex steps; over-long, strided and infinite input."""

import itertools

import numba
import numpy as np
import pytest
import scipy.special
from mpmath import mp
from numpy.testing import assert_allclose, assert_array_equal
from ulps import ulps

from minivae.errors import ShapeError
from minivae.kernels.cpu import densities, gaussians
from minivae.kernels.cpu.elementwise import PARALLEL_FROM

EPS = 2.0**-24  # half a float32 ulp of 1: what one rounding may cost, relatively
LARGE = (PARALLEL_FROM // 50 + 1, 50)


def draw(shape, seed, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def halves(shape, seed):
    """(mean, logvar): the two halves of one matrix, whose rows are not next to each other."""
    head = draw((shape[0], 2 * shape[1]), seed)
    return head[:, : shape[1]], head[:, shape[1] :]


def assert_sums_agree(value, terms):
    """value = terms.sum(1): n - 1 additions of rounding error EPS each, and terms that are within 8 EPS themselves."""
    bound = (terms.shape[1] + 8) * EPS * np.abs(terms).sum(1)
    assert np.all(np.abs(value - terms.sum(1)) <= bound)


def complex_step(f, x):
    """df/dx for f that acts on each number by itself: Im f(x + ih) / h, exact to float64."""
    return f(x.astype(np.float64) + 1e-30j).imag / 1e-30


# --- Bernoulli -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(3, 3, 5), (12, 4, 33), (LARGE[0], LARGE[0], LARGE[1]), (90, 9, 784)])
def test_bernoulli_log_prob(n, m, d):
    logits, x = draw((n, d), 0, 4), np.random.default_rng(1).uniform(size=(m, d)).astype(np.float32).round(1)
    log_prob, residual = densities.bernoulli_log_prob(logits, x)
    l64, x64 = logits.astype(np.float64), x.astype(np.float64)[np.arange(n) % m]
    # log p = x log sigmoid(l) + (1 - x) log sigmoid(-l): no cancellation in float64
    assert_sums_agree(log_prob, x64 * -np.logaddexp(0, -l64) + (1 - x64) * -np.logaddexp(0, l64))
    assert_allclose(residual, x64 - scipy.special.expit(l64), rtol=0, atol=4 * EPS)


def test_bernoulli_probabilities_sum_to_one():
    x = np.array(list(itertools.product([0, 1], repeat=10)), np.float32)
    logits = np.repeat(draw((1, 10), 2, 3), len(x), axis=0)
    log_prob, _ = densities.bernoulli_log_prob(logits, x)
    # each log p is a sum of 10 terms: relative error of p = absolute error of log p
    assert abs(np.exp(log_prob.astype(np.float64)).sum() - 1) <= 18 * EPS * np.abs(log_prob).max()


def test_bernoulli_residual_is_the_gradient():
    logits, x = draw((4, 6), 3), draw((4, 6), 4)
    _, residual = densities.bernoulli_log_prob(logits, x)
    gradient = complex_step(lambda l: x * l - np.log(1 + np.exp(l)), logits)
    assert_allclose(residual, gradient, rtol=0, atol=4 * EPS * np.abs(x).max())
    g = draw(4, 5)
    assert_array_equal(densities.bernoulli_log_prob_vjp(g, residual), g[:, None] * residual)


def test_bernoulli_with_extreme_logits():
    logits = np.array([[1e4], [1e4], [-1e4], [-1e4], [17], [40], [np.inf], [-np.inf], [np.inf]], np.float32)
    x = np.array([[1], [0], [0], [1], [1], [1], [1], [0], [0]], np.float32)
    log_prob, residual = densities.bernoulli_log_prob(logits, x)
    exact = np.array([0, -1e4, 0, -1e4, -np.log1p(np.exp(-17)), -np.log1p(np.exp(-40)), 0, 0, -np.inf])
    assert np.all(ulps(log_prob, exact) <= 2)
    assert np.all(ulps(residual[:, 0], np.array([0, -1, 0, 1, scipy.special.expit(-17), scipy.special.expit(-40), 0, 0, -1])) <= 2)


# --- Gaussian ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (7, 20), LARGE])
def test_reparameterize(shape):
    (mean, logvar), eps, g = halves(shape, 0), draw(shape, 1), draw(shape, 2)
    z = gaussians.sample(mean, logvar, eps)
    spread = np.exp(logvar.astype(np.float64) / 2) * eps
    assert np.all(np.abs(z - (mean + spread)) <= 6 * EPS * (np.abs(mean) + np.abs(spread)))  # exp: 2 ulp = 4 EPS, a product, a sum
    gmean, glogvar = gaussians.sample_vjp(g, logvar, eps)
    assert_array_equal(gmean, g)
    assert_allclose(glogvar, g * complex_step(lambda l: np.exp(l / 2) * eps, logvar), rtol=8 * EPS, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (7, 20), LARGE])
def test_gaussian_kl_is_the_expected_log_ratio(shape):
    """KL = E[log q(z) - log p(z)], z ~ q, by Gauss-Hermite quadrature with 4 nodes: exact, as the ratio is quadratic in z."""
    mean, logvar = (a.astype(np.float64) for a in halves(shape, 3))
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    terms = 0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        z = mean + np.exp(logvar / 2) * node
        terms += weight * (z**2 / 2 - node**2 / 2 - logvar / 2)
    assert_sums_agree(densities.gaussian_kl_standard(*halves(shape, 3)), terms)


def test_gaussian_kl_near_the_prior():
    """1/2 (e^l - 1 - l) to 3 ulp, where float64 itself has lost most of its digits, and far away, where it is infinite."""
    logvar = np.array([[0], [1e-7], [-1e-6], [1e-4], [-0.01], [0.5], [-0.99], [1.01], [-20], [30]], np.float32)
    value = densities.gaussian_kl_standard(np.zeros_like(logvar), logvar)
    with mp.workdps(50):
        exact = [float((mp.expm1(float(l)) - mp.mpf(float(l))) / 2) for l in logvar[:, 0]]
    assert np.all(ulps(value, np.array(exact)) <= 3)
    infinite = np.array([[100, -np.inf, np.inf]], np.float32).T
    assert_array_equal(densities.gaussian_kl_standard(np.zeros_like(infinite), infinite), [np.inf] * 3)


def test_gaussian_kl_vjp():
    (mean, logvar), g = halves((7, 20), 4), draw(7, 5)
    gmean, glogvar = densities.gaussian_kl_standard_vjp(g, mean, logvar)
    assert_allclose(gmean, g[:, None] * complex_step(lambda m: m**2 / 2, mean), rtol=2 * EPS)
    assert_allclose(glogvar, g[:, None] * complex_step(lambda l: (np.exp(l) - 1 - l) / 2, logvar), rtol=8 * EPS, atol=1e-15)


# --- log-sum-exp ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 1), (5, 50), LARGE])
@pytest.mark.parametrize("level", [0, -1e4])
def test_logsumexp(shape, level):
    x, g = draw(shape, 6, 5) + np.float32(level), draw(shape[0], 7)
    x64 = x.astype(np.float64)
    largest, exact = x64.max(1), scipy.special.logsumexp(x64, axis=1)
    # log(sum e^(x - m)): x - m is rounded, half an ulp of a number below 64; the sum; the final one
    bound = 2.0**-19 + (shape[1] + 8) * EPS + 4 * EPS * (np.abs(largest) + np.abs(exact))
    assert np.all(np.abs(densities.logsumexp(x) - exact) <= bound)
    softmax = densities.softmax(x)
    assert_allclose(softmax, scipy.special.softmax(x64, axis=1), rtol=2.0**-18 + (shape[1] + 8) * EPS)
    assert_allclose(softmax.astype(np.float64).sum(1), 1, rtol=0, atol=(shape[1] + 4) * EPS)
    # the two kernels may add in another order: each sum of positive numbers is off by one rounding a number at most, and four follow
    assert_allclose(densities.logsumexp_vjp(g, x), g[:, None] * softmax, rtol=(2 * shape[1] + 4) * EPS)


def test_logsumexp_of_infinities_is_scipys():
    i = np.inf
    x = np.array(
        [[-i, -i], [-i, 3], [i, 3], [i, -i], [i, i], [np.nan, 3], [-np.nan, i], [-i, np.nan], [3e38, 3e38], [-3e38, -i]], np.float32
    )
    with np.errstate(all="ignore"):
        assert_array_equal(densities.logsumexp(x), scipy.special.logsumexp(x, axis=1))
        assert_array_equal(densities.softmax(x), scipy.special.softmax(x, axis=1))


# --- the house rules -----------------------------------------------------------------------------------------------------------------


def everything():
    shape = LARGE
    (mean, logvar), eps, g = halves(shape, 8), draw(shape, 9), draw(shape[0], 10)
    log_prob, residual = densities.bernoulli_log_prob(eps, mean)
    yield from (log_prob, residual, densities.bernoulli_log_prob_vjp(g, residual))
    yield gaussians.sample(mean, logvar, eps)
    yield from gaussians.sample_vjp(mean, logvar, eps)
    yield densities.gaussian_kl_standard(mean, logvar)
    yield from densities.gaussian_kl_standard_vjp(g, mean, logvar)
    yield from (densities.logsumexp(eps), densities.softmax(eps), densities.softmax_vjp(eps, logvar))
    yield from gaussians.sample_and_kl(mean, logvar, eps)
    yield from gaussians.sample_and_kl_vjp(eps, g, mean, logvar, eps)


def test_bits_do_not_depend_on_threads():
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = [a.tobytes() for a in everything()]
    finally:
        numba.set_num_threads(before)
    assert [a.tobytes() for a in everything()] == alone


def test_a_row_does_not_depend_on_its_neighbours():
    (mean, logvar), eps = halves(LARGE, 11), draw(LARGE, 12)
    few = slice(3, 6)
    for f in (
        gaussians.sample,
        lambda m, l, e: densities.gaussian_kl_standard(m, l),
        lambda m, l, e: densities.bernoulli_log_prob(e, e)[0],
    ):
        assert_array_equal(f(mean, logvar, eps)[few], f(mean[few], logvar[few], eps[few]))


def test_nan_reaches_its_row_and_no_other():
    ones, holed = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)
    holed[1, 2] = np.nan
    for f in (
        lambda a: densities.bernoulli_log_prob(a, ones)[0],
        lambda a: densities.bernoulli_log_prob(ones, a)[0],
        lambda a: densities.bernoulli_log_prob(a, ones)[1].sum(1),
        lambda a: gaussians.sample(a, ones, ones).sum(1),
        lambda a: gaussians.sample(ones, a, ones).sum(1),
        lambda a: densities.gaussian_kl_standard(ones, a),
        lambda a: densities.gaussian_kl_standard(a, ones),
        lambda a: densities.gaussian_kl_standard_vjp(ones[:, 0].copy(), ones, a)[1].sum(1),
        densities.logsumexp,
    ):
        assert np.isnan(f(holed)).tolist() == [False, True, False]


def test_any_strides_are_accepted():
    (mean, logvar), eps = halves((6, 8), 13), draw((8, 6), 14).T
    assert_array_equal(gaussians.sample(mean, logvar, eps), gaussians.sample(mean.copy(), logvar.copy(), eps.copy()))
    assert_array_equal(densities.logsumexp(eps[::-1, ::2]), densities.logsumexp(eps[::-1, ::2].copy()))


def test_empty_matrices():
    none = np.zeros((0, 3), np.float32)
    assert gaussians.sample(none, none, none).shape == (0, 3)
    assert densities.gaussian_kl_standard(none, none).shape == (0,)
    assert_array_equal(densities.logsumexp(np.zeros((2, 0), np.float32)), [-np.inf, -np.inf])
    assert_array_equal(densities.gaussian_kl_standard(none.T, none.T), [0, 0, 0])


def test_bad_shapes_are_refused():
    a, b, v = np.zeros((4, 3), np.float32), np.zeros((3, 3), np.float32), np.zeros(3, np.float32)
    for call in (
        lambda: densities.bernoulli_log_prob(a, b),
        lambda: densities.bernoulli_log_prob(a, b.T[:, :2]),
        lambda: densities.bernoulli_log_prob(a, a[:0]),
        lambda: densities.bernoulli_log_prob_vjp(v, a),
        lambda: gaussians.sample(a, a, b),
        lambda: densities.gaussian_kl_standard(a, b),
        lambda: densities.gaussian_kl_standard_vjp(v, a, a),
        lambda: densities.logsumexp(v),
    ):
        with pytest.raises(ShapeError, match=r"\d"):
            call()
