"""The variational bound of a diffusion, by one layer an image and step."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from .. import ops
from ..backend import xp
from ..engine import constant_of
from ..errors import UsageError
from .base import Objective, setting

GOALS = ("bound", "noise")


@dataclass(frozen=True)
class NoisePrediction(Objective):
    """-log p(x) <= -E log p(x | z_0) + KL(q(z_1 | x) || N(0, I)) + sum_t KL(q(z_s | z_t, x) || p(z_s | z_t)),

    of whose T terms, T/2 E expm1(g_t - g_s) |noise - eps(z_t, t)|^2 on average, each image of a batch has one: times that are spread
    evenly over the batch from a random start.  Only these have a gradient: the schedule is fixed.

    goal "bound" minimises it;  "noise" |noise - eps|^2 as it stands, which forgets the layers of little noise, that nobody sees, and is
    no bound; the reports are the bound's in either case.
    D. P. Kingma et al., "Variational diffusion models", 2021, eq. 11-14 and appendix I.1; J. Ho et al., "DDPM", 2020, eq. 14
    """

    name: ClassVar[str] = "noise_prediction"
    default_for: ClassVar[tuple[str, ...]] = ("diffusion",)
    needs: ClassVar[tuple[str, ...]] = ("noise", "gamma", "decode")

    goal: str = setting("bound", "what a diffusion's network minimises", choices=GOALS)
    layers: int = setting(1000, "steps of a diffusion that the bound is of", 1, "T")
    ema: float = setting(0.999, "of the average of the network's weights, how much stays at each step", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ema < 1:
            raise UsageError(f"ema is {self.ema}; need 0 <= ema < 1")

    def losses(self, players, batch, rng, progress):
        model = players["model"]
        model.move_average(self.ema)
        found = terms(model, batch.x, rng, self.layers)
        kl, reconstruction = found.squares * found.weight + found.top, found.reconstruction
        loss = (kl + reconstruction).mean() if self.goal == "bound" else found.squares.mean()
        return {"model": loss}, {"reconstruction": reconstruction, "kl": kl}

    def summary(self, measures):
        return f"= {measures['reconstruction']:.2f} + {measures['kl']:.2f}" if self.goal == "bound" else f"bound {bound_of(measures):.2f}"


class Terms(NamedTuple):
    """Of each image: what the bound is made of, in nats."""

    t: Any  # (N,) the time of the layer that was drawn
    squares: Any  # (N,) |noise - eps(z_t, t)|^2
    weight: float  # times which they are an estimate of the sum over all layers
    top: Any  # (N,) KL of the last layer
    reconstruction: Any  # (N,) -log p(x | z_0)


def terms(model: Any, x: Any, rng: Any, layers: int) -> Terms:
    """One layer an image, the layers of a batch spread evenly.     x (N, *image_shape)"""
    y = constant_of(model.to_code, x).data
    t = constant_of(spread, rng.uniform((1,), like=x), len(x), layers).data
    noise = rng.normal(y.shape, like=x)
    z = constant_of(noisy, y, noise, t, model.low, model.high).data
    squares = ops.square(model.noise(z, t) - noise).sum(axis=1)
    weight = layers / 2 * math.expm1((model.high - model.low) / layers)
    z_0 = constant_of(noisy, y, rng.normal(y.shape, like=x), constant_of(zeros, t).data, model.low, model.high)
    return Terms(t, squares, weight, constant_of(prior_kl, y, model.high), -model.decode(z_0).log_prob(x))


def bound_of(measures: Any) -> float:
    return measures["reconstruction"] + measures["kl"]


def spread(u: Any, n: int, layers: int) -> Any:
    """One of the times 1/T ... 1 an image, spread evenly: ceil(T ((u + i/n) mod 1)) / T, at least 1/T.     (1,) -> (n,)"""
    module = xp(u)
    even = (u + module.arange(n, dtype=u.dtype) / n) % 1
    return module.maximum(module.ceil(even * layers), 1).astype(u.dtype) / u.dtype.type(layers)


def noisy(y: Any, noise: Any, t: Any, low: float, high: float) -> Any:
    """a y + s noise at time t.     (N, D), (N, D), (N,) -> (N, D)"""
    module = xp(y)
    gamma = (low + (high - low) * t)[:, None]
    signal, scale = (module.exp(-0.5 * module.logaddexp(0, sign * gamma)) for sign in (1, -1))
    return (signal * y + scale * noise).astype(y.dtype)


def prior_kl(y: Any, gamma: float) -> Any:
    """KL(N(a y, s^2) || N(0, 1)) at the last time: 1/2 sum a^2 y^2 + s^2 - 1 - log s^2.     (N, D) -> (N,)"""
    log_variance = -math.log1p(math.exp(-gamma))
    constant = math.expm1(log_variance) - log_variance
    return 0.5 * (y * y / (1 + math.exp(gamma)) + constant).sum(axis=1)


def zeros(t: Any) -> Any:
    return xp(t).zeros_like(t)
