"""Gradients of every log_prob and of kl by complex step: Im f(x + i h u) / h = <df/dx, u> to rounding for h = 1e-20.

No difference is taken, so nothing cancels; but the judge reads the library's own forward pass, which other files judge.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minivae import Stream, Tensor, gradients
from minivae.distributions import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    StandardGaussian,
    kl,
)

rng = np.random.default_rng(20)
labels = rng.integers(0, 4, (3, 2))
pixels = np.array([[0, 1, 254], [255, 17, 128], [0, 255, 0], [3, 2, 1]]) / 255


def normal(*shape):
    return rng.normal(size=shape) * 2


def gray(*shape):
    return rng.uniform(size=shape)


# nearer to 0 the continuous Bernoulli's value keeps fewer digits of its slope than the vjp: there its mean, by quadrature, judges
logits_everywhere = np.array([[0.0, 1e-3, -1e-3], [0.3, -0.4999, 0.5], [-0.5001, 30.0, -30.0], [700.0, -1e4, 1e4]])

CASES = {  # name -> (function of Tensors, their values)
    "gaussian": (lambda x, m, l: Gaussian(m, l).log_prob(x), [normal(2, 4, 3), normal(4, 3), normal(4, 3)]),
    "gaussian, image": (lambda x, m, l: Gaussian(m, l, 3).log_prob(x), [normal(2, 4, 3, 2), normal(4, 3, 2), normal(2, 4, 3, 2)]),
    "gaussian, element": (lambda x, m, l: Gaussian(m, l, 0).log_prob(x), [normal(4, 3), normal(3), normal(4, 1)]),
    "gaussian, event stretched": (lambda x, m, l: Gaussian(m, l).log_prob(x), [normal(4, 3), normal(4, 1), normal(1, 3)]),
    "gaussian, log sigma": (lambda x, m, l: Gaussian.from_log_sigma(m, l).log_prob(x), [normal(4, 3), normal(4, 3), normal(4, 3)]),
    "standard gaussian": (lambda z: StandardGaussian().log_prob(z), [normal(2, 4, 3)]),
    "laplace": (lambda x, m, l: Laplace(m, l).log_prob(x), [normal(2, 4, 3), normal(4, 3), normal(4, 3)]),
    "laplace, event stretched": (lambda x, m, l: Laplace(m, l).log_prob(x), [normal(4, 3), normal(4, 1), normal(3)]),
    "bernoulli": (lambda l, x: Bernoulli(l).log_prob(x), [normal(4, 3) * 5, gray(4, 3)]),
    "bernoulli, samples of x": (lambda l, x: Bernoulli(l).log_prob(x), [normal(4, 3), gray(2, 4, 3)]),
    "bernoulli, samples of logits": (lambda l, x: Bernoulli(l).log_prob(x), [normal(2, 4, 3), gray(4, 3)]),
    "bernoulli, number": (lambda l: Bernoulli(l, 0).log_prob(1.0), [normal(4)]),
    "bernoulli, extreme": (lambda l, x: Bernoulli(l).log_prob(x), [logits_everywhere, gray(4, 3)]),
    "continuous bernoulli": (lambda l, x: ContinuousBernoulli(l).log_prob(x), [normal(4, 3) * 5, gray(2, 4, 3)]),
    "continuous bernoulli, extreme": (lambda l, x: ContinuousBernoulli(l).log_prob(x), [logits_everywhere, gray(4, 3)]),
    "beta-binomial": (lambda a, b: BetaBinomial(a, b).log_prob(pixels), [normal(4, 3), normal(4, 3)]),
    "beta-binomial, mean": (lambda a, b: BetaBinomial(a, b).mean, [normal(4, 3), normal(4, 3)]),
    "beta-binomial, entropy": (lambda a, b: BetaBinomial(a, b, levels=5).entropy(), [normal(4, 3), normal(4, 3)]),
    "discretized logistic": (lambda m, s: DiscretizedLogistic(m, s).log_prob(pixels), [gray(4, 3), normal(4, 3) - 3]),
    "discretized logistic, mean": (lambda m, s: DiscretizedLogistic(m, s, levels=7).mean, [gray(4, 3), normal(4, 3) - 3]),
    "discretized logistic, entropy": (lambda m, s: DiscretizedLogistic(m, s, levels=7).entropy(), [gray(4, 3), normal(4, 3)]),
    "categorical": (lambda l: Categorical(l).log_prob(labels), [normal(3, 2, 4) * 3]),
    "categorical, probabilities": (lambda l: Categorical(l).probabilities, [normal(3, 2, 4)]),
    "kl against N(0, I)": (lambda m, l: kl(Gaussian(m, l), StandardGaussian()), [normal(4, 3), normal(4, 3)]),
    "kl against N(0, I), near zero": (lambda m, l: kl(Gaussian(m, l), StandardGaussian()), [normal(4, 3) * 1e-5, normal(4, 3) * 1e-5]),
    "kl of two": (
        lambda m, l, mp, lp: kl(Gaussian(m, l), Gaussian(mp, lp)),
        [normal(4, 3), normal(4, 3), normal(4, 3), normal(4, 3)],
    ),
    "kl of two, broadcast": (
        lambda m, l, mp, lp: kl(Gaussian(m, l, 2), Gaussian(mp, lp, 2)),
        [normal(5, 4, 3), normal(4, 3), normal(4, 1), normal(1, 3)],
    ),
    "sigma": (lambda l: Gaussian(0.0, l).sigma, [normal(4, 3)]),
    "bernoulli mean": (lambda l: Bernoulli(l).mean, [normal(4, 3)]),
    "continuous bernoulli mean": (lambda l: ContinuousBernoulli(l).mean, [np.r_[normal(20), 0.3, 0.4999, -0.5001, 30.0, -80.0]]),
    "gaussian entropy": (lambda m, l: Gaussian(m, l).entropy(), [normal(4, 3), normal(3)]),
    "laplace entropy": (lambda m, l: Laplace(m, l).entropy(), [normal(3), normal(4, 3)]),
    "bernoulli entropy": (lambda l: Bernoulli(l).entropy(), [np.array([[0.3, -2.0, 5.0], [20.0, -20.0, 1.0]])]),
    "continuous bernoulli entropy": (lambda l: ContinuousBernoulli(l).entropy(), [np.array([[0.3, -2.0, 5.0], [20.0, -80.0, 1.0]])]),
    "categorical entropy": (lambda l: Categorical(l).entropy(), [normal(3, 2, 4)]),
    "kl of laplaces": (
        lambda m, s, n, t: kl(Laplace(m, s), Laplace(n, t)),
        [normal(4, 3), normal(4, 3), normal(4, 3), normal(4, 3)],
    ),
    "kl of a laplace against a gaussian": (
        lambda m, s, n, t: kl(Laplace(m, s), Gaussian(n, t)),
        [normal(4, 3), normal(4, 3), normal(4, 3), normal(3)],
    ),
    "kl of a laplace against N(0, I)": (lambda m, s: kl(Laplace(m, s), StandardGaussian(3)), [normal(4, 3), normal(4, 3)]),
    "kl of N(0, I) against a gaussian": (lambda m, l: kl(StandardGaussian(3), Gaussian(m, l)), [normal(4, 3), normal(3)]),
    "kl of bernoullis": (lambda l, m: kl(Bernoulli(l), Bernoulli(m)), [normal(4, 3), normal(4, 3)]),
    "kl of bernoullis, extreme": (
        lambda l, m: kl(Bernoulli(l, 0), Bernoulli(m, 0)),
        [np.array([20.0, -20.0, 1.0, 300.0, 30.0]), np.array([-3.0, -22.0, 1.5, 10.0, -30.0])],
    ),
    "kl of categoricals": (lambda l, m: kl(Categorical(l), Categorical(m)), [normal(3, 2, 4), normal(3, 2, 4)]),
    "gaussian sample": (lambda m, l: Gaussian(m, l).sample(Stream(1)), [normal(4, 3), normal(3)]),
    "laplace sample": (lambda m, l: Laplace(m, l).sample(Stream(2)), [normal(3), normal(4, 3)]),
    "continuous bernoulli sample": (lambda l: ContinuousBernoulli(l).sample(Stream(3)), [np.r_[normal(20), 0.0, 80.0, -80.0, 0.019]]),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_by_complex_step(name):
    f, values = CASES[name]
    h = 1e-20
    tensors = [Tensor(v) for v in values]
    y = f(*tensors)
    u = np.random.default_rng(21).normal(size=y.shape)
    for i, (v, g) in enumerate(zip(values, gradients(y, tensors, u), strict=True)):
        assert g.shape == v.shape
        expected = np.zeros_like(v)
        for index in np.ndindex(v.shape):
            moved = v.astype(complex)
            moved[index] += 1j * h
            expected[index] = (u * f(*values[:i], moved, *values[i + 1 :]).data.imag).sum() / h
        # an element of g sums terms of the size of u times the slope: where they cancel, digits of the largest remain
        assert_allclose(g, expected, rtol=1e-10, atol=1e-15 * abs(g).max())


def test_samples_that_are_constants_have_no_gradient():
    logits = Tensor(normal(4, 3))
    assert Bernoulli(logits).sample(Stream(4)).number == 0
    assert Categorical(logits).sample(Stream(5)).number == 0
