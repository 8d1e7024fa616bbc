"""The GAN: its losses, its averages, its runs; and what tells a healthy game from a sick one."""

import json
from dataclasses import fields

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import Stream, UsageError, inference, nn, ops
from minivae.cli import main
from minivae.data import Batch
from minivae.models import GAN
from minivae.objectives import Gan, default_objective, trained
from minivae.objectives.gan import LOSSES, NORMS, PENALTIES, packed, told
from minivae.runs.collapse import alarm
from minivae.training import Trainer, TrainingConfig

SHAPE = (9, 8, 1)


def spots(n=80):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centres = rng.uniform(1, 7, (n, 2, 1, 1))
    images = (255 * np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 4)[..., None]).astype(np.uint8)
    return mv.data.Dataset("spots", images[:-20], None, images[-20:], None)


ARCHITECTURES = [{"arch": "dense", "hidden": (12,), "latent": 3}, {"arch": "conv", "channels": (4, 4), "latent": 3}]


@pytest.mark.parametrize("model", ARCHITECTURES, ids=["dense", "conv"])
@pytest.mark.parametrize(
    "objective",
    [Gan(), Gan("hinge", "gp", 5.0, 3, "spectral", 2, 2, 0.9), Gan("wasserstein", "none"), Gan("least_squares", pack=3)],
    ids=str,
)
def test_a_resumed_run_makes_the_bytes_of_one_that_never_stopped(tmp_path, model, objective):
    data = spots()
    whole = mv.Run.start(tmp_path / "whole", data, {"model": "gan"} | model, TrainingConfig(4, 16), objective=objective)
    whole.train(data)
    mv.Run.start(tmp_path / "half", data, {"model": "gan"} | model, TrainingConfig(2, 16), objective=objective).train(data)
    resumed = mv.Run.open(tmp_path / "half", epochs=4)
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    assert {"precision", "coverage"} <= set(resumed.metrics[-1])
    assert_array_equal(inference.sample(mv.load(tmp_path / "whole"), Stream(1), 4), inference.sample(resumed.model, Stream(1), 4))


@pytest.mark.parametrize("objective", [Gan(penalty_every=2), Gan("hinge", "gp", critic_norm="spectral", critic_steps=2)], ids=str)
def test_a_replayed_game_is_the_written_one_to_the_bit(objective):
    states = []
    for eager in (True, False):
        trainer = Trainer(GAN(SHAPE, Stream(0), hidden=(12,), latent=3), TrainingConfig(batch_size=10), objective)
        if eager:
            trainer.replay.refused = "for the comparison"
        reports = [trainer.epoch(spots().train_images) for _ in range(4)]
        assert eager or trainer.why_eager == ""
        assert (sum(p.used for p in trainer.replay.programs.values() if p) > 0) != eager
        states.append((reports, trainer.state()[0]))
    assert states[0][0] == states[1][0]
    for name, a in states[0][1].items():
        assert_array_equal(a, states[1][1][name], err_msg=name)


@pytest.mark.parametrize("kind", ["gan", "vaegan", "unet"])
def test_steps_of_convolutions_are_recorded(kind):
    """Gradients of images of one channel, and convolutions of stride 1 with few channels, go ways of their own through the kernels."""
    model, objective = {
        "gan": lambda: (GAN((28, 28, 1), Stream(0), arch="conv", channels=(16, 16)), Gan(penalty_every=2)),
        "vaegan": lambda: (mv.VAE((28, 28, 1), Stream(0), arch="conv", channels=(16,), hidden=(8,), latent=2), mv.objectives.VaeGan()),
        "unet": lambda: (mv.models.Diffusion((28, 28, 1), Stream(0), arch="unet", channels=(2, 2)), mv.objectives.NoisePrediction()),
    }[kind]()
    trainer = Trainer(model, TrainingConfig(batch_size=5), objective)
    for _ in range(3):
        trainer.epoch(np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1)).astype(np.uint8))
    assert trainer.why_eager == ""
    assert sum(p.used for p in trainer.replay.programs.values()) > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_by_their_definitions(loss):
    real, fake = (np.random.default_rng(i).normal(size=(6, 1)) for i in (0, 1))

    def softplus(x):
        return np.log1p(np.exp(x))

    critic, generator = {
        "non_saturating": (softplus(-real) + softplus(fake), softplus(-fake)),
        "minimax": (softplus(-real) + softplus(fake), -softplus(fake)),
        "hinge": (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), -fake),
        "least_squares": ((real - 1) ** 2 / 2 + fake**2 / 2, (fake - 1) ** 2 / 2),
        "wasserstein": (fake - real, -fake),
    }[loss]
    game = Gan(loss)
    assert_allclose(game.tells(mv.Tensor(real), mv.Tensor(fake)).item(), critic.mean(), rtol=1e-12)
    assert_allclose(game.fools(mv.Tensor(fake)).item(), generator.mean(), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_player_wants_what_it_should(loss):
    """Steps along the generator's gradient raise the scores of what it makes; along the critic's they tell real and made apart better."""
    model = GAN(SHAPE, Stream(0), hidden=(12,), latent=3)
    objective = Gan(loss, "none")
    players = objective.players(model, Stream(1))
    x = spots().train_images / np.float32(255)

    def scores():
        made = model.decode(Stream(2).normal((60, 3))).mean
        return players["critic"](x).data.mean(), players["critic"](made).data.mean()

    for name in players:
        before = scores()
        optimizer = mv.SGD(players[name].parameters(), 0.02)
        for _ in range(30):
            losses, _ = objective.losses(players, Batch(x), Stream(2), mv.objectives.trained(60, tuple(players)))
            optimizer.step(mv.gradients(losses[name], optimizer.params))
        after = scores()
        if name == "generator":
            assert after[1] > before[1]
        else:
            assert after[0] - after[1] > before[0] - before[1]


def test_the_average_follows_the_weights_and_is_what_is_looked_at():
    model = GAN(SHAPE, Stream(0), hidden=(12,), latent=3)
    start = model.average.net.layers[0].w.data.copy()
    assert_array_equal(start, model.net.layers[0].w.data)
    trainer, seen = Trainer(model, TrainingConfig(batch_size=20), Gan(ema=0.75)), []
    for i in range(3):
        seen.append(model.net.layers[0].w.data.copy())
        trainer.step(spots().train_images[20 * i : 20 * i + 20] / np.float32(255))
    expected = start.astype(np.float64)
    for n, w in enumerate(seen, 1):  # 2/11, 3/12, 4/13
        expected = (1 + n) / (10 + n) * expected + 9 / (10 + n) * w
    assert_allclose(model.average.net.layers[0].w.data, expected, atol=1e-7)
    assert not np.array_equal(model.average.net.layers[0].w.data, model.net.layers[0].w.data)
    z = Stream(0).normal((2, 3))
    training = model.decode(z).mean.data
    model.train(False)
    assert not np.array_equal(training, model.decode(z).mean.data)
    trainer.evaluate(spots().test_images)
    assert_allclose(model.average.net.layers[0].w.data, expected, atol=1e-7)  # looking moves nothing


def test_spectral_norm_is_the_largest_singular_value():
    for layer, x in (
        (nn.Dense(7, 5, Stream(0)), np.ones((2, 7), np.float32)),
        (nn.Conv2d(3, 4, Stream(0)), np.ones((2, 5, 5, 3), np.float32)),
    ):
        normed = nn.SpectralNorm(layer, Stream(1), steps=200)
        sigma = np.linalg.svd(layer.w.data.reshape(-1, layer.w.shape[-1]).astype(np.float64), compute_uv=False)[0]
        plain = layer(x).data - layer.b.data
        assert_allclose(normed(x).data - layer.b.data, plain / sigma, rtol=2e-5, atol=1e-6)
        assert set(normed.named_parameters()) == {"layer.w", "layer.b"}
        assert set(normed.named_buffers()) == {"u"}


def test_the_gradient_through_a_spectral_norm():
    layer = nn.SpectralNorm(nn.Dense(4, 3, Stream(0)), Stream(1), steps=300)  # u and v at the singular vectors: sigma has its derivative
    layer.train(False)
    layer.to(dtype=np.float64)
    x, w = np.random.default_rng(0).normal(size=(5, 4)), layer.layer.w
    g = mv.gradients(layer(x).square().sum(), [w])[0]
    for i, j in np.ndindex(w.shape):
        ends = []
        for sign in (1, -1):
            moved = w.data.copy()
            moved[i, j] += sign * 1e-6
            ends.append(((x @ moved / np.linalg.svd(moved, compute_uv=False)[0] + layer.layer.b.data) ** 2).sum())
        assert_allclose(g[i, j], (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-4)


def test_packs():
    x = np.arange(7, dtype=np.float32).reshape(7, 1, 1, 1)
    for pack, rows in ((2, [[0, 4], [1, 5], [2, 6], [3, 0]]), (3, [[0, 3, 6], [1, 4, 0], [2, 5, 1]])):
        assert packed(x, pack).data.reshape(-1, pack).tolist() == rows
    assert packed(x[:1], 3).data.reshape(-1).tolist() == [0, 0, 0]
    assert packed(x, 1) is x


def test_the_penalty_comes_at_its_steps_with_its_weight():
    game = Gan(penalty_every=4, critic_steps=2)
    assert [("penalty" in turn, "generator" in turn) for turn in game.turns()] == [
        (True, False),
        (False, True),
        (False, False),
        (False, True),
    ]
    assert all("critic" in turn for turn in game.turns())
    assert Gan(penalty="none").turns() == [("generator", "critic")]
    model = GAN(SHAPE, Stream(0), hidden=(12,), latent=3)
    x, found = spots().train_images[:20] / np.float32(255), []
    for every in (1, 4):
        players = Gan(penalty_every=every).players(model, Stream(1))
        both = [
            Gan(penalty_every=every).losses(players, Batch(x), Stream(2), mv.objectives.trained(20, turn))[0]["critic"].item()
            for turn in (("critic", "penalty"), ("critic",))
        ]
        found.append(both[0] - both[1])
    assert_allclose(found[1], 4 * found[0], rtol=1e-4)
    slope = ops.sum(mv.r1_penalty(players["critic"], x, 1.0)).item()
    assert_allclose(found[0], slope, rtol=1e-3)


def test_the_alarm_of_a_generator():
    def line(coverage):
        return {"coverage": coverage}

    assert alarm([line(0.05)] * 2) is None
    assert "collapsed, or learns nothing" in alarm([line(0.4), *[line(0.05)] * 3])
    assert alarm([line(0.05)] * 4) is None  # said once
    assert alarm([line(0.05), line(0.2), line(0.05)]) is None


def test_a_generator_of_one_image_sets_the_alarm_off(tmp_path):
    data = spots()
    run = mv.Run.start(tmp_path, data, {"model": "gan", "hidden": (4,), "latent": 2}, TrainingConfig(3, 30, lr=1e-9))
    for net in (run.model.net, run.model.average.net):
        for layer in net.layers:
            if hasattr(layer, "w"):
                layer.w.data[...] = 0
    run.train(data)
    assert "collapsed" in run.metrics[-1]["warning"]


def test_from_the_command_line(tmp_path, capsys):
    np.savez(tmp_path / "images.npz", images=spots().train_images)
    folder = tmp_path / "run"
    train = ["train", tmp_path / "images.npz", "--model", "gan", "--hidden", 8, "--latent", 2, "--batch-size", 20, "--epochs", 2]
    assert main([str(a) for a in (*train, "--out", folder, "--loss", "hinge", "--pack", 2)]) == 0
    assert (
        json.loads((folder / "config.json").read_text())["objective"] | {"loss": "hinge", "pack": 2, "objective": "gan"}
        == json.loads((folder / "config.json").read_text())["objective"]
    )
    out = capsys.readouterr().out
    assert "critic right on" in out
    assert "gradient norms" in out
    assert {"samples.png", "losses.png"} <= {p.name for p in folder.iterdir()}
    for command in (["sample", folder], ["evaluate", folder], ["resume", folder, "--epochs", 3]):
        assert main([str(a) for a in command]) == 0
    assert "critic_real" in capsys.readouterr().out
    for wrong, message in (
        (["reconstruct", folder], "GAN has no encode"),
        ([*train, "--likelihood", "gaussian"], "--likelihood is an argument of the model vae"),
        ([*train, "--objective", "elbo"], "the objective Elbo needs a model with encode"),
        (["train", tmp_path / "images.npz", "--objective", "gan", "--out", tmp_path / "no"], "VAE has no critic"),
    ):
        assert main([str(a) for a in wrong]) == 2
        assert message in capsys.readouterr().err


def test_what_does_not_go_together_is_refused():
    for settings in ({"loss": "maximin"}, {"penalty": "l2"}, {"critic_norm": "batch"}, {"ema": 1.0}, {"lr_scale": 0.0}, {"pack": 0}):
        with pytest.raises(UsageError, match=next(iter(settings))):
            Gan(**settings)
    with pytest.raises(UsageError, match="has no generator here"):
        GAN(SHAPE, Stream(0), arch="gru")
    assert {f.name: f.metadata["choices"] for f in fields(Gan) if f.metadata["choices"]} == {
        "loss": LOSSES,
        "penalty": PENALTIES,
        "critic_norm": NORMS,
    }
    assert type(default_objective("gan")) is Gan
    assert default_objective("vae") == mv.objectives.Elbo()


def test_what_counts_as_told_apart_depends_on_the_scores():
    """Least squares aims at 1 and 0, so that 1/2 lies between; the others at both sides of 0; Wasserstein's scores have no middle."""

    def shares(loss, score):
        net = GAN((4, 4, 1), Stream(0), latent=2, hidden=(3,))
        x = np.zeros((6, 4, 4, 1), np.float32)
        players = {"generator": net, "critic": lambda x: mv.Tensor(np.full((len(x), 1), score, np.float32))}
        objective = Gan(loss, "none")
        reports = objective.losses(players, Batch(x), Stream(1), trained(6, ("critic",)))[1]
        return tuple(float(reports[name].data) for name in ("critic_real", "critic_made"))

    assert shares("least_squares", 0.75) == (1.0, 0.0)
    assert shares("least_squares", 0.25) == (0.0, 1.0)
    assert shares("hinge", 0.25) == (1.0, 0.0)
    assert shares("hinge", -0.25) == (0.0, 1.0)
    real, made = np.array([1.2, 3.0]), np.array([0.0, 2.0])
    assert_array_equal(told(real, made, None), [0.5, 0.5])  # of Wasserstein's scores, the mean of all: 1.55
