"""Several players: each with a rule of its own, together or in turns; and a GAN in a stranger's few lines."""

from dataclasses import dataclass

import numpy as np
import pytest

import minivae as mv
from minivae import UsageError, ops
from minivae.models.networks import mlp
from minivae.objectives import Objective
from minivae.training import SGD, Adam, AdamW, Trainer, TrainingConfig


# --- a GAN on a mixture of two Gaussians in one dimension ------------------------------------------------------------------------------
class Generator(mv.Module):
    def __init__(self, rng):
        self.net, self.prior = mlp((2, 24, 24, 1), rng, "tanh"), mv.distributions.StandardGaussian(2)

    def decode(self, z):
        return mv.distributions.Delta(self.net(z))


@dataclass(frozen=True)
class Gan(Objective):
    gamma: float = 1.0  # of R1

    def players(self, model, rng):
        return {"generator": model, "critic": mlp((1, 24, 24, 1), rng.split("critic"), "leaky_relu")}

    def optimizers(self):
        return {"critic": {"lr": 4e-3, "betas": (0.0, 0.9)}, "generator": {"lr": 2e-3, "betas": (0.0, 0.9)}}

    def losses(self, players, batch, rng, progress):
        generator, critic, found = players["generator"], players["critic"], {}
        fake = generator.decode(generator.prior.sample(rng, len(batch.x), like=batch.x)).mean
        if "generator" in progress.turn:
            found["generator"] = ops.softplus(-critic(fake)).mean()
        if "critic" in progress.turn:
            real, false = critic(batch.x), critic(mv.stop_gradient(fake))
            found["critic"] = ops.softplus(-real).mean() + ops.softplus(false).mean() + mv.r1_penalty(critic, batch.x, self.gamma)
        return found, {}


# --- and that is all -------------------------------------------------------------------------------------------------------------------


def mixture(n):
    rng = np.random.default_rng(0)
    return (rng.choice([-2.0, 2.0], n) + 0.3 * rng.normal(size=n)).astype(np.float32)[:, None]


def test_a_gan_with_r1_learns_a_mixture(tmp_path):
    x = mixture(4000)
    model = Generator(mv.Stream(0))
    trainer = Trainer(model, TrainingConfig(epochs=30, batch_size=100, lr_schedule="cosine"), Gan())
    for _ in range(30):
        found = trainer.epoch(x)
    assert set(found) == {"loss", "critic_loss", "gradient_norm", "critic_gradient_norm"}
    made = mv.inference.sample(model, mv.Stream(1), 4000)
    # the distance of the distribution functions: 0.02 for another draw of the mixture, 0.5 for a point, 0.38 for one Gaussian in the middle
    grid = np.linspace(-4, 4, 400)
    distance = abs((made[:, 0, None] < grid).mean(axis=0) - (x[:, 0, None] < grid).mean(axis=0)).max()
    assert distance < 0.2
    assert min((made < -1).mean(), (made > 1).mean()) > 0.35
    # at equilibrium the critic cannot tell: log 2 twice
    assert found["critic_loss"] == pytest.approx(2 * np.log(2), abs=0.15)


def test_a_gan_is_a_run_like_any_other(tmp_path):
    x = mixture(200)
    data = mv.data.Dataset("mixture", x[:160], None, x[160:], None)
    config = TrainingConfig(epochs=3, batch_size=32)
    whole = mv.Run.start(tmp_path / "whole", data, Generator(mv.Stream(0)), config, objective=Gan(0.5))
    whole.train(data)
    mv.Run.start(tmp_path / "half", data, Generator(mv.Stream(0)), TrainingConfig(1, 32), objective=Gan(0.5)).train(data)
    resumed = mv.Run.open(tmp_path / "half", epochs=3)
    assert resumed.trainer.objective == Gan(0.5)
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    assert type(mv.load(tmp_path / "whole")) is Generator


@dataclass(frozen=True)
class Promised(Gan):
    replayable = True


class PromisedGenerator(Generator):
    replayable = True


def test_a_gan_that_promises_is_replayed_to_the_bit():
    states = []
    for kind, model in ((Gan, Generator), (Promised, PromisedGenerator)):
        trainer = Trainer(model(mv.Stream(0)), TrainingConfig(batch_size=50), kind())
        reports = [trainer.epoch(mixture(500)) for _ in range(3)]
        states.append((reports, trainer.state()[0]))
        replayed = sum(p.used for p in trainer.replay.programs.values())
        assert (replayed > 5, trainer.why_eager == "") == (kind is Promised,) * 2
    assert states[0][0] == states[1][0]
    for name, a in states[0][1].items():
        np.testing.assert_array_equal(a, states[1][1][name], err_msg=name)


@dataclass(frozen=True)
class Pair(Objective):
    """Two players that each want their number to be the batch's mean."""

    order: tuple = ()
    rules: tuple = ()

    def players(self, model, rng):
        return {"model": model, "other": Number(1.0)}

    def optimizers(self):
        return dict(self.rules)

    def turns(self):
        return self.order

    def losses(self, players, batch, rng, progress):
        return {name: (player.value * 1.0 - batch.x).square().mean() for name, player in players.items() if name in progress.turn}, {}


class Number(mv.Module):
    def __init__(self, value):
        self.value = mv.Tensor(np.full(1, value, np.float32))


X = np.full((12, 1), 3.0, np.float32)


def test_turns_go_round_over_epochs_and_a_resumed_run_goes_on_in_them():
    order = (("other",), ("other",), ("model",))
    trainer = Trainer(Number(0.0), TrainingConfig(batch_size=3, optimizer="sgd", lr=0.1), Pair(order))
    trainer.epoch(X)  # 4 steps: other, other, model, other
    assert (trainer.optimizers["model"].steps, trainer.optimizers["other"].steps) == (1, 3)
    again = Trainer(Number(9.0), trainer.config, Pair(order))
    again.load_state(*trainer.state())
    for t in (trainer, again):
        found = t.epoch(X)  # other, model, other, other
        assert (t.optimizers["model"].steps, t.optimizers["other"].steps) == (2, 6)
        assert set(found) == {"loss", "other_loss", "gradient_norm", "other_gradient_norm"}
    np.testing.assert_array_equal(trainer.model.value.data, again.model.value.data)
    # v <- v - 0.1 * 2 (v - 3): twice from 0, six times from 1
    np.testing.assert_allclose(trainer.model.value.data, 3 - 3 * 0.8**2, rtol=1e-6)
    np.testing.assert_allclose(trainer.players["other"].value.data, 3 - 2 * 0.8**6, rtol=1e-6)


def test_each_player_has_a_rule_a_rate_and_a_schedule_of_its_own():
    rules = (("other", {"optimizer": "adamw", "lr": 0.5, "betas": (0.5, 0.9)}),)
    config = TrainingConfig(epochs=2, batch_size=12, optimizer="sgd", lr=0.1, lr_schedule="cosine")
    trainer = Trainer(Number(0.0), config, Pair((), rules))
    assert type(trainer.optimizers["model"]) is SGD
    assert type(trainer.optimizers["other"]) is AdamW
    assert trainer.optimizers["other"].betas == (0.5, 0.9)
    trainer.epoch(X)
    trainer.epoch(X)
    assert (trainer.optimizers["model"].lr, trainer.optimizers["other"].lr) == pytest.approx((0.05, 0.25))
    assert isinstance(trainer.optimizers["other"], Adam)


def test_players_move_together_from_the_weights_before_the_step():
    class Cross(Pair):
        def losses(self, players, batch, rng, progress):
            a, b = players["model"].value, players["other"].value
            return {"model": (a * mv.stop_gradient(b)).sum(), "other": (b * mv.stop_gradient(a)).sum()}, {}

    trainer = Trainer(Number(2.0), TrainingConfig(batch_size=12, optimizer="sgd", lr=0.5), Cross())
    trainer.epoch(X)
    assert trainer.model.value.item() == 2.0 - 0.5 * 1.0
    assert trainer.players["other"].value.item() == 1.0 - 0.5 * 2.0


def test_players_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"turns and players differ by \['other'\]"):
        Trainer(Number(0.0), objective=Pair((("model",),)))

    class Shared(Pair):
        def players(self, model, rng):
            return {"model": model, "other": model}

    shared = Trainer(Number(0.0), objective=Shared())
    with pytest.raises(UsageError, match="no longer lies where this optimizer steps"):
        shared.epoch(X)
