"""Where mistakes are let loose: small images, a small model, a short training, and figures that no bug takes part in.

The images are sprites (a square, an ellipse or a heart at any place, size and angle) of 16 by 16 gray pixels.  A training takes a second.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..data import batches, to_float
from ..data.sprites import CANVAS, draw
from ..distributions import Gaussian, StandardGaussian, kl
from ..engine import Tensor, gradients, no_grad
from ..evaluate import active_units, log_likelihood
from ..models import VAE
from ..random import Stream
from ..training import SGD, Adam, losses

SIDE = 16  # pixels
TRAIN, TEST = 2000, 300  # images
LATENT, HIDDEN, BATCH, EPOCHS = 6, 64, 100, 15

Loss = Callable[[Any, Any, Stream], Tensor]  # (model, x, rng) -> nats per image


@functools.cache
def sprites() -> tuple[np.ndarray, np.ndarray]:
    """Images to train and to test with.     -> (2000, 16, 16, 1), (300, 16, 16, 1) uint8"""
    u = Stream(0).split("sprites of the zoo").uniform((4, TRAIN + TEST))
    kind = np.arange(TRAIN + TEST) % 3
    images = draw(kind, 0.5 + 0.5 * u[0], 2 * math.pi * u[1], u[2], u[3])
    part = CANVAS // SIDE
    small = images.reshape(-1, SIDE, part, SIDE, part, 1).mean(axis=(2, 4)).round().astype(np.uint8)
    return small[:TRAIN], small[TRAIN:]


def fresh_model(latent: int = LATENT, likelihood: str = "bernoulli") -> VAE:
    return VAE((SIDE, SIDE, 1), Stream(0).split("weights"), latent=latent, hidden=(HIDDEN,), likelihood=likelihood)


def train(loss: Loss, sgd: float | None = None, model: Any = None, epochs: int = EPOCHS, lr: float = 3e-3) -> Any:
    """A model trained with the loss by Adam, or by SGD with the given learning rate."""
    model = fresh_model() if model is None else model
    params = model.parameters()
    optimizer = Adam(params, lr) if sgd is None else SGD(params, sgd)
    root = Stream(1)
    noise, order = root.split("noise"), root.split("order")
    for _ in range(epochs):
        for x in batches(sprites()[0], BATCH, order):
            optimizer.step(gradients(loss(model, x, noise), params))
    return model


def figures(model: Any) -> dict[str, float]:
    """The model judged by the library: nats per test image, and how many latents it uses."""
    _, test = sprites()
    x = to_float(test)
    return {
        "-ELBO of test images (nats)": losses(model, test)["loss"],
        "-log p(x), 100 samples (nats)": -float(log_likelihood(model, x, Stream(2), 100).mean()),
        "active latents": float(active_units(model.encode(x).mean.data).sum()),
    }


def tested(loss: Loss, model: Any) -> float:
    """The loss of the test images, as it was trained."""
    model.train(False)
    x, rng = to_float(sprites()[1]), Stream(2)
    with no_grad():
        return float(np.mean([loss(model, part, rng).item() for part in np.split(x, TEST // BATCH)]))


def closed_kl(mean: Any, logvar: Any) -> Tensor:
    """KL(N(mean, e^logvar) || N(0, I)), the right one.     (N, K) -> (N,)"""
    return kl(Gaussian(mean, logvar), StandardGaussian())


def average(log_px: Any, divergence: Any) -> Tensor:
    """The negative ELBO.     (N,), (N,) -> ()"""
    return (divergence - log_px).mean()


def log_px_of(distribution: Any, x: Any) -> Tensor:
    return distribution.log_prob(x)


def loss_with(
    sample: Callable[..., Any] = ops.reparameterize,
    divergence: Callable[..., Any] = closed_kl,
    log_px: Callable[..., Any] = log_px_of,
    total: Callable[..., Any] = average,
) -> Loss:
    """The negative ELBO, of parts that a mistake may take the place of.

    sample(mean, logvar, eps) -> z;  divergence(mean, logvar) -> (N,);  log_px(p(x | z), x) -> (N,);  total(log_px, divergence) -> ()
    """

    def loss(model: Any, x: Any, rng: Stream) -> Tensor:
        q = model.encode(x)
        z = sample(q.mean, q.logvar, rng.normal(q.mean.shape, like=q.mean.data))
        return total(log_px(model.decode(z), x), divergence(q.mean, q.logvar))

    return loss
