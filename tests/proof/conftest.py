"""Small VAEs, trained as users train, then widened to float64 so that an identity can be held to 1e-9."""

import functools

import numpy as np
import pytest

from minivae import VAE, Stream, Trainer, TrainingConfig


def bars(n, rng):
    """4x4 images of one horizontal or vertical bar, a pixel in ten flipped, as bytes.     -> (n, 4, 4, 1)"""
    lines = np.concatenate([np.eye(4)[:, :, None] * np.ones((1, 1, 4)), np.eye(4)[:, None, :] * np.ones((1, 4, 1))])
    images = lines[rng.integers(0, 8, n)]
    return (255 * np.where(rng.uniform(size=images.shape) < 0.1, 1 - images, images)).astype(np.uint8)[..., None]


@functools.cache
def train(latent):
    """Softplus has its poles at i pi, away from the real axis: Gauss-Hermite needs that."""
    images = bars(512, np.random.default_rng(latent))
    model = VAE((4, 4, 1), Stream(latent), latent=latent, hidden=(12,), activation="softplus")
    trainer = Trainer(model, TrainingConfig(batch_size=32, lr=3e-3))
    rows = [trainer.epoch(images)["loss"] for _ in range(25)]
    assert rows[-1] < 0.95 * rows[0]  # the encoder says something
    model.to(dtype=np.float64)
    return model, images[:4] / 255.0


@pytest.fixture(params=[1, 2], ids=["1-D", "2-D"])
def trained(request):
    """(model, x): one or two latents, four of its training images."""
    return train(request.param)


@pytest.fixture
def trained_line():
    """(model, x) with one latent."""
    return train(1)
