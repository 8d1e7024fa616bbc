"""Concentration bounds: how far a mean of samples may be from its expectation, whatever happens, up to a stated chance.

A test that draws compares with such a bound.  ALARM is the chance that a right program fails one test, over all its comparisons, were the
seed drawn anew; the power stands beside each bound.
"""

import math

import numpy as np
import scipy.stats

from minivae import Stream
from minivae.quadrature import hermite_rule

ALARM = 1e-6


def chernoff(values, weight, n):
    """(t_low, t_high): a mean of n independent copies of X is off by more, on either side, with a chance of at most ALARM.

    X has the given values with the given weights, nodes of a quadrature.  For every s > 0,
    P(mean - E > t) <= exp(-n (s t - log E e^{s (X - E)})), so that t = min_s (log E e^{s (X - E)} + log(2 / ALARM) / n) / s.
    That is near 5.4 standard errors where n is large.
    Power: a bias of 2 t is found with a chance of 1 - ALARM at least.
    """
    centred = values - weight @ values
    steps = np.geomspace(1e-4, 10, 400) / math.sqrt(weight @ centred**2)

    def side(sign):
        with np.errstate(over="ignore"):
            cumulants = np.log(weight @ np.exp(sign * centred[:, None] * steps))
        return float(np.min((cumulants + math.log(2 / ALARM) / n) / steps))

    return side(-1), side(1)


def median_tolerance(repetitions, variance):
    """(blocks, t): the median of the means of so many blocks is off by more than t with a chance of at most ALARM over all components.

    For what has a variance and maybe no other moment.  A block's mean is above its expectation by 2 standard errors with a chance of at
    most 1 / (1 + 2^2) (Cantelli); the median is if half of the blocks are: a binomial tail, twice for two sides, once a component.
    Power: a bias of 2 t is found with a chance of 1 - ALARM at least.
    """
    blocks = 11
    while 2 * np.size(variance) * scipy.stats.binom.sf(blocks // 2, blocks, 0.2) > ALARM:
        blocks += 2
    return blocks, 2 * np.sqrt(np.asarray(variance) / (repetitions // blocks))


def misses(samples, expected, variance):
    """Which components' means the bound rejects, and t.     samples (R, P), the others (P,) -> (P,), (P,)"""
    blocks, t = median_tolerance(len(samples), variance)
    size = len(samples) // blocks
    means = samples[: blocks * size].reshape(blocks, size, -1).mean(axis=1)
    return np.abs(np.median(means, axis=0) - expected) > t + 1e-12, t


class Given(Stream):
    """A stream whose normal numbers are given: quadrature nodes, or noise that is known."""

    def __init__(self, noise):
        super().__init__(0)
        self.noise = noise

    def normal(self, shape, like=None):
        assert self.noise.shape == tuple(shape)
        return self.noise if like is None else self.noise.astype(like.dtype)


def exact_elbo(objective, model, x, nodes=60, **options):
    """E over eps of an objective's log-likelihood and its kl, for one image, by handing it the nodes as noise.     x (1, ...)"""
    points, weight = hermite_rule(model.latent, nodes)
    terms = objective(model, np.repeat(x, len(points), axis=0), Given(points), **options)
    return weight @ -(terms.reconstruction + terms.kl).data, -(terms.reconstruction + terms.kl).data, weight
