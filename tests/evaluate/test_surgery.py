"""ELBO surgery: judged by integrals on a grid, and where the answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from scipy.stats import norm

from minivae import ShapeError, Stream, UsageError
from minivae.distributions import Gaussian, StandardGaussian, kl
from minivae.evaluate import elbo_surgery, surgery
from minivae.evaluate.surgery import log_aggregate

# four posteriors in two dimensions: wide, narrow, far, and of unequal sigmas, with means that are correlated
MEAN = np.array([[0.0, 0.1], [1.5, 1.2], [-1.0, -1.4], [0.3, 2.0]])
SIGMA = np.array([[1.0, 0.8], [0.4, 0.5], [0.6, 0.3], [0.9, 0.35]])
LOGVAR = 2 * np.log(SIGMA)


def by_integration(mean, sigma):
    """The three parts, from the densities on a grid: for smooth functions that vanish at the ends the sum over the grid is the integral, to
    rounding, once the step is a fraction of the smallest sigma."""
    x = np.linspace(-9, 9, 601)
    step = x[1] - x[0]
    one = norm.pdf(x[:, None, None], mean, sigma)  # (grid, N, 2)
    each = one[:, None, :, 0] * one[None, :, :, 1]  # (grid, grid, N)
    q, marginal = each.mean(axis=2), one.mean(axis=1)

    def divergence(p, log_ratio):
        return np.where(p > 0, p * log_ratio, 0).sum() * step**p.ndim

    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.mean([divergence(each[..., n], np.log(each[..., n] / q)) for n in range(len(mean))])
        correlation = divergence(q, np.log(q / (marginal[:, None, 0] * marginal[None, :, 1])))
        dimensions = [divergence(marginal[:, j], np.log(marginal[:, j]) - norm.logpdf(x)) for j in range(2)]
    return information, correlation, dimensions


def test_the_parts_are_the_integrals():
    information, correlation, dimensions = by_integration(MEAN, SIGMA)
    found = elbo_surgery(MEAN, LOGVAR, Stream(0), samples=50_000)
    assert correlation > 0.1  # something to find
    for value, error, exact in (
        (found.mutual_information, found.mutual_information_error, information),
        (found.total_correlation, found.total_correlation_error, correlation),
        *zip(found.dimension_kl, found.dimension_kl_error, dimensions, strict=True),
    ):
        assert error < 0.005
        assert abs(value - exact) < 5 * error
    assert_allclose(found.kl, information + correlation + sum(dimensions), rtol=1e-9)  # the judge's parts sum to it, too


def test_the_draws_are_those_of_the_posteriors():
    """mean + sigma eps, from the stream that is given: as a Gaussian draws."""
    z = Gaussian(MEAN, LOGVAR).sample(Stream(0), (3,)).data.reshape(-1, 2)
    joint, marginals = log_aggregate(z, MEAN, LOGVAR)
    assert_allclose(elbo_surgery(MEAN, LOGVAR, Stream(0), samples=3).total_correlation, (joint - marginals.sum(axis=1)).mean(), rtol=1e-12)


def test_the_errors_are_standard_errors():
    """Of 100 estimates; their spread is estimated to a fourteenth.  The draws are a fixed number from each Gaussian, which only helps."""
    exact = by_integration(MEAN, SIGMA)
    runs = [elbo_surgery(MEAN, LOGVAR, Stream(seed), samples=100) for seed in range(100)]
    for name, truth in (("mutual_information", exact[0]), ("total_correlation", exact[1])):
        values, errors = np.array([(getattr(run, name), getattr(run, f"{name}_error")) for run in runs]).T
        assert abs(values.mean() - truth) < 5 * values.std() / 10
        assert 0.5 < values.std() / errors.mean() < 1.25
    values, errors = (np.array([getattr(run, name) for run in runs]) for name in ("dimension_kl", "dimension_kl_error"))
    assert (abs(values.mean(axis=0) - exact[2]) < 5 * values.std(axis=0) / 10).all()
    assert (values.std(axis=0) < 1.25 * errors.mean(axis=0)).all()


@given(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), st.integers(0, 10**6))
def test_the_parts_sum_to_the_kl_of_the_elbo(shape, seed):
    rng = np.random.default_rng(seed)
    mean, logvar = 3 * rng.normal(size=shape), 4 * rng.normal(size=shape) - 2
    found = elbo_surgery(mean, logvar, Stream(seed))
    expected = kl(Gaussian(mean, logvar), StandardGaussian()).data.mean()
    assert_allclose(found.kl, expected, rtol=1e-12)
    size = abs(found.mutual_information) + abs(found.total_correlation) + abs(found.dimension_kl).sum()
    assert abs(found.mutual_information + found.total_correlation + found.dimension_kl.sum() - expected) < 1e-12 * (size + expected)


def test_one_posterior_for_all_images():
    """The decoder hears nothing: no information, no correlation, and the KL is all in the dimensions, exactly."""
    mean, logvar = np.tile([0.5, -1.0, 0.0], (20, 1)), np.tile([0.0, -2.0, 0.0], (20, 1))
    found = elbo_surgery(mean, logvar, Stream(0), samples=3)
    assert abs(found.mutual_information) < 5 * found.mutual_information_error
    assert abs(found.total_correlation) < 1e-12
    assert abs(found.dimension_kl - [1 / 8, 1 / 2 + (math.exp(-2) + 2 - 1) / 2, 0]).max() < 5 * found.dimension_kl_error.max()
    assert abs(found.dimension_kl[2]) < 1e-12  # the prior itself, draw by draw


def test_an_aggregate_that_factorizes_has_no_total_correlation():
    """Means on all points of a grid, and widths that depend on the column alone: q(z) is the product of its marginals, draw by draw."""
    grid = np.stack(np.meshgrid([-1.0, 0.2, 3.0], [0.0, 5.0], indexing="ij"), axis=-1).reshape(-1, 2)
    found = elbo_surgery(grid, np.broadcast_to([-1.0, 0.5], grid.shape), Stream(0), samples=10)
    assert abs(found.total_correlation) < 1e-12
    assert found.total_correlation_error < 1e-12
    assert found.mutual_information > 0.5


def test_one_latent_has_no_total_correlation():
    found = elbo_surgery(MEAN[:, :1], LOGVAR[:, :1], Stream(0))
    assert abs(found.total_correlation) < 1e-12


def test_posteriors_that_do_not_overlap_tell_each_image():
    """I = log N, and two latents that say the same share all of it: TC = log N, too."""
    mean = np.repeat(np.linspace(-40, 40, 8)[:, None], 2, axis=1)
    found = elbo_surgery(mean, np.full((8, 2), -2.0), Stream(0), samples=2000)
    assert abs(found.mutual_information - math.log(8)) < 5 * found.mutual_information_error
    assert_allclose(found.total_correlation, math.log(8), rtol=1e-12)
    many = np.repeat(1e3 * mean[:, :1], 200, axis=1)  # densities of e^1800
    assert_allclose(elbo_surgery(many, np.full((8, 200), -20.0), Stream(0)).total_correlation, 199 * math.log(8), rtol=1e-12)


def test_the_sum_over_parts_is_one_sum(monkeypatch):
    z = np.random.default_rng(0).normal(size=(37, 2))
    whole = log_aggregate(z, MEAN, LOGVAR)
    monkeypatch.setattr(surgery, "PART", 20)  # five draws at a time
    for a, b in zip(log_aggregate(z, MEAN, LOGVAR), whole, strict=True):
        assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: elbo_surgery(MEAN, LOGVAR[:2], Stream(0)), ShapeError, r"mean is \(4, 2\), logvar is \(2, 2\)"),
        (lambda: elbo_surgery(MEAN[0], LOGVAR[0], Stream(0)), ShapeError, r"need \(N, K\) both"),
        (lambda: elbo_surgery(MEAN, LOGVAR + np.inf, Stream(0)), UsageError, "not finite"),
        (lambda: elbo_surgery(MEAN, LOGVAR, Stream(0), samples=0), UsageError, "samples is 0; need at least 1"),
    ],
)
def test_bad_input_is_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
