"""Distributions of 8-bit pixels: all 256 values are enumerated, SciPy has the beta-binomial, and the logistic is integrated."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae import VAE, ShapeError, Stream, UsageError, use_backend
from minivae.distributions import BetaBinomial, DiscretizedLogistic
from minivae.distributions.discretized_logistic import draw
from minivae.models.likelihoods import NARROWEST

KINDS = {"beta-binomial": BetaBinomial, "discretized logistic": DiscretizedLogistic}
every = pytest.mark.parametrize("name", KINDS)
parameters = st.tuples(st.floats(-6, 6), st.floats(-6, 6))


def made(name, first, second, **options):
    """One pixel of each pair; the logistic's mean is brought near the range of pixels."""
    first, second = np.atleast_1d(np.array(first, float)), np.atleast_1d(np.array(second, float))
    return KINDS[name](first, second, 0, **options) if name == "beta-binomial" else KINDS[name](0.5 + first / 8, second - 2, 0, **options)


def probabilities(p):
    """Of each level.     -> (levels, *batch)"""
    return np.exp([p.log_prob(np.full(p.shape, k / p.n)).data for k in range(p.levels)])


@every
@given(pair=parameters, levels=st.sampled_from([2, 3, 256]))
def test_all_levels_add_up_to_one(name, pair, levels):
    p = made(name, *pair, levels=levels)
    assert_allclose(probabilities(p).sum(axis=0), 1, rtol=1e-11)


@every
@given(pair=parameters, levels=st.sampled_from([2, 3, 256]))
def test_mean_mode_and_entropy_by_enumeration(name, pair, levels):
    p = made(name, *pair, levels=levels)
    each = probabilities(p)[:, 0]
    assert_allclose(p.mean.data, each @ np.arange(levels) / p.n, rtol=1e-10)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert_allclose(p.entropy().data, -np.nansum(each * np.log(each)), rtol=1e-9, atol=1e-12)
    mode = p.mode.data[0] * p.n
    assert abs(mode - round(mode)) < 1e-9
    assert each[round(mode)] >= each.max() * (1 - 1e-12)


@given(pair=parameters, k=st.integers(0, 255))
def test_the_beta_binomial_is_scipys(pair, k):
    expected = scipy.stats.betabinom.logpmf(k, 255, *np.exp(pair))
    assert_allclose(made("beta-binomial", *pair).log_prob(np.array([k / 255])).data, expected, rtol=1e-9, atol=1e-10)


@given(pair=parameters, k=st.integers(0, 255))
def test_the_logistic_is_an_integral_of_its_density(pair, k):
    p = made("discretized logistic", *pair)
    mean, scale = p.location[0], np.exp(p.log_scale[0])
    low = -np.inf if k == 0 else ((k - 0.5) / 255 - mean) / scale
    high = np.inf if k == 255 else ((k + 0.5) / 255 - mean) / scale
    exact = scipy.integrate.quad(scipy.stats.logistic.pdf, low, high, epsabs=1e-13, limit=200)[0]
    assert_allclose(np.exp(p.log_prob(np.array([k / 255])).data), exact, rtol=1e-7, atol=1e-12)


@every
def test_each_pixel_by_itself(name):
    numbers = Stream(0).normal((2, 3, 4)).astype(float)
    p, x = KINDS[name](*numbers, 1, levels=5), np.arange(12).reshape(3, 4) % 5 / 4
    assert_allclose(p.terms().log_prob(x).data.sum(axis=1), p.log_prob(x).data, rtol=1e-12)


@pytest.mark.parametrize("levels", [3, 10, 256])
def test_the_likeliest_level_between_the_ends(levels):
    """Both numbers above 1: the ends are the least likely, and the mode lies where the closed form says."""
    a, b = (grid.ravel() for grid in np.meshgrid(*[np.log([1.1, 1.5, 2.0, 3.7, 8.0, 40.0, 300.0])] * 2))
    p = BetaBinomial(a, b, 0, levels=levels)
    each = probabilities(p)
    found = np.take_along_axis(each, np.round(p.mode.data * p.n).astype(int)[None], axis=0)[0]
    assert (found >= each.max(axis=0) * (1 - 1e-12)).all()  # two levels may be equally likely


@pytest.mark.parametrize("levels", [2, 3, 256])
@pytest.mark.parametrize("log_scale", [-6.0, -2.0, 0.0])
def test_the_likeliest_level_of_a_logistic(levels, log_scale):
    """Means inside, at the ends and far outside, where all levels but one have probability 0."""
    mean = np.array([-900.0, -1.0, -0.01, 0.0, 0.003, 0.3, 0.5, 0.61, 0.999, 1.0, 1.01, 2.0, 900.0])
    p = DiscretizedLogistic(mean, np.full(mean.shape, log_scale), 0, levels=levels)
    each, mode = probabilities(p), p.mode.data * p.n
    assert_allclose(mode, mode.round().clip(0, p.n), atol=1e-9)
    found = np.take_along_axis(each, mode.round().astype(int)[None], axis=0)[0]
    assert (found >= each.max(axis=0) * (1 - 1e-12)).all()


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_a_draw_of_the_logistic_inverts_its_distribution_function(levels):
    n, u = levels - 1, (np.arange(1000) + 0.5) / 1000
    for mean, log_scale in ((0.3, -3.0), (1.1, -1.0), (0.5, 1.0)):
        k = draw(u, np.array(mean), np.array(log_scale), n) * n
        below, above = (scipy.stats.logistic.cdf((k + side - n * mean) / (n * np.exp(log_scale))) for side in (-0.5, 0.5))
        assert ((u >= below - 1e-12) | (k < 0.5)).all()
        assert ((u <= above + 1e-12) | (k > n - 0.5)).all()
    zero = draw(np.zeros(1), np.array(0.5), np.log(0.01), 255)  # half a step of the grid of 2^-53
    assert_allclose(zero * 255, np.rint(255 * (0.5 + 0.01 * np.log(2.0**-54))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_nothing_is_infinite(dtype):
    """Deviations that round to sigmoids of 0 and 1: the log-probability is linear in them."""
    p = DiscretizedLogistic(np.array([0.0, 1.0], dtype), np.array([NARROWEST] * 2, dtype), 0)
    value = p.log_prob(np.array([1.0, 0.0], dtype)).data
    assert_allclose(value, -(1 - 0.5 / 255) * 16 * 255, rtol=1e-4)


@every
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_draws_have_the_enumerated_frequencies(name, backend):
    """Pearson's chi-square, pooled to cells of 20 and more, at a level of 1e-6."""
    with use_backend(backend):
        p = made(name, 0.4, 0.7)
        draws = np.rint(p.sample(Stream(3), 20000).data[:, 0] * 255).astype(int)
    expected, found = 20000 * probabilities(p)[:, 0], np.bincount(draws, minlength=256)
    cells = np.cumsum(expected) // 20
    expected, found = np.bincount(cells.astype(int), expected), np.bincount(cells.astype(int), found)
    expected, found = expected[expected > 0], found[expected > 0]
    assert len(expected) > 20
    assert scipy.stats.chi2.sf(((found - expected) ** 2 / expected).sum(), len(expected) - 1) > 1e-6


@every
@pytest.mark.parametrize("bad", [0.5, -1 / 255, 256 / 255, 3.2 / 255, float("nan")])
def test_a_pixel_between_two_levels_is_refused(name, bad):
    p = made(name, [0.0, 0.0], [0.0, 0.0])
    with pytest.raises(ShapeError, match="none of the 256 values k / 255; need 8-bit pixels over 255"):
        p.log_prob(np.array([1.0, bad]))


@every
def test_bytes_over_255_are_levels_in_float32(name):
    p = made(name, np.zeros(256), np.zeros(256))
    x = (np.arange(256, dtype=np.uint8) / np.float32(255)).astype(np.float32)
    assert_array_equal(p.level(x).data, np.arange(256))


@every
def test_one_level_is_no_choice(name):
    with pytest.raises(UsageError, match="levels is 1; need at least 2"):
        made(name, 0, 0, levels=1)


@pytest.mark.parametrize("likelihood", ["beta_binomial", "discretized_logistic"])
@pytest.mark.parametrize(("shape", "arch"), [((6, 5, 3), "dense"), ((9, 8, 3), "conv"), ((6, 5, 2), "gru"), ((7,), "dense")])
def test_a_decoder_of_two_numbers_a_pixel(likelihood, shape, arch):
    model = VAE(shape, Stream(0), latent=2, arch=arch, hidden=(5,), likelihood=likelihood)
    p = model.decode(Stream(1).normal((4, 3, 2)))
    assert (p.batch_shape, p.event_shape) == ((4, 3), shape)
    assert model.decode_mean(Stream(1).normal((4, 2))).shape == (4, *shape)
    assert p.log_prob(np.zeros((3, *shape), np.float32)).shape == (4, 3)


def test_a_decoder_of_ones_own_gives_two_numbers_a_pixel():
    from minivae import nn

    encoder, decoder = nn.Dense(6, 4, Stream(0)), nn.Dense(2, 6, Stream(0))
    model = VAE((6,), latent=2, likelihood="beta_binomial", encoder=encoder, decoder=decoder)
    with pytest.raises(ShapeError, match=r"the decoder gives \(3, 6\) for 3 codes; need \(3, 12\)"):
        model.decode(np.zeros((3, 2), np.float32))
