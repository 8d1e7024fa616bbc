"""Entropies, means, modes and KL divergences in closed form, against integrals and enumerations in thirty digits."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae import ShapeError, Stream, Tensor, UsageError
from minivae.distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Delta,
    Flat,
    Gaussian,
    Laplace,
    StandardGaussian,
    kl,
    kl_terms,
)
from minivae.quadrature import expectation, kl_by_integration

EPS32 = float(np.finfo(np.float32).eps)
mp = mpmath.mpf
LOGITS = [0.0, 1e-7, -1e-3, 0.3, 0.4999, -0.5001, 3.0, -30.0, 80.0, -700.0, 1e4]
numbers = st.floats(-3, 3)


def one(kind, *parameters, dtype=np.float64):
    return kind(*(np.array([p], dtype) for p in parameters))


def entropy_of_outcomes(logits):
    """-sum p log p, for p = softmax of the logits, to thirty digits of each term."""
    total = mpmath.fsum(mpmath.exp(l) for l in logits)
    return mpmath.fsum(mpmath.exp(l) / total * (mpmath.log(total) - l) for l in logits)


def kl_of_outcomes(q, p):
    totals = [mpmath.fsum(mpmath.exp(l) for l in logits) for logits in (q, p)]
    return mpmath.fsum(
        mpmath.exp(a) / totals[0] * (a - mpmath.log(totals[0]) - b + mpmath.log(totals[1])) for a, b in zip(q, p, strict=True)
    )


def exactly(f, *arguments):
    """f of the numbers as they are stored, in arithmetic that the largest logits leave thirty digits of."""
    with mpmath.workdps(9000):
        return float(f(*([mp(float(x)) for x in a] if np.ndim(a) else mp(float(a)) for a in arguments)))


# --- entropies ---


@given(numbers, st.floats(-8, 8))
def test_entropies_are_integrals(place, log_scale):
    for q in (one(Gaussian, place, log_scale), one(Laplace, place, log_scale)):
        found = expectation(q, lambda x, q=q: -q.terms().log_prob(x).data, points=[place]).sum()
        assert_allclose(q.entropy().data, found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("logit", [l for l in LOGITS if abs(l) < 100])
def test_the_entropy_and_the_mean_of_a_continuous_bernoulli_are_integrals(logit):
    """Density e^(l x) l / (e^l - 1): log Z - l E[x], all of it by mpmath's quadrature."""
    with mpmath.workdps(60):
        l = mp(logit)
        inside = [0, *sorted({mp(1) / 100, mp(1) / 4, mp(3) / 4, mp(99) / 100}), 1]
        z = mpmath.quad(lambda x: mpmath.exp(l * x), inside)
        mean = mpmath.quad(lambda x: x * mpmath.exp(l * x), inside) / z
        entropy = float(mpmath.log(z) - l * mean)
    q = one(ContinuousBernoulli, logit)
    assert_allclose(q.entropy().data, entropy, rtol=1e-13, atol=1e-16)
    assert_allclose(q.mean.data, float(mean), rtol=1e-13)
    single = one(ContinuousBernoulli, logit, dtype=np.float32)
    assert_allclose(single.entropy().data, entropy, rtol=8 * EPS32, atol=2 * EPS32)


@pytest.mark.parametrize("logit", [-700.0, 1e4])
def test_a_steep_continuous_bernoulli_is_an_exponential(logit):
    """Of rate |l|, cut off at 1 where e^-l is left of it: entropy 1 - log |l|, mean 1 / |l| from its end."""
    q = one(ContinuousBernoulli, logit)
    assert_allclose(q.entropy().data, 1 - math.log(abs(logit)), rtol=1e-14)
    assert_allclose(q.mean.data, (logit > 0) - 1 / logit, rtol=1e-13)


@pytest.mark.parametrize("logit", LOGITS)
def test_bernoulli_entropy(logit):
    exact = exactly(lambda l: entropy_of_outcomes([mp(0), l]), logit)
    assert_allclose(one(Bernoulli, logit).entropy().data, exact, rtol=1e-15 * 8, atol=1e-300)
    assert_allclose(one(Bernoulli, logit, dtype=np.float32).entropy().data, exact, rtol=8 * EPS32, atol=1e-37)


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=5))
def test_categorical_entropy(logits):
    with mpmath.workdps(60):
        exact = float(entropy_of_outcomes([mp(l) for l in logits]))
    assert_allclose(Categorical(np.array([logits])).entropy().data, [exact], rtol=1e-13, atol=1e-15)


def test_entropies_of_events_are_sums():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 2, 3))
    for kind, parameters in (
        (Gaussian, (a, b)),
        (Laplace, (a, b[0])),
        (Gaussian, (a, 0.5)),
        (Bernoulli, (a,)),
        (ContinuousBernoulli, (a,)),
    ):
        whole, parts = kind(*parameters, event_ndim=2).entropy(), kind(*parameters, event_ndim=0).entropy()
        assert whole.shape == (5,)
        assert_allclose(whole.data, parts.data.sum(axis=(1, 2)), rtol=1e-13)
    zeros = np.zeros((2, 3))
    assert_allclose(StandardGaussian(2, 3).entropy().data, Gaussian(zeros, zeros, 2).entropy().data, rtol=1e-14)
    with pytest.raises(UsageError, match="Delta has no entropy"):
        Delta(a).entropy()


# --- modes and means ---


@pytest.mark.parametrize(
    "q",
    [one(Gaussian, 0.4, 1.0), one(Laplace, -0.3, 0.5), one(ContinuousBernoulli, 2.0), one(ContinuousBernoulli, -1.0), one(Bernoulli, 0.7)],
)
def test_no_place_is_likelier_than_the_mode(q):
    mode = q.mode.data if hasattr(q.mode, "data") and hasattr(q.mode, "op") else q.mode
    places = (
        [0.0, 1.0] if isinstance(q, Bernoulli) else np.linspace(0, 1, 51) if isinstance(q, ContinuousBernoulli) else np.linspace(-3, 3, 61)
    )
    best = q.log_prob(np.asarray(mode, float)).item()
    assert all(q.log_prob(np.array([x])).item() <= best + 1e-12 for x in places)


def test_the_likeliest_class():
    logits = np.random.default_rng(0).normal(size=(4, 5))
    q = Categorical(logits)
    log_p = np.stack([q.log_prob(np.full(4, k)).data for k in range(5)])
    assert_array_equal(q.mode.data, log_p.argmax(axis=0))
    with pytest.raises(UsageError, match="no mean: classes are names"):
        _ = q.mean


# --- divergences ---


@given(numbers, st.floats(-4, 4), numbers, st.floats(-4, 4))
def test_divergences_are_integrals(place, scale, other, other_scale):
    for q, p in (
        (one(Laplace, place, scale), one(Laplace, other, other_scale)),
        (one(Laplace, place, scale), one(Gaussian, other, other_scale)),
        (one(Laplace, place, scale), StandardGaussian(1)),
        (StandardGaussian(1), one(Gaussian, other, other_scale)),
    ):
        wide = one(Gaussian, 0.0, 0.0) if type(q) is StandardGaussian else q  # the integrator asks for a width
        expected = kl_by_integration(wide, p)
        assert_allclose(kl(q, p).data, expected, rtol=1e-8, atol=1e-9)


def laplace_kl(m, s, n, t):
    """E_q[log q - log p] of Laplace(m, e^s) against Laplace(n, e^t), whose terms are elementary integrals; in many digits."""
    b, c, d = mpmath.exp(s), mpmath.exp(t), abs(m - n)
    expected_distance = d + b * mpmath.exp(-d / b)  # E|x - n|
    return expected_distance / c + mpmath.log(2 * c) - mpmath.log(2 * b) - 1


@pytest.mark.parametrize(
    ("q", "p"),
    [
        ((0.0, 0.0), (0.0, 0.0)),
        ((1e-4, 0.0), (0.0, 1e-4)),
        ((0.0, 1e-3), (0.0, 0.0)),
        ((3.0, -60.0), (0.0, 0.0)),
        ((3.0, 0.0), (0.0, -40.0)),
        ((0.0, 40.0), (5.0, 0.0)),
        ((0.0, -80.0), (0.0, 80.0)),
    ],
)
def test_laplace_against_laplace_keeps_its_digits(q, p):
    for dtype, digits in ((np.float64, 1e-14), (np.float32, EPS32)):
        stored = [dtype(x) for x in (*q, *p)]
        exact = exactly(laplace_kl, *stored)
        # e^t of an exponent that is rounded is off by |t| units
        found = kl(one(Laplace, *q, dtype=dtype), one(Laplace, *p, dtype=dtype)).data
        assert_allclose(found, exact, rtol=(8 + 2 * max(abs(q[1]), abs(p[1]))) * digits, atol=0)


@pytest.mark.parametrize("l", LOGITS)
@pytest.mark.parametrize("m", [0.0, 1e-3, 29.0, -31.0, 90.0, -1e4, "near"])
def test_bernoulli_against_bernoulli_at_any_logits(l, m):
    """The error is some units of the result and of d^2, d the difference of the log-probabilities: none of |l|."""
    m = l + 1e-3 * (1 + abs(l) / 100) if m == "near" else m
    for dtype, eps in ((np.float64, 2.3e-16), (np.float32, EPS32)):
        a, b = dtype(l), dtype(m)
        exact = exactly(lambda l, m: kl_of_outcomes([mp(0), l], [mp(0), m]), a, b)
        found = kl(one(Bernoulli, l, dtype=dtype), one(Bernoulli, m, dtype=dtype))
        assert found.dtype == dtype
        assert found.item() >= 0
        # log-probabilities are rounded by a unit: d is off by that, and the divergence, about q d^2 / 2, by q d of it
        width = min(abs(float(b) - float(a)), 1) / (1 + math.exp(min(abs(float(a)), 700)))
        assert_allclose(found.data, exact, rtol=16 * eps, atol=8 * eps * (width + np.finfo(dtype).tiny) * max(1, min(abs(l), 20)))


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=5))
def test_categorical_against_categorical(logits):
    q, p = (list(column) for column in zip(*logits, strict=True))
    with mpmath.workdps(60):
        exact = float(kl_of_outcomes([mp(l) for l in q], [mp(l) for l in p]))
    found = kl(Categorical(np.array([q])), Categorical(np.array([p]))).data
    assert found.shape == (1,)
    assert found[0] >= 0
    assert_allclose(found, [exact], rtol=1e-12, atol=1e-14)


def test_categorical_that_is_sure_of_another_class():
    sure, other = np.array([1e4, 0.0, -1e4]), np.array([-1e4, 0.0, 1e4])
    for dtype in (np.float64, np.float32):
        assert_allclose(kl(Categorical(sure.astype(dtype)), Categorical(other.astype(dtype))).data, 2e4, rtol=1e-6)
    near = np.array([[0.1, 0.2, 0.3]], np.float32)
    moved = near + np.array([[1e-3, 0, -1e-3]], np.float32)
    with mpmath.workdps(40):
        exact = float(kl_of_outcomes(*([mp(float(l)) for l in logits[0]] for logits in (near, moved))))
    assert_allclose(kl(Categorical(near), Categorical(moved)).data, [exact], rtol=1e-3)  # d is 1e-3, to a unit of 1


def pairs():
    rng = np.random.default_rng(3)
    a, b, c, d = rng.normal(size=(4, 5, 2, 3))
    yield Gaussian(a, b, 2), Gaussian(c, d, 2)
    yield Gaussian(a, b, 2), StandardGaussian(2, 3)
    yield Laplace(a, b, 2), Laplace(c, d, 2)
    yield Laplace(a, b, 2), Gaussian(c, d, 2)
    yield Laplace(a, b, 2), StandardGaussian(2, 3)
    yield Bernoulli(a, 2), Bernoulli(c, 2)
    yield Delta(a, 2), Flat(2, 3)
    yield StandardGaussian(2, 3), Gaussian(c, d, 2)


@pytest.mark.parametrize(("q", "p"), list(pairs()), ids=lambda d: type(d).__name__)
def test_terms_sum_to_the_divergence(q, p):
    """Each element is the divergence of that element alone."""
    terms, whole = kl_terms(q, p), kl(q, p)
    assert terms.shape == (5, 2, 3)
    assert whole.shape == (5,)
    assert_allclose(whole.data, terms.data.sum(axis=(1, 2)), rtol=1e-13)
    alone = kl_terms(q.terms(), p.terms())
    assert_array_equal(terms.data, alone.data)


def test_a_point_against_a_flat_prior_costs_nothing_and_pulls_nowhere():
    assert not kl(Delta(np.ones((4, 3))), Flat(3)).data.any()
    assert kl(StandardGaussian(3), StandardGaussian(3)).item() == 0
    assert kl(StandardGaussian(), StandardGaussian(3)).item() == 0


z23, z3, z13 = np.zeros((2, 3)), np.zeros(3), np.zeros((1, 3))


@pytest.mark.parametrize(
    ("q", "p", "message"),
    [
        (Gaussian(z23, z23), StandardGaussian(4), r"an event of Gaussian is \(3,\), of StandardGaussian \(4,\)"),
        (Laplace(z23, z23), StandardGaussian(4), r"an event of Laplace is \(3,\), of StandardGaussian \(4,\)"),
        (Gaussian(z23[:, :1], z23[:, :1]), Gaussian(z23, z23), r"an event of Gaussian is \(1,\), of Gaussian \(3,\)"),
        (Gaussian(z23, z23), Gaussian(z13, z13, event_ndim=2), r"an event of Gaussian is \(3,\), of Gaussian \(1, 3\)"),
        (Laplace(z23[:, :1], z23[:, :1]), Laplace(z23, z23), r"an event of Laplace is \(1,\), of Laplace \(3,\)"),
        (StandardGaussian(1), Gaussian(z23, z23), r"an event of StandardGaussian is \(1,\), of Gaussian \(3,\)"),
        (Bernoulli(z23), Bernoulli(z23[:, :1]), r"an event of Bernoulli is \(3,\), of Bernoulli \(1,\)"),
        (Categorical(z23), Categorical(z23[:, :1]), "q has 3 classes, p has 1"),
    ],
)
def test_events_of_unequal_length_have_no_divergence(q, p, message):
    """Stretched to one another, they would give a number, and a wrong one."""
    with pytest.raises(ShapeError, match=message):
        kl(q, p)


def test_a_point_is_drawn_where_it_lies():
    a = np.arange(6.0).reshape(2, 3) + 1
    for point in (a, Tensor(a)):
        assert_array_equal(Delta(point).sample(Stream(0)).data, a)
        assert_array_equal(Delta(point).sample(Stream(0), (4,)).data, np.broadcast_to(a, (4, 2, 3)))
