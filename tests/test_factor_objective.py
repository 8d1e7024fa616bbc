"""FactorVAE: its two losses by their definition, and its critic against a total correlation that is known."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import Adam, Stream, Tensor, UsageError
from minivae.data import Batch
from minivae.distributions import Gaussian, StandardGaussian, kl
from minivae.gradcheck import frozen, gradcheck
from minivae.models import critic
from minivae.nn import Dense, Module
from minivae.objectives import Factor, Progress, Terms, elbo, shuffle_latents, trained

from .test_objectives import X, slopes, vae


def factor_vae(model, judge, x, others, rng, gamma=10.0):
    """(the model's loss and its parts, the critic's loss)"""
    batch, progress = Batch(x, other=Batch(others)), trained(len(x), ("model", "critic"))
    losses, reports = Factor(gamma).losses({"model": model, "critic": judge}, batch, rng, progress)
    return Terms(losses["model"], reports["reconstruction"], reports["kl"]), losses["critic"]


def test_a_critic_that_cannot_tell_pays_log_2_and_one_that_is_sure_pays_its_margin():
    """Its loss is a cross-entropy in nats of one code, true or shuffled with a chance of 1/2 each: D = 1/2 is the entropy of a coin."""
    model, judge = vae(), critic(3, Stream(4), (6,))
    for p in judge.parameters():
        p.data[...] = 0
    for logit in (0.0, 30.0, -30.0):  # for ever sure of one side: right in one half of cases, and 30 nats off in the other
        judge.parameters()[-1].data[...] = logit
        loss = factor_vae(model, judge, X, X[::-1], Stream(0))[1]
        assert loss.item() == pytest.approx(math.log(2) if logit == 0 else abs(logit) / 2, rel=1e-6)


@pytest.mark.parametrize(("epochs", "share"), [(0.0, 0.0), (1.0, 0.25), (9.0, 1.0)])
@pytest.mark.parametrize("turn", [("model", "critic"), ("model",)])
def test_a_factor_vae_is_its_definition(epochs, share, turn):
    model, objective = vae(), Factor(gamma=3.0, critic=7, kl_warmup=4.0)
    players = objective.players(model, Stream(0))
    assert list(players) == ["model", "critic"]
    assert players["model"] is model
    assert [layer.w.shape for layer in players["critic"].layers] == [(3, 7), *[(7, 7)] * 4, (7, 1)]
    batch, progress = Batch(X, other=Batch(X[::-1])), Progress(np.array(epochs, np.float32), turn, len(X))
    losses, reports = objective.losses(players, batch, Stream(5), progress)
    q = model.encode(X)
    z = q.sample(Stream(5))
    log_likelihood, divergence = model.decode(z).log_prob(X).data, kl(q, model.prior).data
    assert_allclose(reports["reconstruction"].data, -log_likelihood, rtol=1e-5)
    assert_allclose(reports["kl"].data, divergence, rtol=1e-5)
    expected = (divergence - log_likelihood).mean() + 3 * share * players["critic"](z).data.mean()
    assert_allclose(losses["model"].data, expected, rtol=1e-5)
    assert set(losses) == set(turn)


def test_a_factor_vae_needs_one_gaussian_for_all_images():
    conditional = mv.models.CVAE((4, 3, 1), Stream(0), condition=2, latent=3, hidden=(5,))
    with pytest.raises(UsageError, match="they depend on a condition"):
        Factor().players(conditional, Stream(0))
    model = vae()
    model.encode = lambda x: StandardGaussian(3)
    with pytest.raises(UsageError, match="needs one Gaussian q"):
        factor_vae(model, critic(3, Stream(4), (6,)), X, X, Stream(0))


def test_shuffled_latents_keep_their_marginals_and_lose_their_company():
    z = np.repeat(np.random.default_rng(0).normal(size=(2000, 1)), 3, axis=1)
    shuffled = shuffle_latents(Tensor(z), Stream(0)).data
    assert_array_equal(np.sort(shuffled, axis=0), np.sort(z, axis=0))
    assert abs(np.corrcoef(shuffled.T) - np.eye(3)).max() < 5 / np.sqrt(2000)


class Shown:
    """A model whose codes are the images: two numbers that are correlated."""

    latent = 2
    prior = StandardGaussian(2)

    def encode(self, x):
        return Gaussian(x, np.full_like(x, -20.0))

    def decode(self, z):
        return Gaussian(z, np.zeros_like(z.data))


class Quadratic(Module):
    """A critic that can be exact for Gaussians: their log-ratio is linear in squares and products."""

    def __init__(self):
        self.dense = Dense(3, 1, Stream(0))

    def forward(self, z):
        data = z.data if isinstance(z, Tensor) else z
        return self.dense(np.stack([data[:, 0] ** 2, data[:, 1] ** 2, data[:, 0] * data[:, 1]], axis=1))


def test_a_trained_critic_knows_the_total_correlation():
    """Of a Gaussian with correlation r it is -1/2 log(1 - r^2), the mean of log q(z) / q(z_1) q(z_2) =
    -1/2 log(1 - r^2) - r^2 / 2 (1 - r^2) (z_1^2 + z_2^2) + r / (1 - r^2) z_1 z_2.

    200,000 draws leave 1% of noise in each coefficient."""
    r, judge, draws = 0.7, Quadratic(), Stream(1)

    def pairs(n: int) -> np.ndarray:
        a, b = draws.normal((2, n))
        return np.stack([a, r * a + math.sqrt(1 - r * r) * b], axis=1)

    optimizer = Adam(judge.parameters(), 3e-2)
    for i in range(600):
        optimizer.lr = 3e-2 if i < 400 else 1e-3  # to walk, then to average
        optimizer.step(slopes(factor_vae(Shown(), judge, pairs(1000), pairs(1000), draws)[1], judge))
    exact = np.array([-r * r / 2, -r * r / 2, r]) / (1 - r * r)
    assert_allclose(judge.dense.w.data[:, 0], exact, rtol=0.05)
    assert_allclose(judge.dense.b.item(), -0.5 * math.log(1 - r * r), rtol=0.05)
    assert judge(pairs(20_000)).data.mean() == pytest.approx(-0.5 * math.log(1 - r * r), rel=0.05)


def test_each_player_has_a_loss_of_its_own():
    model, judge = vae(), critic(3, Stream(4), (6,))
    terms, loss = factor_vae(model, judge, X, X[::-1], Stream(0), gamma=2.0)
    assert not any(g.any() for g in slopes(loss, model))
    assert all(g.any() for g in slopes(loss, judge))
    z = model.encode(X).sample(Stream(0))
    assert terms.loss.item() == pytest.approx(elbo(model, X, Stream(0)).loss.item() + 2 * judge(z).data.mean(), rel=1e-5)
    for pick, player in ((lambda pair: pair[0].loss, model), (lambda pair: pair[1], judge)):

        def one(_, x, rng, pick=pick):
            return pick(factor_vae(model, judge, x, x[::-1], rng, gamma=2.0))

        report = gradcheck(frozen(one, player, X, Stream(5)), elements=3, directions=1)
        assert report.ok, report
