"""A head on a VAE's encoder: its features are those of the VAE, its gradient reaches the encoder, and the VAE stays as it was."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

import minivae as mv
from minivae import Stream, UsageError
from minivae.applications import draw_codes, telling
from minivae.data import Batch
from minivae.gradcheck import frozen, gradcheck
from minivae.models import CVAE, Classifier, EncoderClassifier, build, describe
from minivae.objectives import CrossEntropy, trained
from minivae.training import Trainer, TrainingConfig

X = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
Y = np.arange(40) % 3


def vae(arch="dense"):
    options = {"hidden": (7, 6)} if arch == "dense" else {"arch": "conv", "channels": (3,), "hidden": (6,)}
    return mv.VAE((8, 8, 1), Stream(0), latent=4, **options)


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_the_features_are_a_head_on_the_means(arch):
    model = vae(arch)
    made = EncoderClassifier.of(model, Stream(1), classes=3, width=5)
    codes = mv.inference.encode_mean(model, X)
    last = made.body.layers[-1]
    h = np.maximum(codes @ last.w.data + last.b.data, 0)
    assert_allclose(made.features(mv.data.to_float(X)).data, h, rtol=1e-4, atol=1e-6)
    logits = h @ made.head.w.data + made.head.b.data
    assert_allclose(made.log_prob(mv.data.to_float(X), Y).data, log_softmax(logits, axis=1)[np.arange(40), Y], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_fine_tuning_moves_the_copy_alone(arch):
    model = vae(arch)
    before = [p.data.copy() for p in model.parameters()]
    made = EncoderClassifier.of(model, Stream(1), classes=3)
    start = [p.data.copy() for p in made.parameters()]
    trainer = Trainer(made, TrainingConfig(epochs=60, batch_size=20, lr=3e-3), CrossEntropy())
    errors = [trainer.epoch(X, Y)["error"] for _ in range(60)]
    assert errors[-1] < errors[0]
    for p, a in zip(model.parameters(), before, strict=True):
        assert_array_equal(p.data, a)
    assert all((p.data != a).any() for p, a in zip(made.parameters(), start, strict=True))


def test_the_gradient_is_the_slope():
    made = EncoderClassifier.of(vae(), Stream(1), classes=3)

    def loss(model, x, rng):
        return CrossEntropy().losses({"model": model}, Batch(x, Y[:6]), rng, trained(6, ("model",)))[0]["model"]

    report = gradcheck(frozen(loss, made, mv.data.to_float(X[:6]), Stream(5)), elements=3, directions=2)
    assert report.ok, report


def test_the_loss_is_its_definition():
    made = EncoderClassifier.of(vae(), Stream(1), classes=3)
    x = mv.data.to_float(X)
    losses, reports = CrossEntropy().losses({"model": made}, Batch(x, Y), Stream(5), trained(40, ("model",)))
    logits = made.logits(x).data
    assert_allclose(losses["model"].item(), -log_softmax(logits, axis=1)[np.arange(40), Y].mean(), rtol=1e-5)
    assert_array_equal(reports["error"].data, logits.argmax(axis=1) != Y)


def test_it_is_described_and_built():
    made = EncoderClassifier.of(vae("conv"), Stream(1), classes=3)
    again = build(describe(made), Stream(7))
    assert (again.features(mv.data.to_float(X)).data != made.features(mv.data.to_float(X)).data).any()
    again.load_state(made.state())
    assert_array_equal(mv.inference.features(again, X), mv.inference.features(made, X))


def test_only_a_vae_has_such_an_encoder():
    with pytest.raises(UsageError, match="the model is CVAE; need a VAE"):
        EncoderClassifier.of(CVAE((8, 8, 1), Stream(0), condition=3, hidden=(4,)), Stream(1))


def test_codes_are_draws_of_the_encoder():
    model = vae()
    z = draw_codes(model, np.repeat(X[:1], 4000, axis=0), Stream(3))
    q = model.encode(mv.data.to_float(X[:1]))
    mean, sigma = q.mean.data[0], np.exp(q.logvar.data[0] / 2)
    assert (abs(z.mean(axis=0) - mean) < 5 * sigma / np.sqrt(4000)).all()
    assert (abs(z.std(axis=0) / sigma - 1) < 5 / np.sqrt(8000)).all()
    keep = np.array([True, False, True, False])
    assert_array_equal(draw_codes(model, X, Stream(3), keep), draw_codes(model, X, Stream(3))[:, keep])


def test_latents_that_tell_nothing_are_left_out():
    model = vae()
    last = model.encoder.layers[-1]
    last.w.data[:, 1] = 0
    last.w.data[:, [0, 2, 3]] *= 20
    assert_array_equal(telling(model, X), [True, False, True, True])
    last.w.data[...] = 0
    with pytest.raises(UsageError, match="no latent tells these images apart"):
        telling(model, X)


def test_a_frozen_encoder_is_a_classifier_of_codes():
    codes = mv.inference.encode_mean(vae(), X)
    made = Classifier((4,), Stream(1), classes=3, arch="dense")
    Trainer(made, TrainingConfig(epochs=1), CrossEntropy()).epoch(codes, Y)
    assert mv.inference.classify(made, codes).shape == (40,)
