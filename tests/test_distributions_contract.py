"""What every distribution can do alike: shapes, one signature of draws, parts that sum; and what a stranger's needs to be trained with."""

import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from minivae import ShapeError, Stream, Tensor, UsageError, gradients, ops
from minivae.distributions import (
    Autoregressive,
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    Delta,
    DiscretizedLogistic,
    Distribution,
    Flat,
    Gaussian,
    Laplace,
    StandardGaussian,
    kl,
    kl_at,
    kl_monte_carlo,
    kl_terms,
    kl_terms_at,
    register_kl,
    register_kl_at,
    sample_and_kl,
)
from minivae.distributions.base import data_of
from minivae.replay import captured

rng = np.random.default_rng(7)
A, B = rng.normal(size=(2, 4, 2, 3))


def linked(lengths=(2, 1), upwards=True, shift=0.3):
    """Two layers, of which the second is a line in the first: log-densities that can be integrated on a grid."""
    n = lengths[0] if upwards else lengths[1]
    first = Gaussian(np.full((4, n), 0.2), np.full((4, n), -0.5))
    other = sum(lengths) - n

    def link(z):
        centre = ops.broadcast_to(ops.multiply(z, 0.7).sum(axis=-1).reshape(*z.shape[:-1], 1), (*z.shape[:-1], other)) + shift
        return Gaussian(centre, np.full(other, -1.0))

    return Autoregressive(first, link, lengths, upwards)


EVERY = {  # name -> (distribution, batch shape, event shape)
    "gaussian": (Gaussian(A, B), (4, 2), (3,)),
    "gaussian, image": (Gaussian(A, B, 2), (4,), (2, 3)),
    "gaussian, stretched": (Gaussian(A, 0.5, 3), (), (4, 2, 3)),
    "standard": (StandardGaussian(2, 3), (), (2, 3)),
    "bernoulli": (Bernoulli(A, 2), (4,), (2, 3)),
    "continuous bernoulli": (ContinuousBernoulli(A), (4, 2), (3,)),
    "categorical": (Categorical(A), (4, 2), ()),
    "laplace": (Laplace(A[0], B), (4, 2), (3,)),
    "beta-binomial": (BetaBinomial(A, B, 2), (4,), (2, 3)),
    "discretized logistic": (DiscretizedLogistic(0.5 + A[0] / 9, B / 9 - 2), (4, 2), (3,)),
    "delta": (Delta(A), (4, 2), (3,)),
    "two layers": (linked(), (4,), (3,)),
}
DENSE = [name for name in EVERY if name != "delta"]
every = pytest.mark.parametrize("name", EVERY)


@every
def test_shapes(name):
    q, batch, event = EVERY[name]
    assert (q.batch_shape, q.event_shape, q.shape, q.event_ndim) == (batch, event, batch + event, len(event))
    assert repr(q) == f"{type(q).__name__}(batch {batch}, event {event})"


@every
@pytest.mark.parametrize(("n", "lead"), [((), ()), (5, (5,)), (np.int64(5), (5,)), ((2, 3), (2, 3)), ([2, 3], (2, 3)), (0, (0,))])
def test_one_signature_of_draws(name, n, lead):
    q, batch, event = EVERY[name]
    x = q.sample(Stream(1), n)
    assert isinstance(x, Tensor)
    assert x.shape == (*lead, *batch, *event)
    if name in DENSE:
        assert q.log_prob(x).shape == (*lead, *batch)


@pytest.mark.parametrize("name", [name for name in DENSE if name != "two layers"])
def test_draws_differ_and_have_their_mean(name):
    """Every one of n draws of every element: its mean, within 5 standard errors of the sample."""
    q, batch, event = EVERY[name]
    x = np.asarray(q.sample(Stream(2), 4000).data, float)
    if name == "categorical":
        x = (x[..., None] == np.arange(3)).astype(float)
        expected = q.probabilities.data
    else:
        expected = np.broadcast_to(getattr(q.mean, "data", q.mean) if hasattr(q.mean, "op") else q.mean, batch + event)
    error = x.std(axis=0) / math.sqrt(len(x))
    assert (error > 0).all()
    assert (abs(x.mean(axis=0) - expected) < 5 * error).all()


@every
def test_a_number_of_draws_is_as_good_as_a_tuple(name):
    q = EVERY[name][0]
    assert_array_equal(q.sample(Stream(3), 5).data, q.sample(Stream(3), (5,)).data)


def test_what_holds_no_array_draws_like_one():
    for dtype in (np.float32, np.float64):
        like = np.zeros(1, dtype)
        assert StandardGaussian(3).sample(Stream(0), 2, like=like).dtype == dtype
        assert Gaussian(A.astype(dtype), B.astype(dtype)).sample(Stream(0), like=np.zeros(1, np.float64)).dtype == dtype
        two = Autoregressive(StandardGaussian(2), lambda z: Gaussian(z * 0.5, z * 0.0), (2, 2), False)
        assert two.sample(Stream(0), 3, like=like).dtype == dtype


@pytest.mark.parametrize("name", [name for name in DENSE if name != "two layers"])
def test_terms_are_the_parts_of_a_log_density(name):
    q, batch, event = EVERY[name]
    x = q.sample(Stream(4), 2)
    terms = q.terms().log_prob(x).data
    assert terms.shape == (2, *batch, *event)
    assert_allclose(terms.sum(axis=tuple(range(terms.ndim - len(event), terms.ndim))), q.log_prob(x).data, rtol=1e-12)


def test_a_class_that_is_drawn_many_times_over_a_batch():
    """log_prob of draws in front of the batch, as importance weights ask for it."""
    q = Categorical(A)
    x = q.sample(Stream(5), (3, 2))
    expected = np.take_along_axis(np.log(q.probabilities.data) + np.zeros((3, 2, 1, 1, 1)), x.data[..., None], axis=-1)[..., 0]
    assert_allclose(q.log_prob(x).data, expected, rtol=1e-12)


# --- estimates ---


class Triangle:
    """Density 1 - |z - centre| within 1 of it: no closed form here knows of it.  Just log_prob and sample, and no base class."""

    def __init__(self, centre):
        self.centre = centre

    def log_prob(self, z):
        return ops.log(1.0 - ops.absolute(ops.subtract(z, self.centre))).sum(axis=-1)

    def sample(self, rng):
        u = rng.uniform((2, *self.centre.shape), like=self.centre.data)
        return self.centre + (u[0] - u[1])


CENTRE = np.array([[0.0, 0.4], [1.0, -2.0], [0.3, 0.3]])
SLACK = (
    math.log(2 * math.pi) / 2 - 0.5 + 1 / 12
)  # KL of Triangle(c) against N(0, 1) is this and c^2 / 2: its entropy is 1/2, its variance 1/6


def test_a_strangers_distribution_is_trained_and_measured():
    centre = Tensor(CENTRE)
    q, p = Triangle(centre), StandardGaussian(2)
    exact = (SLACK + CENTRE**2 / 2).sum(axis=1)
    z, divergence = sample_and_kl(q, p, Stream(1))
    assert z.shape == (3, 2)
    assert_array_equal(divergence.data, kl_at(q, p, z).data)
    # d/dc of the estimate at z = c + eps is z: -log q does not move along
    assert_allclose(gradients(divergence.sum(), [centre])[0], z.data, rtol=1e-12)
    value, error = kl_monte_carlo(q, p, Stream(2), 2000)
    assert value.shape == error.shape == (3,)
    assert (abs(value - exact) < 5 * error).all()
    assert (error < 0.05).all()
    with pytest.raises(ShapeError, match=r"no closed form for Triangle against StandardGaussian.*kl_monte_carlo"):
        kl(q, p)
    with pytest.raises(UsageError, match="Triangle has no terms"):
        kl_terms_at(q, p, z)


def test_the_standard_error_is_one():
    """200 estimates of one divergence: their spread is what each states, and few are off by more than two of it."""
    q, p = Gaussian(np.zeros((200, 1)), np.zeros((200, 1))), Gaussian(np.ones((200, 1)), np.zeros((200, 1)))
    value, error = kl_monte_carlo(q, p, Stream(3), 400)
    assert_allclose(error, 1 / math.sqrt(400), rtol=0.25)  # log q - log p = 1/2 - z: variance 1
    assert_allclose(error.mean(), 1 / math.sqrt(400), rtol=0.02)
    assert stats.kstest((value - 0.5) / error, stats.norm.cdf).pvalue > 1e-4


def test_an_estimate_is_the_mean_of_its_draws():
    q, p, rng = Triangle(Tensor(CENTRE)), StandardGaussian(2), Stream(5)
    draws = [q.sample(rng) for _ in range(7)]
    ratios = np.array([q.log_prob(z).data - p.log_prob(z).data for z in draws], np.float64)
    value, error = kl_monte_carlo(q, p, Stream(5), 7)
    assert_allclose(value, ratios.mean(axis=0), rtol=1e-6)
    assert_allclose(error, ratios.std(axis=0, ddof=1) / math.sqrt(7), rtol=1e-5)


def test_an_error_that_is_far_smaller_than_its_value():
    """Squares of a million, summed in float64, would leave none of its digits."""
    q = Gaussian(np.array([[1e6]]), np.array([[-30.0]]))
    _, error = kl_monte_carlo(q, StandardGaussian(1), Stream(0), 300)
    # z^2 / 2 has the slope 1e6, z the deviation e^-15; log q is -eps^2 / 2 and a constant: variance 1/2
    assert_allclose(error, math.sqrt((1e6 * math.exp(-15.0)) ** 2 + 0.5) / math.sqrt(300), rtol=0.15)
    with pytest.raises(UsageError, match="samples is 1; need at least 2"):
        kl_monte_carlo(q, StandardGaussian(1), Stream(0), 1)


def test_estimates_by_number_are_the_ratio_of_their_own():
    """Gaussian against Laplace has no closed form here: log q(z_k) - log p(z_k), its mean the integral of scipy's densities."""
    q, p = Gaussian(A, B), Laplace(B, A)
    z = q.sample(Stream(6))
    expected = stats.norm.logpdf(z.data, A, np.exp(B / 2)) - stats.laplace.logpdf(z.data, B, np.exp(A))
    assert_allclose(kl_terms_at(q, p, z).data, expected, rtol=1e-10, atol=1e-12)
    assert_allclose(kl_at(q, p, z).data, expected.sum(axis=-1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_where_there_is_a_closed_form_the_sample_is_not_looked_at(name):
    q, p = EVERY[name][0], StandardGaussian(3)
    assert_array_equal(kl_at(q, p, None).data, kl(q, p).data)
    assert_array_equal(kl_terms_at(q, p, None).data, kl_terms(q, p).data)
    z, divergence = sample_and_kl(q, p, Stream(1))
    assert_allclose(z.data, q.sample(Stream(1)).data, rtol=1e-14)
    assert_allclose(divergence.data, kl(q, p).data, rtol=1e-14)


@pytest.mark.parametrize(("q_up", "p_up"), [(True, False), (False, True), (True, True), (False, False)])
def test_two_layers_in_either_direction(q_up, p_up):
    """The mean of kl_at over draws against the integral of q (log q - log p) on a grid."""
    q, p = linked((1, 1), q_up), linked((1, 1), p_up, shift=-0.4)
    axis = np.linspace(-9, 9, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    log_q, log_p = (d.log_prob(np.repeat(grid, 4, axis=1)).data[:, 0] for d in (q, p))
    exact = (np.exp(log_q) * (log_q - log_p)).sum() * (axis[1] - axis[0]) ** 2
    found = np.concatenate([kl_at(q, p, q.sample(Stream(seed))).data for seed in range(1000)])
    terms = kl_terms_at(q, p, z := q.sample(Stream(0)))
    assert terms.shape == (4, 2)
    assert_allclose(terms.data.sum(axis=1), kl_at(q, p, z).data, rtol=1e-12)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - exact) < 5 * error + 1e-9


def test_the_mean_of_two_layers():
    q = linked()
    z = np.concatenate([q.sample(Stream(seed), 200).data for seed in range(10)])
    assert (abs(z.mean(axis=0) - q.mean.data) < 5 * z.std(axis=0) / math.sqrt(len(z))).all()
    with pytest.raises(ShapeError, match=r"z is \(4, 5\), its parts have lengths \(2, 1\)"):
        q.log_prob(np.zeros((4, 5)))
    with pytest.raises(ShapeError, match=r"parts of q have lengths \(2, 1\), those of p \(1, 2\)"):
        kl_at(q, linked((1, 2), False), np.zeros((4, 3)))


# --- closed forms of a stranger ---


class Wider(Gaussian):
    """A subclass that changes the density: the Gaussian's closed form is not its own."""

    def log_prob(self, x):
        return super().log_prob(x) - 1.0


def test_a_subclass_does_not_inherit_a_closed_form():
    wide = Wider(A, B)
    with pytest.raises(ShapeError, match="no closed form for Wider against StandardGaussian"):
        kl(wide, StandardGaussian(3))
    z, divergence = sample_and_kl(wide, StandardGaussian(3), Stream(0))
    assert_allclose(divergence.data, (wide.log_prob(z) - StandardGaussian(3).log_prob(z)).data)


def test_closed_forms_and_estimates_can_be_registered():
    class Mine(Gaussian):
        pass

    class Yours(Gaussian):
        pass

    @register_kl(Mine, StandardGaussian)
    def closed(q, p, event_ndim):
        return ops.gaussian_kl_standard(q.mean, q.logvar, event_ndim)

    @register_kl_at(Yours, StandardGaussian)
    def estimated(q, p, z):
        return ops.multiply(z, 2.0)

    mine, yours, p = Mine(A, B), Yours(A, B), StandardGaussian(3)
    assert_array_equal(kl(mine, p).data, kl(Gaussian(A, B), p).data)
    assert_array_equal(kl_terms(mine, p).data, kl_terms(Gaussian(A, B), p).data)
    assert_array_equal(kl_at(yours, p, A).data, 2 * A.sum(axis=-1))
    assert_array_equal(kl_terms_at(yours, p, A).data, 2 * A)
    with pytest.raises(UsageError, match="the KL of Gaussian against Gaussian is registered already"):
        register_kl(Gaussian, Gaussian)(closed)


class Unsummed(Triangle):
    def log_prob(self, z):
        return ops.log(1.0 - ops.absolute(ops.subtract(z, self.centre)))


def test_a_log_density_that_is_not_summed_is_refused():
    """Of a square batch, (N, N) less (N,) would broadcast to numbers."""
    q = Unsummed(Tensor(CENTRE[:2]))
    for call in (lambda: sample_and_kl(q, StandardGaussian(2), Stream(0)), lambda: kl_monte_carlo(q, StandardGaussian(2), Stream(0), 5)):
        with pytest.raises(ShapeError, match=r"log q\(z\) of Unsummed is \(2, 2\), log p\(z\) of StandardGaussian \(2,\)"):
            call()


def test_what_nobody_has_written_is_a_sentence():
    class Bare(Distribution):
        pass

    bare = Bare()
    for name in ("log_prob", "sample", "entropy"):
        with pytest.raises(UsageError, match=f"Bare has no {name}"):
            getattr(bare, name)(*[None][: name != "entropy"])
    for name in ("mean", "mode"):
        with pytest.raises(UsageError, match=f"Bare has no {name}"):
            getattr(bare, name)
    with pytest.raises(UsageError, match="has no terms: its numbers may depend on each other"):
        linked().terms()
    with pytest.raises(UsageError, match="no prior to draw codes from"):
        Flat(3).sample(Stream(0))
    with pytest.raises(UsageError, match="does not know how long z is"):
        StandardGaussian().sample(Stream(0))
    with pytest.raises(ShapeError, match=r"one event is \(3,\)"):
        StandardGaussian(3).log_prob(np.zeros((2, 4)))


# --- recorded steps ---

DRAWN = {
    "laplace": (lambda l: Laplace(l, l), Laplace(np.zeros((4, 3), np.float32), 0.1)),
    "laplace, gaussian": (lambda l: Laplace(l, l), StandardGaussian(3)),
    "bernoulli": (lambda l: Bernoulli(l), Bernoulli(np.full((4, 3), 0.3, np.float32))),
    "continuous bernoulli": (lambda l: ContinuousBernoulli(l), ContinuousBernoulli(np.full((4, 3), 0.3, np.float32))),
    "categorical": (lambda l: Categorical(l), Categorical(np.full((4, 3), 0.3, np.float32))),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_recorded_step_draws_afresh_and_measures_what_it_drew(name):
    """Draws, masks and labels are computed anew by every replay: the losses are those of the step, to the bit."""
    make, p = DRAWN[name]

    def run(eager):
        weights, noise = Tensor(np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)), Stream(0)

        def step(x):
            q = make(weights * x)
            z, divergence = sample_and_kl(q, p, noise)
            q_terms = q.log_prob(z).sum()
            return divergence.sum() + q_terms + (0.0 if name == "categorical" else ops.square(z).sum())

        function = captured(step, [weights])
        xs = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32) * 2
        return [(loss.item(), g[0].copy()) for loss, g in ((function.eager if eager else function)(x) for x in xs)], function

    expected, _ = run(True)
    found, function = run(False)
    assert function.why_eager == ""
    assert len({loss for loss, _ in found}) == len(found)
    for (a, g), (b, h) in zip(expected, found, strict=True):
        assert a == b
        assert_array_equal(g, h)


def test_numbers_and_small_parameters_are_stretched_to_the_event():
    """The entropy of N(m, s^2) with one s for three numbers: three times that of one."""
    one = math.log(2 * math.pi * math.e) / 2 + 0.3 / 2
    assert_allclose(Gaussian(np.zeros(3), np.array([0.3])).entropy().data, 3 * one, rtol=1e-12)
    assert_allclose(Laplace(np.zeros(3), np.array([0.3])).entropy().data, 3 * (1 + math.log(2) + 0.3), rtol=1e-12)
    assert data_of(1.5) == 1.5
    assert data_of(1.5).dtype == np.float32


@pytest.mark.parametrize("l", [1e-9, 0.3, 0.499, 0.501, 0.9, 0.99, 5.0])
def test_the_mean_of_the_continuous_bernoulli_on_both_sides_of_its_series(l):
    with mpmath.workdps(40):
        mean = float(1 / (1 - mpmath.exp(-mpmath.mpf(l))) - 1 / mpmath.mpf(l))
    assert_allclose(ContinuousBernoulli(np.array([l])).mean.data, mean, rtol=2e-14)
    assert_allclose(ContinuousBernoulli(np.array([-l])).mean.data, 1 - mean, rtol=2e-14)
