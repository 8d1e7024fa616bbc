"""The importance-weighted bounds, where log p(x) is known and every bound is an integral."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minivae import Stream
from minivae.distributions import Gaussian, StandardGaussian
from minivae.errors import UsageError
from minivae.evaluate import log_likelihood, log_likelihoods


class TwoNumbers:
    """z ~ N(0, 1), x ~ N(z, 1), and an encoder that is off: p(x) is N(0, 2)."""

    prior = StandardGaussian()

    def encode(self, x):
        return Gaussian(np.full_like(x, 0.4), np.full_like(x, math.log(0.3)))

    def decode(self, z):
        return Gaussian(z, 0.0)


X = np.full((40_000, 1), 1.5)
LOG_P = -(1.5**2) / 4 - math.log(4 * math.pi) / 2


def log_weight(eps):
    z = 0.4 + math.sqrt(0.3) * eps
    log_joint = -(z**2) / 2 - (1.5 - z) ** 2 / 2 - math.log(2 * math.pi)
    return log_joint + eps**2 / 2 + math.log(2 * math.pi * 0.3) / 2


def test_the_bounds_are_the_integrals():
    """L_1 and L_2 by Gauss-Hermite quadrature over the noise of one and of two samples."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    one = (weights * log_weight(nodes)).sum()
    pair = np.logaddexp(log_weight(nodes)[:, None], log_weight(nodes)) - math.log(2)
    two = (weights[:, None] * weights * pair).sum()
    found = log_likelihoods(TwoNumbers(), X, Stream(0), (1, 2, 7))  # 7 draws: three groups of two, and one over
    errors = found.std(axis=1, ddof=1) / math.sqrt(len(X))
    assert one < two < LOG_P
    assert_allclose(found[:2].mean(axis=1), [one, two], rtol=0, atol=5 * errors.max())
    assert errors.max() < (two - one) / 20  # the bounds can be told from each other
    assert two < found[2].mean() < LOG_P


def test_all_draws_in_one_group_are_the_single_bound():
    single = log_likelihood(TwoNumbers(), X[:50], Stream(3), 6)
    assert_allclose(log_likelihoods(TwoNumbers(), X[:50], Stream(3), (2, 6))[1], single, rtol=1e-12)


def test_more_groups_scatter_less():
    alone, together = log_likelihood(TwoNumbers(), X, Stream(1), 2), log_likelihoods(TwoNumbers(), X, Stream(1), (2, 50))[0]
    assert_allclose(alone.var() / together.var(), 25, rtol=0.1)  # 25 groups; its standard error is 2%, the kurtosis being near 10


@pytest.mark.parametrize("samples", [(), (0, 5)])
def test_no_samples_are_no_bound(samples):
    with pytest.raises(UsageError, match="need numbers of samples from 1 up"):
        log_likelihoods(TwoNumbers(), X, Stream(0), samples)
