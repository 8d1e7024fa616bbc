"""The denoising objective: at noise 0 the ELBO; its gradient; and that the encoder sees noise while the loss is of the clean image."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minivae as mv
from minivae import Stream, UsageError, gradients
from minivae.data import Batch
from minivae.objectives import Denoising, Elbo, trained

X = np.random.default_rng(0).uniform(size=(6, 4, 3, 1)).astype(np.float32)


def vae():
    return mv.VAE((4, 3, 1), Stream(1), latent=3, hidden=(5,), activation="tanh")


def loss(objective, model, seed=0):
    return objective.losses({"model": model}, Batch(X), Stream(seed), trained(6, ("model",)))[0]["model"]


def test_without_noise_it_is_the_elbo():
    """The draws of z come after those of the noise, so that only the mean over many agrees: 400 losses of each."""
    model = vae()
    for beta in (1.0, 3.0):
        ours = np.array([loss(Denoising(0.0, beta), model, seed).item() for seed in range(400)])
        theirs = np.array([loss(Elbo(beta), model, seed + 1000).item() for seed in range(400)])
        assert abs(ours.mean() - theirs.mean()) < 5 * np.hypot(ours.std(), theirs.std()) / 20


def test_the_encoder_sees_the_noise_and_the_decoder_is_judged_by_the_image():
    seen, judged = [], []

    class Watched(mv.VAE):
        def encode(self, x):
            seen.append(np.asarray(getattr(x, "data", x)))
            return super().encode(x)

        def decode(self, z):
            p = super().decode(z)
            log_prob = p.log_prob
            p.log_prob = lambda x: (judged.append(x), log_prob(x))[1]
            return p

    model = Watched((4, 3, 1), Stream(1), latent=3, hidden=(5,))
    for seed in range(200):
        loss(Denoising(0.7), model, seed)
    noise = np.stack(seen) - X
    assert (np.stack(judged) == X).all()
    n = noise.size
    assert abs(noise.mean()) < 5 * 0.7 / np.sqrt(n)
    assert abs(noise.std() / 0.7 - 1) < 5 / np.sqrt(2 * n)
    assert len(np.unique(noise)) > 0.9 * n  # fresh for each image and step


def test_what_is_reported_adds_up_to_the_loss_and_the_kl_comes_slowly():
    model = vae()
    for epochs, scale in ((1, 0.25), (2, 0.5), (9, 1.0)):
        progress = trained(6, ("model",))._replace(epochs=np.array(epochs, np.float32))
        losses, reports = Denoising(0.5, 2.0, kl_warmup=4).losses({"model": model}, Batch(X), Stream(3), progress)
        parts = (2.0 * scale * reports["kl"].data + reports["reconstruction"].data).mean()
        assert_allclose(losses["model"].item(), parts, rtol=1e-5)


def test_gradients_are_right():
    model = vae()
    model.to("cpu", np.float64)
    params = model.parameters()
    g = gradients(loss(Denoising(0.5, 2.0), model), params)
    rng = np.random.default_rng(0)
    for p, gp in zip(params, g, strict=True):  # a central difference along a random direction; the noise is the same, by its seed
        d, old, h = rng.normal(size=p.shape), p.data.copy(), 1e-6
        values = []
        for sign in (1, -1):
            p.data[...] = old + sign * h * d
            values.append(loss(Denoising(0.5, 2.0), model).item())
        p.data[...] = old
        assert_allclose((values[0] - values[1]) / (2 * h), (gp * d).sum(), rtol=1e-5, atol=1e-7)


def test_settings_are_checked():
    with pytest.raises(UsageError, match=r"noise is -1.0"):
        Denoising(-1.0)
