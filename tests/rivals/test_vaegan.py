"""The VAE-GAN: three players, three gradients, none of them another's."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import Stream, UsageError
from minivae.data import Batch
from minivae.models import VAE
from minivae.objectives import VaeGan, trained
from minivae.penalties import r1_penalty
from minivae.training import Trainer, TrainingConfig

from .test_gan import SHAPE, spots

MODELS = [{"hidden": (8,), "latent": 2}, {"arch": "conv", "channels": (3,), "hidden": (6,), "latent": 2, "likelihood": "gaussian"}]


@pytest.mark.parametrize("model", MODELS, ids=["dense", "conv"])
def test_a_resumed_run_makes_the_bytes_of_one_that_never_stopped(tmp_path, model):
    data, objective = spots(), VaeGan(penalty_every=2)
    whole = mv.Run.start(tmp_path / "whole", data, model, TrainingConfig(4, 16), objective=objective)
    whole.train(data)
    assert whole.trainer.why_eager == ""
    mv.Run.start(tmp_path / "half", data, model, TrainingConfig(2, 16), objective=objective).train(data)
    resumed = mv.Run.open(tmp_path / "half", epochs=4)
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    assert type(mv.load(tmp_path / "whole")) is VAE


def setup(**options):
    model = VAE(SHAPE, Stream(0), hidden=(8,), latent=2, **options)
    objective = VaeGan(0.3, penalty_weight=0.0)
    return model, objective, objective.players(model, Stream(1))


def test_every_parameter_has_one_player():
    model, _objective, players = setup(likelihood="gaussian")
    parts = {name: {id(p) for p in player.parameters()} for name, player in players.items()}
    assert parts["encoder"] | parts["decoder"] == {id(p) for p in model.parameters()}
    assert not parts["encoder"] & parts["decoder"]
    assert not parts["critic"] & (parts["encoder"] | parts["decoder"])


def test_losses_by_their_definitions_in_numpy():
    model, objective, players = setup()
    x = spots().train_images[:6] / np.float32(255)
    losses, reports = objective.losses(players, Batch(x), Stream(2), trained(6, tuple(players)))
    rng = Stream(2)
    q = model.encode(x)
    mu, sigma = q.mean.data.astype(np.float64), np.exp(0.5 * q.logvar.data.astype(np.float64))
    z, z_p = mu + sigma * rng.normal((6, 2)), rng.normal((6, 2))

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    def decode(z):
        h = np.maximum(z @ model.decoder.layers[0].w.data + model.decoder.layers[0].b.data, 0)
        return sigmoid(h @ model.decoder.layers[1].w.data + model.decoder.layers[1].b.data)

    def critic(images):
        h = images.reshape(6, -1).astype(np.float64)
        for layer in players["critic"].layers[1:-1]:
            h = h @ layer.w.data + layer.b.data
            h = np.where(h > 0, h, 0.2 * h)
        last = players["critic"].layers[-1]
        return h, h @ last.w.data + last.b.data

    (f, real), (f_again, again), (_, fresh) = critic(x), critic(decode(z)), critic(decode(z_p))
    kl = 0.5 * (mu**2 + sigma**2 - 1 - 2 * np.log(sigma)).sum(axis=1)
    apart = 0.5 * ((f - f_again) ** 2).sum(axis=1)

    def minus_log(d):  # -log sigmoid(d)
        return -np.log(sigmoid(d)).mean()

    assert_allclose(losses["encoder"].item(), (kl + apart).mean(), rtol=1e-4)
    assert_allclose(losses["decoder"].item(), 0.3 * apart.mean() + minus_log(again) + minus_log(fresh), rtol=1e-5)
    assert_allclose(losses["critic"].item(), minus_log(real) + minus_log(-again) + minus_log(-fresh), rtol=1e-5)
    assert_allclose(reports["features"].data, apart, rtol=1e-4)


def test_the_critic_pays_r1_at_the_real_images_when_its_turn_says_so():
    objective, model = VaeGan(penalty_weight=3.0, penalty_every=4), VAE(SHAPE, Stream(0), latent=2, hidden=(5,)).to(dtype=np.float64)
    players = objective.players(model, Stream(1))
    critic = players["critic"].to(dtype=np.float64)
    x = Stream(2).uniform((6, *SHAPE)).astype(np.float64)

    def paid(*turn):
        return objective.losses(players, Batch(x), Stream(3), trained(6, turn))[0]["critic"].data

    every = ("encoder", "decoder", "critic")
    expected = r1_penalty(critic, x, 12.0).data
    assert expected > 1e-6
    assert_allclose(paid(*every, "penalty") - paid(*every), expected, rtol=1e-6)


def test_the_penalty_comes_at_its_steps():
    every = ("encoder", "decoder", "critic")
    assert VaeGan(penalty_every=4).turns() == [(*every, "penalty"), every, every, every]
    assert VaeGan(penalty_weight=0).turns() == [every]


def test_what_an_epoch_says():
    told = {"features": 1.25, "kl": 2.5, "critic_real": 0.75, "critic_made": 0.5}
    assert VaeGan().summary(told) == "= 1.25 + 2.50, critic right on 0.75 of real, 0.50 of made images"


def test_each_player_moves_by_its_own_loss_alone():
    """What the trainer steps with is the gradient of that player's loss: one more player beside it changes nothing."""
    _model, objective, players = setup()
    x = spots().train_images[:6] / np.float32(255)
    losses, _ = objective.losses(players, Batch(x), Stream(2), trained(6, tuple(players)))
    for name, player in players.items():
        own = mv.gradients(losses[name], player.parameters())
        total = mv.gradients(losses["encoder"] + losses["decoder"] + losses["critic"], player.parameters())
        assert any(abs(g).max() > 0 for g in own)
        assert not all(np.allclose(a, b) for a, b in zip(own, total, strict=True))  # a shared gradient would be another
    # with the learning rates of the others out of the way, each loss falls
    for name in players:
        trainer = Trainer(VAE(SHAPE, Stream(0), hidden=(8,), latent=2), TrainingConfig(batch_size=60), objective)
        for other, optimizer in trainer.optimizers.items():
            trainer.rates[other] = optimizer.lr = 3e-3 if other == name else 1e-12
        column = "loss" if name == "encoder" else f"{name}_loss"
        lines = [trainer.epoch(spots().train_images)[column] for _ in range(40)]
        assert np.mean(lines[-5:]) < np.mean(lines[:5])


def test_it_is_refused_where_it_does_not_fit():
    with pytest.raises(UsageError, match="sees no condition"):
        Trainer(mv.models.CVAE(SHAPE, Stream(0), condition=3, hidden=(4,)), None, VaeGan())
    with pytest.raises(UsageError, match="needs a model with encode"):
        Trainer(mv.models.GAN(SHAPE, Stream(0), hidden=(4,)), None, VaeGan())
    model = VAE(SHAPE, Stream(0), hidden=(4,), latent=2)
    before = model.encoder.layers[1].w.data.copy()
    Trainer(model, TrainingConfig(), VaeGan())
    assert_array_equal(model.encoder.layers[1].w.data, before)
