"""Denoising and inpainting, judged by the Wiener filter, by quadrature over one and two latents, by Bayes' rule over bits."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import multivariate_normal

import minivae as mv
from minivae import Stream, UsageError, no_grad, ops
from minivae.applications import Missing, Noisy, denoise, estimate_noise, gibbs, inpaint
from minivae.applications.posterior import likely
from minivae.distributions import Gaussian, StandardGaussian
from minivae.errors import ShapeError
from minivae.nn import Dense, Module
from minivae.quadrature import log_marginal

D, SIGMA, OWN = 6, 0.4, 0.3
W = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0][:2] * np.array([[1.3], [0.7]])  # orthogonal: independent posteriors
B = np.random.default_rng(1).normal(size=D)
C = W.T @ W + OWN**2 * np.eye(D)  # of clean images


class Linear(Module):
    """z ~ N(0, I) of 2, x = W' z + B + OWN n; its encoder knows the posterior of z given an image with so much noise on it."""

    latent, prior = 2, StandardGaussian(2)

    def __init__(self, noise=SIGMA):
        self.layer = Dense(1, 1, Stream(0))
        self.to("cpu", np.float64)
        self.noise = noise

    def decode(self, z):
        return Gaussian(ops.dense(z, W, B), np.full(D, 2 * math.log(OWN)))

    def encode(self, x):
        variance = OWN**2 + self.noise**2
        precision = 1 + (W**2).sum(axis=1) / variance
        return Gaussian((x - B) @ W.T / variance / precision, np.broadcast_to(-np.log(precision), (len(x), 2)))


Y = np.random.default_rng(2).multivariate_normal(B, C + SIGMA**2 * np.eye(D), 5)
WIENER = B + (Y - B) @ np.linalg.solve(C + SIGMA**2 * np.eye(D), C)


def test_a_linear_model_is_the_wiener_filter():
    """With the posterior for q all weights are equal, and pairs z, -z about the mean leave no noise in what is linear."""
    found = denoise(Linear(), Y, Stream(0), SIGMA, samples=4, steps=0)
    assert abs(found.mean - WIENER).max() < 1e-6
    assert_allclose(found.effective, 4, rtol=1e-9)
    assert_allclose(found.log_evidence, multivariate_normal(B, C + SIGMA**2 * np.eye(D)).logpdf(Y), rtol=1e-6)  # Y as float32


def test_the_fit_finds_the_posterior():
    """From an encoder that was made for other noise; the gradient has no variance at the optimum, so that it is found to many digits."""
    found = denoise(Linear(noise=2.0), Y, Stream(0), SIGMA, samples=20, steps=600)
    assert abs(found.mean - WIENER).max() < 1e-4
    assert (found.effective > 19.99).all()


def test_draws_have_the_posterior_covariance():
    n = 4000
    found = denoise(Linear(), Y[:1], Stream(1), SIGMA, samples=2 * n, draws=n, steps=0)
    wanted = C - C @ np.linalg.solve(C + SIGMA**2 * np.eye(D), C)
    centred = found.draws[:, 0] - WIENER[0]
    error = np.sqrt(wanted.diagonal().max() / n)
    assert abs(centred.mean(axis=0)).max() < 5 * error
    # of a covariance of n Gaussian draws, var / sqrt(n / 2) at most; drawn again from 2 n they have half as much again
    assert abs(centred.T @ centred / n - wanted).max() < 5 * 1.5 * wanted.diagonal().max() / math.sqrt(n / 2)


def test_a_linear_model_completes_as_the_conditional_gaussian():
    known = np.array([True, True, False, True, False, False])
    A, G = C[np.ix_(~known, known)], C[np.ix_(known, known)]
    wanted = B[~known] + (Y[:, known] - B[known]) @ np.linalg.solve(G, A.T)
    x = np.where(known, Y, np.nan)  # nobody looks at what is missing
    n = 20_000
    found = inpaint(Linear(), x, known, Stream(0), samples=n, steps=300, starts=1, draws=3)
    # the posterior is correlated and q is not: the error is that of n weighted draws
    spread = np.sqrt((W[:, ~known] ** 2).sum(axis=0).max())
    assert (abs(found.mean[:, ~known] - wanted).max(axis=1) < 5 * spread / np.sqrt(found.effective)).all()
    assert (found.effective > n / 4).all()
    assert_allclose(found.log_evidence, multivariate_normal(B[known], G).logpdf(Y[:, known]), atol=5 / math.sqrt(n / 4))
    assert_allclose(found.mean[:, known], Y[:, known], rtol=1e-6)
    assert_allclose(found.draws[:, :, known], np.broadcast_to(Y[:, known], (3, 5, 3)), rtol=1e-6)


X = np.random.default_rng(0).uniform(size=(3, 4, 3, 1))


def vae(latent, likelihood="bernoulli"):
    """Untrained, with larger weights, so that the posterior is far from Gaussian and from what the encoder says."""
    model = mv.VAE((4, 3, 1), Stream(1), latent=latent, hidden=(5,), activation="tanh", likelihood=likelihood)
    model.to("cpu", np.float64)
    for p in model.parameters():
        p.data += 0.9 * Stream(2).normal(p.shape, like=p.data)
    return model


def by_quadrature(model, observation, x):
    """E[x | y] of each image, and log p(y), from the posterior on a grid: the observation is the judge's decoder."""
    mean, log_p = [], []
    for n in range(len(x)):
        one = observation(n)
        judge = SimpleNamespace(
            latent=model.latent,
            prior=model.prior,
            decode=lambda z, one=one: SimpleNamespace(log_prob=lambda x: one.log_likelihood(z[..., None, :])[..., 0]),
        )
        found = log_marginal(judge, x[n : n + 1], tolerance=1e-8)
        density = found.density[0]
        points = np.stack(np.meshgrid(*found.axes[0], indexing="ij"), axis=-1)
        with no_grad():
            every = one.mean(points.reshape(-1, 1, model.latent))[:, 0]
        weight = density.reshape(-1) / density.sum()
        mean.append(np.einsum("p,p...->...", weight, every))
        log_p.append(found.log_p[0])
    return np.array(mean), np.array(log_p)


@pytest.mark.parametrize(
    ("likelihood", "gray", "sigma"), [("bernoulli", True, 0.3), ("bernoulli", False, 0.7), ("gaussian", True, 0.5), ("laplace", True, 0.5)]
)
@pytest.mark.parametrize("latent", [1, 2])
def test_denoising_is_the_posterior_mean_by_quadrature(likelihood, gray, sigma, latent):
    model = vae(latent, likelihood)
    y = X + sigma * np.random.default_rng(3).normal(size=X.shape)
    wanted, log_p = by_quadrature(model, lambda n: Noisy(model, y[n : n + 1], sigma, gray), y)
    found = denoise(model, y, Stream(0), sigma, samples=3000, starts=3, gray=gray)
    # a weighted mean of pixels in a range of about 1
    error = 0.5 / np.sqrt(found.effective)
    assert (found.effective > 100).all()
    assert (abs(found.mean - wanted).max(axis=(1, 2, 3)) < 5 * error).all()
    assert (abs(found.log_evidence - log_p) < 5 / np.sqrt(found.effective)).all()
    assert abs(wanted - y).max() > 20 * error.max()  # it did something


@pytest.mark.parametrize("gray", [True, False])
def test_the_likelihood_of_noisy_bits_is_bayes_rule(gray):
    """sum over x in {0, 1} of p(x | z) N(y; x, sigma^2), pixel by pixel, and p(x = 1 | z, y)."""
    model, sigma = vae(2), 0.6
    y = X + 0.1
    z = np.random.default_rng(0).normal(size=(4, 3, 2))
    with no_grad():
        p = expit(model.decode(z).logits.data)
    one, zero = (np.exp(-((y - x) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi) / sigma for x in (1, 0))
    observation = Noisy(model, y, sigma, gray)
    with no_grad():
        found, mean = observation.log_likelihood(z).data, observation.mean(z)
    mixed = np.exp(-((y - p) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi) / sigma if gray else p * one + (1 - p) * zero
    assert_allclose(found, np.log(mixed).sum(axis=(2, 3, 4)), rtol=1e-10)
    assert_allclose(mean, p if gray else p * one / mixed, rtol=1e-10)


KNOWN = np.array([1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0], bool).reshape(4, 3, 1)


@pytest.fixture(scope="module")
def pixels_missing():
    """A model of bits with two latents, images, and the exact E[x | x_o]."""
    model = vae(2)
    x = (X > 0.5).astype(np.float64)
    return model, x, *by_quadrature(model, lambda n: Missing(model, x[n : n + 1], KNOWN[None]), x)


def test_inpainting_is_the_posterior_mean_by_quadrature(pixels_missing):
    model, x, wanted, log_p = pixels_missing
    found = inpaint(model, x, KNOWN, Stream(0), samples=6000, starts=3)
    error = 0.5 / np.sqrt(found.effective)
    assert (found.effective > 500).all()
    assert (abs(found.mean - wanted).max(axis=(1, 2, 3)) < 5 * error).all()
    assert (abs(found.log_evidence - log_p) < 5 / np.sqrt(found.effective)).all()


def test_metropolis_has_the_posterior_for_its_limit_and_pseudo_gibbs_has_not(pixels_missing):
    """100 chains an image: their spread says how far their mean may be off."""
    model, x, wanted, _ = pixels_missing
    chains = 100
    many = np.repeat(x, chains, axis=0)
    off = {}
    for metropolis in (True, False):
        chain = gibbs(model, many, KNOWN, Stream(0), sweeps=600, warmup=100, metropolis=metropolis)
        each = chain.mean.reshape(3, chains, *x.shape[1:])
        off[metropolis] = (each.mean(axis=1) - wanted) / np.maximum(each.std(axis=1, ddof=1) / math.sqrt(chains), 1e-9)
        off[metropolis, "pixels"] = abs(each.mean(axis=1) - wanted).max()
        assert chain.accepted == 1 if not metropolis else 0.02 < chain.accepted < 0.99
    assert abs(off[True]).max() < 6
    assert abs(off[False]).max() > 30
    assert off[False, "pixels"] > 5 * off[True, "pixels"]


def test_completions_are_several_and_keep_what_is_known(pixels_missing):
    model, x, wanted, _ = pixels_missing
    found = inpaint(model, x, KNOWN, Stream(0), samples=600, draws=400, gray=False)
    assert found.draws.shape == (400, *x.shape)
    assert (found.draws[:, :, KNOWN] == x[:, KNOWN]).all()
    assert set(np.unique(found.draws)) == {0, 1}
    error = 0.5 / np.sqrt(np.minimum(found.effective, 400) / 2)
    assert (abs(found.draws.mean(axis=0) - wanted).max(axis=(1, 2, 3)) < 5 * error).all()
    assert len(np.unique(found.draws[:, 0].reshape(400, -1), axis=0)) > 10


def test_parts_make_no_difference(monkeypatch):
    model = vae(1)
    whole = denoise(model, X, Stream(0), 0.5, samples=2000)
    monkeypatch.setattr("minivae.applications.posterior.NUMBERS", 1)  # an image at a time
    assert_allclose(denoise(model, X, Stream(1), 0.5, samples=2000).mean, whole.mean, atol=5 * 0.5 * math.sqrt(2 / whole.effective.min()))


def test_noise_is_measured():
    digits = mv.data.to_float(mv.data.load("digits5k").test_images[:50])
    for sigma in (0.1, 0.5, 1.0):
        found = estimate_noise(digits + sigma * np.random.default_rng(0).normal(size=digits.shape))
        # strokes add to it: in at most a third of the windows, and the median of all is then the 3/4 quantile of the others, 1.15 / 0.674
        assert sigma < found < 1.71 * sigma
    flat = 0.3 * np.random.default_rng(1).normal(size=(4, 100, 100, 1))
    # a median of n values has the error 1.17 sigma / sqrt n, of correlated ones not twice that
    assert abs(estimate_noise(flat) - 0.3) < 5 * 2 * 1.17 * 0.3 / 200
    with pytest.raises(UsageError, match="cut off; give sigma"):
        estimate_noise(digits)
    with pytest.raises(ShapeError, match=r"\(3, 4\)"):
        estimate_noise(np.zeros((3, 4)))
    assert_allclose(denoise(vae(1), X, Stream(0), samples=20).mean, denoise(vae(1), X, Stream(0), estimate_noise(X), samples=20).mean)


def test_what_cannot_be_done_is_told():
    model = vae(1)
    for call, error, words in (
        (lambda: denoise(model, X, Stream(0), -1.0), UsageError, "sigma is -1.0"),
        (lambda: denoise(model, X, Stream(0), 0.5, samples=7), UsageError, "samples 7, starts 1"),
        (lambda: denoise(vae(1, "laplace"), X, Stream(0), 0.5, gray=False), UsageError, "no closed form with noise"),
        (lambda: inpaint(model, X, np.ones((3, 3), bool), Stream(0)), ShapeError, r"bool \(3, 3\) for x \(3, 4, 3, 1\)"),
        (lambda: inpaint(model, X, KNOWN.astype(int), Stream(0)), ShapeError, "known is int64"),
        (lambda: inpaint(model, X * np.nan, KNOWN, Stream(0)), UsageError, "18 known pixels are not finite"),
        (lambda: gibbs(model, X, KNOWN, Stream(0), sweeps=5, warmup=5), UsageError, "sweeps is 5, warmup 5"),
        (lambda: denoise(model, X[:0], Stream(0), 0.5), UsageError, "there are no images"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_a_condition_goes_with_its_images(monkeypatch):
    """Part by part as all at once: each image is explained by the decoder of its own label."""
    model = mv.models.CVAE((4, 3, 1), Stream(1), condition=3, latent=1, hidden=(5,))
    model.to("cpu", np.float64)
    for p in model.parameters():
        p.data += 0.9 * Stream(2).normal(p.shape, like=p.data)
    known = model.condition(np.array([0, 1, 2]))
    monkeypatch.setattr("minivae.applications.posterior.NUMBERS", 1)  # an image at a time
    noise = denoise(known, X, Stream(0), 0.5, samples=2000)
    holes = inpaint(known, X, KNOWN, Stream(0), samples=6000)
    for n in range(3):
        x, one = X[n : n + 1], model.condition(np.array([n]))
        for found, observation in ((noise, Noisy(one, x, 0.5)), (holes, Missing(one, x, KNOWN[None]))):
            wanted, log_p = by_quadrature(one, lambda _, seen=observation: seen, x)
            assert abs(found.mean[n] - wanted[0]).max() < 5 * 0.5 / np.sqrt(found.effective[n])
            assert abs(found.log_evidence[n] - log_p[0]) < 5 / np.sqrt(found.effective[n])


def test_later_starts_are_likelier():
    """A posterior far out in the prior's tail: how far a start is off is as the least of so many distances of draws from the prior."""
    model, wanted = Linear(), np.array([2.5, -2.5])
    seen = Missing(model, np.repeat((B + wanted @ W)[None], 400, axis=0), np.ones((1, D), bool))
    with no_grad():
        z = likely(seen, model.prior, 4, 400, 2, Stream(0), np.zeros((1, 2)))  # (4, 400, 2)
    widths = np.linalg.norm(W, axis=1)  # the likelihood falls with the distance in pixels
    off = np.linalg.norm((z - wanted) * widths, axis=-1)
    chance = np.linalg.norm((np.random.default_rng(0).normal(size=(16, 4000, 2)) - wanted) * widths, axis=-1)
    for s in range(4):
        least = chance[: (s + 1) ** 2].min(axis=0)
        assert abs(off[s].mean() - least.mean()) < 5 * least.std() / np.sqrt(400)
    assert off[3].mean() < off[0].mean() / 2
