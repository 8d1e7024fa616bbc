"""Scores of strange images, where each is known: in closed form, by quadrature, by a search over all Bernoullis."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import minivae as mv
from minivae import Stream, UsageError, no_grad, ops
from minivae.applications import SCORES, anomaly_scores, bernoulli_floor, likelihood_regret, png_bits
from minivae.applications.anomaly import Bounds, bounds_of
from minivae.distributions import Gaussian, StandardGaussian, kl
from minivae.errors import ShapeError
from minivae.evaluate import best_gaussian
from minivae.nn import Dense, Module
from minivae.quadrature import log_marginal, posterior_kl

W, B, NOISE = np.array([[0.8, -1.1, 0.3]]), np.array([0.2, -0.5, 1.0]), 0.6
X = np.array([[0.5, -1.0, 1.1], [2.0, -3.0, 1.5], [4.0, 5.0, 0.0]])


class LinearGaussian(Module):
    """z ~ N(0, 1), x = W z + B + noise; an encoder that is off the posterior by `shift` of its sigmas and `wider` in log sigma^2."""

    latent, prior = 1, StandardGaussian(1)

    def __init__(self, shift, wider):
        self.layer = Dense(1, 1, Stream(0))  # weights, which say in what precision the model is
        self.to("cpu", np.float64)
        self.shift, self.wider = shift, wider

    @property
    def variance(self):
        return 1 / (1 + (W @ W.T).item() / NOISE**2)

    def decode(self, z):
        return Gaussian(ops.dense(z, W, B), np.full(3, 2 * math.log(NOISE)))

    def posterior(self, x):
        return Gaussian((x - B) @ W.T / NOISE**2 * self.variance, np.full((len(x), 1), math.log(self.variance)))

    def encode(self, x):
        exact = self.posterior(x)
        return Gaussian(exact.mean + self.shift * math.sqrt(self.variance), exact.logvar + self.wider)

    def gap(self):
        """KL(q || p(z | x)), the same for all x"""
        return 0.5 * (math.exp(self.wider) + self.shift**2 - 1 - self.wider)


LOG_P = scipy.stats.multivariate_normal(B, W.T @ W + NOISE**2 * np.eye(3)).logpdf(X)


def test_the_bounds_are_what_a_linear_model_has():
    """-ELBO = -log p(x) + KL(q || p(z | x)), and the weights average to p(x)."""
    model, k = LinearGaussian(0.7, 0.4), 40_000
    every = bounds_of(model, np.repeat(X, k // 10, axis=0), Stream(0), 10)
    weights = np.exp(-every.iwae - np.repeat(LOG_P, k // 10)).reshape(3, -1)  # each a mean of 10
    bounds = Bounds(*(np.mean(part.reshape(3, -1), axis=1) for part in every))._replace(iwae=-LOG_P - np.log(weights.mean(axis=1)))
    q = model.encode(X)
    assert_allclose(bounds.kl, kl(q, model.prior).data, rtol=1e-12)
    # one draw's log p(x | z) is quadratic in z with coefficients of a few units: its deviation is below 10, its mean's below 0.05
    assert_allclose(bounds.elbo, -LOG_P + model.gap(), atol=5 * 0.05)
    assert_allclose(bounds.reconstruction, bounds.elbo - bounds.kl)
    assert_allclose(bounds.iwae, -LOG_P, atol=5 * 1.2 / math.sqrt(k))
    assert (abs(bounds.elbo - bounds.iwae - model.gap()) < 0.25).all()


def test_with_the_posterior_for_q_every_draw_is_log_p():
    bounds = bounds_of(LinearGaussian(0, 0), X, Stream(0), 3)
    assert_allclose(bounds.iwae, -LOG_P, rtol=1e-12)


@pytest.mark.parametrize(("shift", "wider"), [(0.0, 0.0), (1.5, 0.0), (-0.5, 1.0), (0.3, -1.0)])
def test_the_regret_of_a_linear_model_is_the_divergence_of_its_encoder(shift, wider):
    """The best q is the posterior, so that the regret is KL(q || p(z | x)): what noise in the search leaves is of second order."""
    model = LinearGaussian(shift, wider)
    found = likelihood_regret(model, np.repeat(X, 100, axis=0), Stream(0), steps=200, samples=50).reshape(3, 100).mean(axis=1)
    # the draws of the two bounds share their noise, and log p(x | z) differs between them with a deviation of a few nats, over sqrt 5000
    assert_allclose(found, model.gap(), atol=0.15)


def trained(latent=2):
    images = mv.data.load("digits5k").train_images[:400]
    model = mv.VAE((28, 28, 1), Stream(1), latent=latent, hidden=(20,), activation="tanh")
    mv.fit(model, images, epochs=8, lr=3e-3, progress=False)
    return model, images


@pytest.fixture(scope="module")
def digits():
    return trained()


def test_the_regret_is_the_amortization_gap():
    """By quadrature, in float64: what the encoder's Gaussian lacks against the best one."""
    model, images = trained(latent=1)
    x = mv.data.to_float(images[:10])
    x = np.concatenate([x / 2, 1 - x])  # strangers: pale digits, and white ones on black paper, of which the encoder has no idea
    posterior = log_marginal(model, x, tolerance=1e-6)
    with no_grad():
        q = model.encode(x)
    best = best_gaussian(model, x, posterior, q)
    gap = posterior_kl(model, x, 1e-6, q, posterior)[0] - posterior_kl(model, x, 1e-6, best, posterior)[0]
    found = likelihood_regret(model, x, Stream(0), steps=400, samples=500)
    assert gap[:10].max() > 0.5  # there was something to find
    assert gap[10:].min() > 100
    # the difference of two ELBOs with the same noise has a deviation of sqrt(2 gap) nats about, over sqrt 500
    assert_allclose(found, gap, rtol=0, atol=5 * np.sqrt(2 * gap.max() / 500))
    assert_allclose(found[:10], gap[:10], rtol=0, atol=5 * np.sqrt(2 * gap[:10].max() / 500))


def test_the_floor_is_the_best_bernoulli():
    values = np.array([0, 1, 0.5, 0.25, 3 / 255, 254 / 255])
    for value in values:

        def cost(p, value=value):
            return -(value * math.log(p) + (1 - value) * math.log(1 - p))

        best = minimize_scalar(cost, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-12}).fun
        assert_allclose(bernoulli_floor(np.array([[value]])), best, rtol=1e-6, atol=1e-7)
    assert_allclose(bernoulli_floor(values[None]), sum(bernoulli_floor(values[:, None])), rtol=1e-12)
    assert bernoulli_floor(np.array([[[0.0], [1.0]]])) == 0
    with pytest.raises(ShapeError, match=r"lies in \[-1, 2\]"):
        bernoulli_floor(np.array([[-1.0, 2.0]]))


def test_the_bound_is_never_below_the_floor(digits):
    model, images = digits
    found = anomaly_scores(model, images[:50], Stream(0), ["less_floor", "elbo"], samples=2)
    assert (found["less_floor"] > 0).all()
    assert_allclose(found["elbo"] - found["less_floor"], bernoulli_floor(mv.data.to_float(images[:50])), rtol=1e-9)


def test_a_file_is_as_long_as_its_picture_is_complicated():
    rng = np.random.default_rng(0)
    frame = 57  # bytes: the signature, and the chunks IHDR, IDAT and IEND around the data
    noise, flat = rng.integers(0, 256, (3, 40, 40, 3), np.uint8), np.full((3, 40, 40, 3), 9, np.uint8)
    assert (png_bits(noise) >= 8 * (frame + noise[0].size)).all()  # noise cannot be packed
    assert (png_bits(flat) < 8 * (frame + 60)).all()
    gray = noise[..., :1]
    assert (png_bits(gray) < png_bits(noise) / 2).all()
    assert_allclose(png_bits(gray / np.float32(255)), png_bits(gray))
    with pytest.raises(ShapeError, match=r"\(3, 40, 40, 2\)"):
        png_bits(noise[..., :2])
    with pytest.raises(ShapeError, match="int64"):
        png_bits(noise.astype(int))


def test_every_score_comes_as_it_is_defined(digits):
    model, images = digits
    few, others = images[:30], images[30:180]
    found = anomaly_scores(model, few, Stream(3), list(SCORES), 4, training=others)
    assert list(found) == list(SCORES)
    assert all(values.shape == (30,) and np.isfinite(values).all() for values in found.values())
    x = mv.data.to_float(few)
    bounds = bounds_of(model, x, Stream(3), 4)
    assert_allclose(found["elbo"], bounds.reconstruction + bounds.kl)
    assert_allclose(found["kl"], kl(model.encode(x), model.prior).data, rtol=1e-5)
    less = found["elbo"] - found["iwae"]  # Jensen; the closed KL differs from that of the four draws by noise of its own
    assert less.mean() > -3 * less.std() / math.sqrt(30)
    assert_allclose(found["less_png"], found["elbo"] - math.log(2) * png_bits(few))
    typical = anomaly_scores(model, others, Stream(3).split("training images"), ["elbo"], 4)["elbo"]
    assert_allclose(found["typicality"], abs(found["elbo"] - typical.mean()))

    def seen(images):
        f = mv.data.to_float(images)
        return np.stack([bernoulli_floor(f), f.sum(axis=(1, 2, 3)), png_bits(images)], 1)

    fit = make_pipeline(StandardScaler(), PolynomialFeatures(2), LinearRegression()).fit(seen(others), typical)
    assert_allclose(found["residual"], found["elbo"] - fit.predict(seen(few)), rtol=0, atol=1e-3)


def test_noise_is_stranger_than_digits_and_a_number_has_no_say(digits):
    model, images = digits
    noise = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)
    for name in ("elbo", "iwae", "reconstruction", "less_floor"):
        normal, strange = (anomaly_scores(model, x, Stream(0), [name], 2)[name] for x in (images[:40], noise))
        assert strange.min() > normal.max(), name
    together = anomaly_scores(model, np.concatenate([images, images]), Stream(0), ["kl"])["kl"]
    assert_allclose(together[:20], anomaly_scores(model, images[:20], Stream(1), ["kl"])["kl"], rtol=1e-5)


def test_bits_are_drawn_for_a_model_of_bits(digits):
    model, images = digits
    found = anomaly_scores(model, images[:20], Stream(0), ["less_floor", "elbo"], binarized=Stream(5))
    assert_allclose(found["less_floor"], found["elbo"])  # zeros and ones have the floor 0
    same = anomaly_scores(model, 255 * mv.data.binarize(mv.data.to_float(images[:20]), Stream(5)).astype(np.uint8), Stream(0))
    assert_allclose(found["elbo"], same["elbo"])


def test_a_conditional_model_scores_by_its_labels():
    data = mv.data.load("digits5k")
    model = mv.models.CVAE((28, 28, 1), Stream(0), condition=10, latent=2, hidden=(10,))
    mv.fit(model, data, epochs=1, progress=False)
    x, labels = data.test_images[:30], data.test_labels[:30]
    right, wrong = (anomaly_scores(model, x, Stream(0), labels=l)["elbo"] for l in (labels, (labels + 1) % 10))
    assert abs(right - wrong).max() > 0.1


def test_what_a_score_cannot_be_made_of_is_told(digits):
    model, images = digits
    gaussian = mv.VAE((28, 28, 1), Stream(0), latent=2, hidden=(5,), likelihood="gaussian")
    layered = mv.models.HierarchicalVAE((28, 28, 1), Stream(0), latent=3, hidden=(5,))
    for call, words in (
        (lambda: anomaly_scores(model, images[:2], Stream(0), ["bits"]), "scores are bits"),
        (lambda: anomaly_scores(model, images[:2], Stream(0), []), "scores are none"),
        (lambda: anomaly_scores(model, images[:2], Stream(0), samples=0), "samples 0"),
        (lambda: anomaly_scores(model, images[:2], Stream(0), ["typicality"]), "pass some of them as training="),
        (lambda: anomaly_scores(model, images[:2], Stream(0), ["residual"], training=images[:50]), "there are 50; give 100 or more"),
        (lambda: anomaly_scores(model, images[:2], Stream(0), ["less_png"], binarized=Stream(0)), "bits drawn from them"),
        (lambda: anomaly_scores(gaussian, images[:2], Stream(0), ["less_floor"]), "is Gaussian; take another score"),
        (lambda: anomaly_scores(layered, images[:2], Stream(0), ["regret"]), "is Autoregressive; take another score"),
        (lambda: likelihood_regret(model, mv.data.to_float(images[:2]), Stream(0), steps=0), "steps is 0"),
        (lambda: anomaly_scores(SimpleNamespace(), images[:2], Stream(0)), "has no encode"),
    ):
        with pytest.raises(UsageError, match=words):
            call()
    assert anomaly_scores(layered, images[:2], Stream(0), ["elbo", "iwae", "kl"])["elbo"].shape == (2,)


def test_the_model_is_left_as_it_was(digits):
    model, images = digits
    before = [p.data.copy() for p in model.parameters()]
    anomaly_scores(model, images[:5], Stream(0), ["regret"])
    assert all((a == p.data).all() for a, p in zip(before, model.parameters(), strict=True))
