"""A stranger's model, objective, networks and vectors go where ours go."""

import json

import numpy as np
import pytest

import minivae as mv
from minivae import inference, nn, ops
from minivae.cli import main
from minivae.data import Dataset
from minivae.errors import CheckpointError, ShapeError, UsageError
from minivae.evaluate import log_likelihood
from minivae.gradcheck import frozen, gradcheck
from minivae.objectives import Elbo, FreeBits, Iwae, TotalCorrelation

from . import stranger


def pictures(n=60):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (3, 4, 4, 3))
    images = np.clip(base[np.arange(n) % 3] + rng.integers(-20, 20, (n, 4, 4, 3)), 0, 255).astype(np.uint8)
    return Dataset("pictures", images[:-12], None, images[-12:], None)


@pytest.mark.parametrize("kind", [stranger.Mine, stranger.Heavy, stranger.Odd, stranger.Named])
def test_a_model_of_a_dozen_lines_goes_all_the_way(kind, tmp_path, capsys):
    data = pictures()
    make = (lambda seed: kind(3, mv.Stream(seed))) if kind is stranger.Named else lambda seed: kind(mv.Stream(seed))
    model = make(0)
    x = mv.data.to_float(data.test_images)
    for objective in (Elbo(2.0), Iwae(3)):
        report = gradcheck(frozen(objective, model, x[:3], mv.Stream(1)), elements=2, directions=1)
        assert report.ok, report
    np.savez(tmp_path / "pictures.npz", images=np.concatenate([data.train_images, data.test_images]))
    data = mv.data.load(tmp_path / "pictures.npz")
    source = {"name_or_path": str(tmp_path / "pictures.npz")}
    config = mv.TrainingConfig(epochs=4, batch_size=8, lr=2e-2)
    whole = mv.Run.start(tmp_path / "whole", data, model, config, source)
    whole.train(data)
    half = mv.Run.start(tmp_path / "half", data, make(0), mv.TrainingConfig(2, 8, 2e-2), source)
    half.train(data)
    resumed = mv.Run.open(tmp_path / "half", epochs=4, **({} if kind is stranger.Named else {"model": make(3)}))
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    assert whole.metrics[-1]["test"]["loss"] < whole.metrics[0]["test"]["loss"] - 1
    loaded = mv.load(tmp_path / "whole")  # by its import path: rng is passed, the rest comes from config()
    assert type(loaded) is kind
    np.testing.assert_array_equal(inference.reconstruct(loaded, x), inference.reconstruct(model, x))
    assert inference.sample(loaded, mv.Stream(0), 5).shape == (5, 4, 4, 3)
    assert inference.encode_mean(loaded, data.test_images).shape == (len(data.test_images), model.latent)
    assert mv.losses(loaded, data.test_images)["loss"] == pytest.approx(whole.metrics[-1]["test"]["loss"], rel=1e-6)
    assert np.isfinite(log_likelihood(loaded, x, mv.Stream(0), 5)).all()
    for command in (["sample"], ["reconstruct"], ["interpolate", "--count", "2"], ["evaluate", "--samples", "5"], ["gradcheck"]):
        assert main([command[0], str(tmp_path / "whole"), *command[1:]]) == 0, command
    assert "negative ELBO" in capsys.readouterr().out


def test_a_class_that_nobody_can_import_is_filled_as_an_instance(tmp_path):
    class Local(stranger.Mine):
        pass

    model = Local(mv.Stream(0))
    mv.save(model, tmp_path / "local.npz")
    with pytest.raises(UsageError, match=r"Local cannot be imported \(it was defined in a script.*pass an instance to fill"):
        mv.load(tmp_path / "local.npz")
    again = mv.load(tmp_path / "local.npz", Local(mv.Stream(9)))
    np.testing.assert_array_equal(again.net.w.data, model.net.w.data)
    with pytest.raises(ShapeError, match="another architecture"):
        mv.load(tmp_path / "local.npz", type("Longer", (Local,), {"latent": 3})(mv.Stream(9)))
    mv.save(mv.VAE((4, 4, 3), mv.Stream(0), latent=2, encoder=again.net, decoder=again.back), tmp_path / "own.npz")
    with pytest.raises(UsageError, match="pass an instance to fill"):
        mv.load(tmp_path / "own.npz")
    with pytest.raises(CheckpointError):
        mv.load(tmp_path / "nothing.npz")


def test_an_objective_of_ones_own_goes_all_the_way(tmp_path):
    data, config = pictures(), mv.TrainingConfig(epochs=3, batch_size=8, lr=1e-2)
    run = mv.Run.start(tmp_path / "run", data, {"latent": 2, "hidden": [8]}, config, objective=stranger.Squared(0.01))
    run.train(data)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["test"]["squared error"] < lines[0]["test"]["squared error"]
    again = mv.Run.open(tmp_path / "run", epochs=4)
    assert again.trainer.objective == stranger.Squared(0.01)
    again.train(data)
    with pytest.raises(UsageError, match="an objective that is a function cannot be kept"):
        mv.Run.start(tmp_path / "other", data, {"latent": 2}, config, objective=lambda model, x, rng: mv.elbo(model, x, rng))


def test_what_does_not_fit_is_said_before_a_folder_is_made(tmp_path):
    data = pictures()

    class Wrong(stranger.Mine):
        def decode(self, z):
            return mv.distributions.Bernoulli(ops.reshape(self.back(z), (*z.shape[:-1], 48)), event_ndim=1)

    with pytest.raises(ShapeError, match=r"x is \(2, 4, 4, 3\), one event is \(48,\)"):
        mv.Run.start(tmp_path / "run", data, Wrong(mv.Stream(0)))
    with pytest.raises(UsageError, match="total correlation needs one Gaussian"):
        mv.Run.start(tmp_path / "run", data, stranger.Odd(mv.Stream(0)), objective=TotalCorrelation())
    with pytest.raises(UsageError, match="Logistic has no terms"):
        mv.Run.start(tmp_path / "run", data, stranger.Odd(mv.Stream(0)), objective=FreeBits())
    assert not (tmp_path / "run").exists()


class Net(nn.Module):
    def __init__(self, inputs, outputs, shape, rng):
        self.first, self.last, self.shape = nn.Dense(inputs, 7, rng), nn.Dense(7, outputs, rng), shape

    def forward(self, x):
        return self.last(ops.tanh(self.first(x.reshape(len(x), -1)))).reshape(len(x), *self.shape)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2), (2, 2, 2, 2)])
def test_networks_of_ones_own_and_data_of_any_shape(shape):
    size, rng = int(np.prod(shape)), mv.Stream(0)
    x = np.random.default_rng(0).normal(size=(50, *shape)).astype(np.float32) * 0.3
    x[:, ...] += np.arange(50).reshape(50, *[1] * len(shape)) % 2
    model = mv.VAE(shape, rng, 2, likelihood="gaussian", encoder=Net(size, 4, (4,), rng), decoder=Net(2, size, shape, rng))
    plain = mv.VAE(shape, rng, 2, likelihood="gaussian", hidden=[8])
    for m in (model, plain):
        fitted = mv.fit(m, x, epochs=30, batch_size=10, lr=2e-2, progress=False)
        assert fitted.metrics[-1]["train"]["loss"] < fitted.metrics[0]["train"]["loss"]
        assert inference.reconstruct(m, x).shape == x.shape
        assert inference.sample(m, mv.Stream(1), 4).shape == (4, *shape)
        assert np.isfinite(inference.bound(m, x, mv.Stream(2), 5)).all()
        assert gradcheck(frozen(mv.elbo, m, x[:3], mv.Stream(3)), elements=1, directions=1).ok
    wrong = mv.VAE(shape, rng, 2, encoder=Net(size, 3, (3,), rng), decoder=Net(2, size, shape, rng))
    with pytest.raises(ShapeError, match=r"the encoder gives \(50, 3\) for 2 latents; need \(N, 4\)"):
        wrong.encode(x)
    wrong = mv.VAE(shape, rng, 2, encoder=Net(size, 4, (4,), rng), decoder=Net(2, size, (size, 1), rng))
    with pytest.raises(ShapeError, match=r"the decoder gives \(3, "):
        wrong.decode(np.zeros((3, 2), np.float32))


def test_what_does_not_make_a_vae_is_said():
    rng = mv.Stream(0)
    with pytest.raises(UsageError, match="one of encoder and decoder is missing"):
        mv.VAE((5,), rng, 2, encoder=Net(5, 4, (4,), rng))
    with pytest.raises(ShapeError, match="'conv' takes"):
        mv.VAE((5,), rng, 2, arch="conv")


def test_labels_masks_and_indices_reach_an_objective():
    seen = []

    class Looks(Elbo):
        def losses(self, players, batch, rng, progress):
            seen.append(batch)
            return super().losses(players, batch, rng, progress)

    x, labels = np.arange(20, dtype=np.float32).reshape(20, 1) / 20, np.arange(20) * 10
    masks = x > 0.5
    mv.Trainer(mv.VAE((1,), mv.Stream(0), 1, hidden=[2]), mv.TrainingConfig(batch_size=6), Looks()).epoch(x, labels, masks)
    assert [len(b.x) for b in seen] == [6, 6, 6, 2]
    for b in seen:
        np.testing.assert_array_equal(b.x, x[b.index])
        np.testing.assert_array_equal(b.label, labels[b.index])
        np.testing.assert_array_equal(b.mask, masks[b.index])


def test_layers_print_what_they_are():
    lines = repr(mv.VAE((4, 4, 1), mv.Stream(0), latent=2, hidden=[5])).splitlines()
    assert lines[0].startswith("VAE(")
    assert lines[0].endswith("  220 parameters")
    assert "    layers.1: Dense(w (16, 5), b (5,), activation='relu')  85 parameters" in lines
    assert repr(mv.distributions.Gaussian(np.zeros((7, 3)), np.zeros(3))) == "Gaussian(batch (7,), event (3,))"
    assert repr(mv.distributions.StandardGaussian(4)) == "StandardGaussian(batch (), event (4,))"
