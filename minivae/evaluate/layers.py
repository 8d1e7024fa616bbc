"""What an image costs at every level of noise: the terms of a diffusion's bound."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import to_device, xp
from ..data import to_float
from ..engine import no_grad
from ..errors import UsageError
from ..nn import evaluating
from ..objectives.diffusion import terms
from ..random import Stream


@dataclass(frozen=True)
class LayerCosts:
    """-log p(x) <= reconstruction + layers + prior, in nats an image.

    gamma     (N, draws) the log of noise over signal of each layer that was drawn
    layers    (N, draws) that layer's KL times the number of layers: an estimate of their sum
    prior, reconstruction    (N,)
    """

    gamma: np.ndarray
    layers: np.ndarray
    prior: np.ndarray
    reconstruction: np.ndarray
    low: float
    high: float

    @property
    def bound(self) -> np.ndarray:
        """(N,) nats"""
        return self.layers.mean(axis=1) + self.prior + self.reconstruction

    def by_noise(self, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges of gamma (bins + 1,), the nats that the layers between two edges cost an image, and their standard errors: they add up to
        the mean of `layers`."""
        edges = np.linspace(self.low, self.high, bins + 1)
        whole = (self.gamma - self.low) / (self.high - self.low) * bins
        at = np.clip(np.ceil(whole - 1e-6).astype(int) - 1, 0, bins - 1)  # a layer ends at its t: one at an edge belongs below it
        each = np.stack([np.where(at == k, self.layers, 0.0).mean(axis=1) for k in range(bins)])
        return edges, each.mean(axis=1), each.std(axis=1) / math.sqrt(len(self.layers))


def layer_costs(model: Any, images: Any, rng: Stream, draws: int = 4, layers: int = 1000, batch: int = 100) -> LayerCosts:
    """The terms of the bound of a Diffusion of so many layers, by some draws of a layer an image.     bytes or [0, 1], (N, *image_shape)

    D. P. Kingma et al., "Variational diffusion models", 2021, eq. 11-14"""
    if not hasattr(model, "noise") or not len(images) or draws < 1 or layers < 1:
        raise UsageError(f"layer_costs: {len(images)} images, {draws} draws, {layers} layers; need one each, and a model with noise(z, t)")
    rows: list[list[np.ndarray]] = []
    with no_grad(), evaluating(model):
        own = model.parameters()[0].data
        for start in range(0, len(images), batch):
            x = to_device(to_float(images[start : start + batch]), "cpu" if xp(own) is np else "cuda").astype(own.dtype)
            found = [terms(model, x, rng, layers) for _ in range(draws)]
            t, nats = (np.stack(a, axis=1) for a in ([to_device(f.t, "cpu") for f in found], [f.squares.numpy() * f.weight for f in found]))
            reconstruction = np.mean([f.reconstruction.numpy() for f in found], axis=0)
            rows.append([np.asarray(model.gamma(t.astype(float))), nats.astype(float), found[0].top.numpy().astype(float), reconstruction])
    gamma, nats, prior, reconstruction = (np.concatenate(part) for part in zip(*rows, strict=True))
    return LayerCosts(gamma, nats, prior, reconstruction, model.low, model.high)
