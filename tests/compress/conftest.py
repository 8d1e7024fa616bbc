import numpy as np
import pytest

from minivae import VAE, Stream
from minivae.compress import BitsBack


def model_of(likelihood="bernoulli", shape=(5, 4, 1), **options):
    """A small model with weights that spread its pixels; nothing is trained."""
    model = VAE(shape, Stream(3), latent=3, hidden=(6,), likelihood=likelihood, **options)
    for p in model.parameters():
        p.data *= 2
    return model


def images_of(likelihood="bernoulli", n=23, shape=(5, 4, 1), seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)
    return np.where(x > 100, np.uint8(255), np.uint8(0)) if likelihood == "bernoulli" else x


@pytest.fixture(scope="session")
def coder():
    return BitsBack(model_of())
