"""The density sums to one and is the difference of distribution functions; the codec learns, and rounds when it is judged."""

import numpy as np
import pytest
import scipy.stats

import minivae as mv
from minivae.errors import ShapeError, UsageError
from minivae.models import Codec, Factorized
from minivae.objectives import RateDistortion
from minivae.training import Trainer, TrainingConfig

rng = np.random.default_rng(0)


def density(channels=3, components=2):
    made = Factorized(channels, components).to(dtype=np.float64)
    for parameter in made.parameters():
        parameter.data[...] = rng.normal(0, 1, parameter.shape)
    return made


def test_the_density_of_all_integers_sums_to_one():
    y = np.arange(-400.0, 401.0)[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(np.exp(density().log_prob(y).data).sum(axis=0), 1, rtol=1e-12)


def test_the_density_is_a_difference_of_distribution_functions():
    p, y = density(), rng.normal(0, 3, (5, 3))
    w = np.exp(p.logits.data) / np.exp(p.logits.data).sum(axis=0)
    m, s = p.means.data, np.exp(p.log_scales.data)
    cdf = lambda t: (w * scipy.stats.logistic(m, s).cdf(t[:, None, :])).sum(axis=1)  # noqa: E731
    np.testing.assert_allclose(np.exp(p.log_prob(y).data), cdf(y + 0.5) - cdf(y - 0.5), rtol=1e-9)
    far = p.log_prob(np.full((1, 3), 1e4)).data  # where the difference of two ones is 0: the slope of the widest component remains
    np.testing.assert_allclose(far, (-(1e4 - m) / s).max(axis=0)[None], rtol=0.01)


def tiny(image_shape=(32, 48, 3)):
    return Codec(image_shape, mv.Stream(0), channels=4, latent=5, components=2)


def test_shapes_and_what_is_refused():
    model = tiny()
    y = model.analysis(np.zeros((2, 32, 48, 3), np.float32))
    assert y.shape == (2, 2, 3, 5)
    assert model.synthesis(y).shape == (2, 32, 48, 3)
    assert model.bits(y).shape == (2,)
    with pytest.raises(ShapeError, match=r"\(2, 30, 48, 3\); need \(N, H, W, 3\), sides multiples of 16"):
        model.analysis(np.zeros((2, 30, 48, 3), np.float32))
    with pytest.raises(UsageError, match="latent 0"):
        Codec((32, 32, 3), mv.Stream(0), latent=0)
    with pytest.raises(ShapeError, match=r"\(32, 32\); need \(height"):
        Codec((32, 32), mv.Stream(0))


def test_noise_in_training_and_rounding_afterwards():
    model = tiny()
    y = mv.Tensor(rng.normal(0, 5, (2, 50, 50, 5)).astype(np.float32))
    off = model.quantized(y, mv.Stream(1)).data - y.data
    assert abs(off).max() <= 0.5 + 1e-6
    assert abs(off.var() - 1 / 12) < 4 * (1 / 180 / off.size) ** 0.5  # the variance of (u - 1/2)^2 is 1/180
    model.train(False)
    np.testing.assert_array_equal(model.quantized(y, mv.Stream(1)).data, np.rint(y.data))


def test_the_loss_is_its_definition():
    model, x = tiny((16, 32, 3)).train(False), rng.random((3, 16, 32, 3)).astype(np.float32)
    y = np.rint(model.analysis(x).data)
    bpp = -model.density.log_prob(y).data.sum(axis=(1, 2, 3)) / np.log(2) / 512
    mse = ((model.synthesis(y).data - x) ** 2).mean(axis=(1, 2, 3))
    losses, reports = RateDistortion(0.01).losses({"model": model}, mv.data.Batch(x), mv.Stream(0), None)
    np.testing.assert_allclose(reports["bpp"].data, bpp, rtol=1e-5)
    np.testing.assert_allclose(reports["mse"].data, mse, rtol=1e-5)
    np.testing.assert_allclose(losses["model"].data, (bpp + 0.01 * 255**2 * mse).mean(), rtol=1e-5)


def test_it_learns_and_a_recorded_step_is_the_written_one():
    x = np.zeros((64, 16, 16, 3), np.uint8) + rng.integers(0, 256, (64, 1, 1, 3)).astype(np.uint8)  # plain colours
    model = Codec((16, 16, 3), mv.Stream(0), channels=8, latent=8)
    trainer = Trainer(model, TrainingConfig(epochs=30, batch_size=8, lr=3e-3), RateDistortion(0.01))
    before = trainer.evaluate(x)
    for _ in range(30):
        trainer.epoch(x)
    after = trainer.evaluate(x)
    assert not trainer.why_eager
    assert after["loss"] < before["loss"] / 4, (before, after)


def test_it_is_kept(tmp_path):
    model = tiny()
    mv.save(model, tmp_path / "codec.npz")
    again = mv.load(tmp_path / "codec.npz")
    assert again.config() == model.config()
    x = rng.random((1, 32, 48, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.analysis(x).data, model.analysis(x).data)
