"""Densities: they integrate to one, agree with scipy.stats, stay finite where a naive formula does not, and refuse what does not fit."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, special, stats

from minivae import ShapeError, Tensor, ops
from minivae.distributions import Bernoulli, Categorical, ContinuousBernoulli, Gaussian, Laplace, StandardGaussian, kl

EPS32 = float(np.finfo(np.float32).eps)
LOGITS = [0.0, 1e-6, -1e-6, 0.3, -0.3, 30.0, -30.0]
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order_of_tests():
    global rng
    rng = np.random.default_rng(0)


def density(distribution):
    """The density of a one-element event as a function of a Python number."""
    return lambda x: float(np.exp(distribution.log_prob(np.array([x])).data))


def integral(f, *knots):
    """Adaptive Gauss-Kronrod quadrature from knot to knot."""
    return math.fsum(integrate.quad(f, a, b, epsabs=0, epsrel=1e-12, limit=200)[0] for a, b in pairwise(knots))


@given(st.floats(-50, 50), st.floats(-20, 10))
def test_gaussian_density_integrates_to_one(mean, logvar):
    sigma = math.exp(logvar / 2)
    knots = [mean + sigma * k for k in (-10, -3, 0, 3, 10)]  # the tails beyond 10 sigma hold 1.5e-23
    # x is known to a rounding of |mean|, which is a part |mean| eps / sigma of the width
    assert_allclose(integral(density(Gaussian(np.array([mean]), np.array([logvar]))), *knots), 1, atol=1e-11 + 2e-16 * abs(mean) / sigma)


@given(st.floats(-50, 50), st.floats(-10, 5))
def test_laplace_density_integrates_to_one(mean, log_scale):
    b = math.exp(log_scale)
    knots = [mean + b * k for k in (-45, -10, -3, 0, 3, 10, 45)]  # beyond: e^-45 = 3e-20
    assert_allclose(integral(density(Laplace(np.array([mean]), np.array([log_scale]))), *knots), 1, atol=1e-11 + 2e-16 * abs(mean) / b)


@pytest.mark.parametrize("logit", [*LOGITS, 80.0, -700.0])
def test_continuous_bernoulli_density_integrates_to_one(logit):
    width = min(1, 1 / abs(logit)) if logit else 1
    knots = sorted({0, 1, *(k * width if logit < 0 else 1 - k * width for k in (5, 20) if k * width < 1)})
    assert_allclose(integral(density(ContinuousBernoulli(np.array([logit]))), *knots), 1, rtol=1e-11)


@given(st.floats(-1e4, 1e4))
@example(0.0)
@example(1e4)
def test_bernoulli_sums_to_one_with_its_mean(logit):
    """log p is rounded to |log p| units, and p |log p| is at most 1/e: p is known to that part of 1 whatever the logit."""
    q = Bernoulli(np.array([logit]))
    p = density(q)
    assert_allclose(p(0.0) + p(1.0), 1, rtol=1e-14)
    assert_allclose(q.mean.data, p(1.0), rtol=1e-12 + 4e-16 * abs(logit))


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5))
@example([0.0] * 5)
@example([1e4, -1e4, 1e4])
def test_categorical_sums_to_one_with_its_probabilities(logits):
    q = Categorical(np.array([logits]))
    log_p = np.array([q.log_prob(np.array([k])).item() for k in range(len(logits))])
    assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-14)
    assert_allclose(q.probabilities.data[0], np.exp(log_p), rtol=1e-12 + 4e-16 * max(map(abs, logits)))


def bernoulli_judge(x, logits):
    """scipy.special.log_expit keeps every digit where bernoulli.logpmf(x, expit(l)) has rounded p to 1."""
    return x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits)


def continuous_bernoulli_judge(x, logits):
    """x l - log of the integral of e^(l t): the truncated exponential distribution of scipy, mirrored for l > 0, uniform at l = 0."""
    rate = np.where(logits == 0, 1e-30, abs(logits))
    mirrored = np.where(logits > 0, 1 - x, x)
    return np.where(logits == 0, 0, stats.truncexpon.logpdf(mirrored * rate, rate) + np.log(rate))


CASES = {  # name -> (distribution, scipy's log density, the sizes of the terms that are added up, parameters, x)
    "gaussian": (
        Gaussian,
        lambda x, mean, logvar: stats.norm.logpdf(x, mean, np.exp(logvar / 2)),
        lambda x, mean, logvar: 2 * ((x - mean) / np.exp(logvar / 2)) ** 2 * (3 + abs(logvar)) + abs(logvar) + 2,
        lambda shape: (rng.normal(size=shape) * 3, rng.uniform(-8, 4, shape)),
        lambda shape: rng.normal(size=shape) * 3,
    ),
    "laplace": (
        Laplace,
        lambda x, mean, log_scale: stats.laplace.logpdf(x, mean, np.exp(log_scale)),
        lambda x, mean, log_scale: abs(x - mean) / np.exp(log_scale) * (3 + abs(log_scale)) + abs(log_scale) + 1,
        lambda shape: (rng.normal(size=shape) * 3, rng.uniform(-4, 2, shape)),
        lambda shape: rng.normal(size=shape) * 3,
    ),
    "bernoulli": (
        Bernoulli,
        bernoulli_judge,
        lambda x, logits: 2 * abs(logits) + 2,
        lambda shape: (rng.normal(size=shape) * 10,),
        lambda shape: rng.integers(0, 2, shape).astype(float),
    ),
    "bernoulli, gray": (
        Bernoulli,
        bernoulli_judge,
        lambda x, logits: 2 * abs(logits) + 2,
        lambda shape: (rng.normal(size=shape) * 10,),
        lambda shape: rng.uniform(size=shape),
    ),
    "continuous bernoulli": (
        ContinuousBernoulli,
        continuous_bernoulli_judge,
        lambda x, logits: 4 * abs(logits) + 4,
        lambda shape: (rng.normal(size=shape) * 10,),
        lambda shape: rng.uniform(size=shape),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("event_ndim", [0, 1, 3])
@pytest.mark.parametrize("samples", [(), (3,), (2, 3)])
def test_log_prob_agrees_with_scipy(name, event_ndim, samples):
    make, judge, size, parameters, draw = CASES[name]
    event = (3, 2, 4)[:event_ndim]
    batch = (4, *event)
    values, x = parameters(batch), draw((*samples, *batch))
    axes = tuple(range(x.ndim - event_ndim, x.ndim))
    result = make(*values, event_ndim=event_ndim).log_prob(x).data
    assert result.shape == (*samples, 4)
    terms, sizes = judge(x, *values), np.broadcast_to(size(x, *values), x.shape)
    assert_allclose(result, terms.sum(axis=axes), rtol=1e-12, atol=1e-15 * np.max(sizes.sum(axis=axes)))
    # float32: inputs rounded to float32 for both, then a few roundings of every term and one for each addition
    narrow = [v.astype(np.float32) for v in values]
    x32 = x.astype(np.float32)
    wide = make(*(v.astype(float) for v in narrow), event_ndim=event_ndim).log_prob(x32.astype(float)).data
    result = make(*narrow, event_ndim=event_ndim).log_prob(x32).data
    assert result.dtype == np.float32
    assert np.all(abs(result - wide) <= EPS32 * (4 + math.log2(math.prod(event))) * sizes.sum(axis=axes))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize(
    ("first", "second", "x"),
    [((3,), (4, 3), (4, 3)), ((4, 3), (3,), (2, 4, 3)), ((4, 1), (1, 3), (4, 3)), ((), (3,), (4, 3)), ((3,), (), (4, 3))],
)
def test_parameters_broadcast(name, first, second, x):
    make, judge, _, parameters, draw = CASES[name]
    a, b = parameters(first)[0], parameters(second)[1]
    x = draw(x)
    assert_allclose(make(a, b).log_prob(x).data, judge(x, a, b).sum(axis=-1), rtol=1e-12)


@pytest.mark.parametrize("make", [Gaussian, Laplace])
def test_numbers_are_parameters_that_do_not_change_the_dtype(make):
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(4, 3)).astype(dtype)
        for numbers, arrays in (((x, 0.3), (x, np.full_like(x, 0.3))), ((0.3, x), (np.full_like(x, 0.3), x))):
            log_prob = make(*numbers).log_prob(x)
            assert log_prob.dtype == dtype
            # another shape may take another kernel, which rounds otherwise: a handful of operations on each of three terms
            assert_allclose(log_prob.data, make(*arrays).log_prob(x).data, rtol=16 * np.finfo(dtype).eps)


def test_bernoulli_of_a_certain_pixel_keeps_its_digits():
    logits = np.array([5.0, 20.0, 40.0, 300.0])
    assert_allclose(Bernoulli(logits, 0).log_prob(np.ones(4)).data, -np.log1p(np.exp(-logits)), rtol=1e-15)
    assert_allclose(Bernoulli(-logits, 0).log_prob(np.zeros(4)).data, -np.log1p(np.exp(-logits)), rtol=1e-15)


def test_categorical_agrees_with_an_explicit_softmax():
    logits = rng.normal(size=(2, 5, 4)) * 4
    labels = rng.integers(0, 4, (2, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = stats.multinomial(1, p).logpmf(np.eye(4)[labels])
    assert_allclose(Categorical(logits).log_prob(labels).data, expected, rtol=1e-12, atol=1e-15)
    assert_allclose(Categorical(logits).log_prob(labels.tolist()).data, expected, rtol=1e-12, atol=1e-15)
    single = Categorical(logits.astype(np.float32)).log_prob(labels.astype(np.uint8))
    assert single.dtype == np.float32
    assert_allclose(single.data, expected, atol=4 * EPS32 * abs(logits).max())


def test_standard_gaussian():
    z = rng.normal(size=(2, 4, 3)) * 3
    assert_allclose(StandardGaussian().log_prob(z).data, stats.norm.logpdf(z).sum(axis=-1), rtol=1e-13)
    assert StandardGaussian().log_prob(z.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_are_exact(dtype):
    logits = np.array([1e4, -1e4, 1e4, -1e4], dtype)
    x = np.array([1, 0, 0, 1], dtype)
    assert_array_equal(Bernoulli(logits, 0).log_prob(x).data, [0, 0, -1e4, -1e4])
    assert_allclose(
        ContinuousBernoulli(logits, 0).log_prob(x).data, np.log(1e4) + np.array([0, 0, -1e4, -1e4]), rtol=2 * np.finfo(dtype).eps
    )
    assert_array_equal(Categorical(logits[:2]).log_prob(np.array(1)).data, -2e4)


@pytest.mark.parametrize("logvar", [-104.0, 104.0])
def test_extreme_variances(logvar):
    sigma = math.exp(logvar / 2)
    mean, deviation = np.array([1.0]), np.array([sigma])
    for dtype in (np.float32, np.float64):
        d = Gaussian((0 * mean).astype(dtype), np.array([logvar], dtype))
        expected = stats.norm.logpdf(deviation, 0, sigma)[0]
        assert_allclose(d.log_prob(deviation.astype(dtype)).data, expected, rtol=4 * (1 + abs(logvar)) * np.finfo(dtype).eps)
        value = kl(Gaussian(mean.astype(dtype), np.array([logvar], dtype)), StandardGaussian()).data
        with np.errstate(over="ignore"):  # e^104 is no float32
            assert_allclose(value, np.array((1 + math.expm1(logvar) - logvar) / 2).astype(dtype), rtol=4 * np.finfo(dtype).eps)
        ratio = kl(d, Gaussian(np.array([sigma], dtype), np.array([logvar], dtype))).data
        assert_allclose(ratio, 0.5, rtol=(8 + 2 * abs(logvar)) * np.finfo(dtype).eps)


def test_from_log_sigma_is_the_log_variance_head():
    mean, log_sigma, x = rng.normal(size=(3, 4, 2))
    head, other = Gaussian.from_log_sigma(Tensor(mean), Tensor(log_sigma), event_ndim=0), Gaussian(mean, 2 * log_sigma, 0)
    assert head.event_ndim == 0
    assert_array_equal(head.log_prob(x).data, other.log_prob(x).data)
    assert_allclose(head.sigma.data, np.exp(log_sigma), rtol=1e-15)


@pytest.mark.parametrize("logit", [*LOGITS, 1e-3, 0.49999, 0.5, 5.0, 700.0, -1e4])
def test_continuous_bernoulli_mean(logit):
    """E x by quadrature of x e^(l x) over e^(l x), scaled by the largest value."""
    top = max(logit, 0)
    knots = sorted({0, 1, *(abs(k / logit) if logit < 0 else 1 - abs(k / logit) for k in (5, 40) if abs(logit) > k)})
    weight = integral(lambda x: math.exp(logit * x - top), *knots)
    mean = integral(lambda x: x * math.exp(logit * x - top), *knots) / weight
    assert_allclose(ContinuousBernoulli(np.array([logit])).mean.data, mean, rtol=1e-11)
    assert_allclose(ContinuousBernoulli(np.array([logit], np.float32)).mean.data, mean, atol=2e-7)


z23, z3, z4 = np.zeros((2, 3)), np.zeros(3), np.zeros(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gaussian(z23, z23).log_prob(z4), r"Gaussian.log_prob: x is \(4,\), one event is \(3,\); need x of shape \(..., 3\)"),
        (lambda: Gaussian(np.zeros((5, 2, 3, 1)), z3[:1], 3).log_prob(z23), r"Gaussian.log_prob: x is \(2, 3\), one event is \(2, 3, 1\)"),
        (lambda: Laplace(z23, z23).log_prob(np.zeros(())), r"Laplace.log_prob: x is \(\), one event is \(3,\)"),
        (lambda: Bernoulli(z23).log_prob(z4), r"Bernoulli.log_prob: x is \(4,\), one event is \(3,\); need x of shape \(..., 3\)"),
        (lambda: ContinuousBernoulli(z23, 2).log_prob(z3), r"ContinuousBernoulli.log_prob: x is \(3,\), one event is \(2, 3\)"),
        (lambda: Bernoulli(z23).log_prob(np.zeros((5, 3))), r"Bernoulli.log_prob: x is \(5, 3\), the batch is \(2,\)"),
        (lambda: Gaussian(z3, z4), r"Gaussian: mean is \(3,\), logvar is \(4,\); need shapes that broadcast"),
        (lambda: Laplace(z3, z4), r"Laplace: mean is \(3,\), log_scale is \(4,\); need shapes that broadcast"),
        (lambda: Categorical(z23).log_prob(np.zeros(2)), r"Categorical.log_prob: x is float64 \(2,\); need integers of shape \(..., 2\)"),
        (
            lambda: Categorical(z23).log_prob(np.zeros(3, int)),
            r"Categorical.log_prob: x is int64 \(3,\); need integers of shape \(..., 2\)",
        ),
        (lambda: Categorical(z23).log_prob(np.array([0, 3])), r"Categorical.log_prob: x runs from 0 to 3; need 0 to 2"),
        (lambda: Categorical(z23).log_prob(np.array([-1, 1])), r"x runs from -1 to 1; need 0 to 2"),
        (lambda: kl(Gaussian(z3, z3), Laplace(z3, z3)), "kl: no closed form for Gaussian against Laplace; register one"),
        (lambda: kl(StandardGaussian(), Laplace(z3, z3)), "kl: no closed form for StandardGaussian against Laplace; register one"),
        (
            lambda: kl(Gaussian(z3, z3), Gaussian(z4, z4)),
            r"kl: q_mean is \(3,\), q_logvar is \(3,\), p_mean is \(4,\), p_logvar is \(4,\); need shapes that broadcast",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_tensors_and_arrays_give_the_same():
    x, mean, logvar = rng.normal(size=(3, 4, 2))
    assert_array_equal(Gaussian(Tensor(mean), Tensor(logvar)).log_prob(Tensor(x)).data, Gaussian(mean, logvar).log_prob(x).data)
    assert_array_equal(Laplace(Tensor(mean), logvar).log_prob(x).data, Laplace(mean, Tensor(logvar)).log_prob(x).data)
    assert_array_equal(Bernoulli(Tensor(mean)).mean.data, ops.sigmoid(mean).data)
