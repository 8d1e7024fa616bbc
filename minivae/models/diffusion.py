"""Diffusion: a hierarchical VAE of T layers, whose encoder is fixed and adds noise, and whose decoder predicts that noise.

    q(z_t | x) = N(a y, s^2),  s^2 = sigmoid(g),  a^2 = sigmoid(-g),  g from g_0 to g_1 linear in t = 0 ... 1,  y = 2 x - 1 for pixels
    p(z_1) = N(0, I),  p(z_s | z_t) = q(z_s | z_t, x = the guess),  the guess being (z_t - s eps(z_t, t)) / a
    p(x | z_0) prop. to q(z_0 | x), over the levels that a pixel may have

J. Sohl-Dickstein et al. 2015; J. Ho et al., "DDPM", 2020; D. P. Kingma et al., "Variational diffusion models", 2021, whose notation it is.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import to_device, xp
from ..distributions import Distribution, Gaussian, NoisyLevels, level_moments
from ..engine import Tensor, constant_of, no_grad
from ..errors import ShapeError, UsageError
from ..nn import Average, FilmMLP, Module, UNet
from ..random import Stream
from .networks import arguments_of

ARCHITECTURES = ("dense", "unet")
FOURIER = (6, 7)  # waves of 2^n pi that the network sees a pixel by: at little noise what matters are its last digits


class Diffusion(Module):
    """The decoder of all layers, one network that is told the time, and its moving average, which evaluation and samples take.

    image_shape   (H, W, C) pixels in [0, 1], of `levels` levels; or any shape of numbers, which should have a variance of about 1
    arch          "dense": layers of `hidden` units;  "unet": residual blocks with `channels`, the largest image first
    levels        of a pixel, k / (levels - 1); 0 for numbers that are not rounded: p(x | z_0) is then a Gaussian density
    steps         layers, T, that samples are drawn through
    eta           noise of a step of sampling: 1 that of p(z_s | z_t), 0 none (J. Song et al., "DDIM", 2021)
    detail        d: where the noise is larger, the network guesses x as a whole; where it is smaller, what to change of z_t.  By default
                  0.1 for pixels, whose edges are sharp, and 1 for numbers, where F is the "v" of other programs
    low, high     g at t = 0 and at t = 1: the log of noise over signal, and minus the log of the signal-to-noise ratio
    frequencies   how often each level occurs, `level_frequencies(images, levels)`: the network then starts from what a pixel's noisy value
                  tells of it by itself, instead of what it would if pixels were Gaussian, and says what its surroundings add
    """

    buffers: tuple[str, ...] = ()
    looked_at = 0  # samples that the alarm for mode collapse may ask for: each is a hundred passes
    top = 0

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        arch: str = "dense",
        hidden: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        levels: int | None = None,
        steps: int = 100,
        eta: float = 1.0,
        low: float = -13.3,
        high: float = 5.0,
        detail: float | None = None,
        frequencies: Sequence[float] | None = None,
    ):
        self.image_shape = tuple(int(n) for n in image_shape)
        self.levels = (256 if len(self.image_shape) == 3 else 0) if levels is None else levels
        if arch not in ARCHITECTURES or (arch == "unet" and len(self.image_shape) != 3):
            raise UsageError(f"Diffusion: arch is {arch!r} for {self.image_shape}; choose dense, or unet for images (H, W, C)")
        if (arch == "unet" and hidden) or (arch == "dense" and channels):
            raise UsageError(f"Diffusion: hidden {hidden}, channels {channels}; dense networks take hidden, a U-Net channels")
        if not len(image_shape) or min(image_shape) < 1 or self.levels == 1 or self.levels < 0:
            raise UsageError(f"Diffusion: image_shape is {self.image_shape}, levels is {self.levels}; need 1 each, and 0 or 2 levels")
        if steps < 1 or not 0 <= eta <= 1 or not -30 <= low < high <= 30:
            raise UsageError(
                f"Diffusion: steps {steps}, eta {eta}, low {low}, high {high}; need 1 step, eta in [0, 1], -30 <= low < high <= 30"
            )
        self.arch, self.steps, self.eta, self.low, self.high = arch, steps, float(eta), float(low), float(high)
        self.detail = (0.1 if self.levels else 1.0) if detail is None else float(detail)
        if not 0 < self.detail <= 1:
            raise UsageError(f"Diffusion: detail is {self.detail}; need more than 0, and 1 at most")
        self.latent = math.prod(self.image_shape)  # z_0 has as many numbers as x
        self.hidden = tuple((256, 256, 256) if hidden is None else hidden) if arch == "dense" else ()
        self.channels = tuple((16, 32, 64) if channels is None else channels) if arch == "unet" else ()
        self.log_frequency: Any = None
        if frequencies is not None:
            given = np.asarray(frequencies, np.float64)
            if not self.levels or given.shape != (self.levels,) or not (np.isfinite(given).all() and given.min() > 0):
                raise UsageError(
                    f"Diffusion: frequencies are {given.shape}, the least {given.min(initial=1):g}, for {self.levels} levels; "
                    "need a positive number for each level"
                )
            self.log_frequency, self.buffers = np.log(given / given.sum()).astype(np.float32), ("log_frequency",)
        seen = 3 if self.log_frequency is not None else 1 + (2 * len(FOURIER) if self.levels else 0)  # numbers for each number of z
        self.net: Any
        if arch == "dense":
            self.net = FilmMLP(seen * self.latent, self.latent, rng, self.hidden)
        else:
            *size, depth = self.image_shape
            self.net = UNet(size, seen * depth, depth, rng, self.channels)
        self.average = Average(self.net)

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again."""
        own = ("image_shape", "hidden", "channels", "arch", "levels", "steps", "eta", "low", "high", "detail")
        alone = None if self.log_frequency is None else np.exp(to_device(self.log_frequency, "cpu").astype(float)).tolist()
        return arguments_of(self, *own) | {"frequencies": alone}

    def gamma(self, t: Any) -> Any:
        """log s^2 / a^2 at time t, linear."""
        return self.low + (self.high - self.low) * t

    def noise(self, z: Any, t: Any) -> Any:
        """eps(z_t, t) = (z_t - a x) / s, the noise in z_t, with the guess x = z_t / a d^2 / (r^2 + d^2) + F r / (r^2 + d^2)^1/2 by what the
        network says, F; r = s / a is the noise, and d the `detail`.  By the weights while training, by their average afterwards.
        z (N, D), t (N,) -> (N, D)        after T. Karras et al., "Elucidating the design space of diffusion models", 2022, eq. 7

        With `frequencies`, x = m + c F, by m = E[x | z_t] of each pixel by itself and about its standard deviation, c: see by_itself."""
        net = self.net if self.training else self.average
        data = z.data if isinstance(z, Tensor) else z
        if self.log_frequency is not None:
            alone = constant_of(by_itself, data, t, self.low, self.high, self.log_frequency).data
            h, of_z, of_f = (constant_of(part, data, alone, which) for which in range(3))
        else:
            h = constant_of(with_waves, data, FOURIER) if self.levels else z
            of_z, of_f = (constant_of(shares, t, self.low, self.high, self.detail, which) for which in (0, 1))  # (N, 1)
            of_z = ops.multiply(z, of_z)
        if self.arch == "unet":
            h = ops.reshape(h, (len(z), *self.image_shape[:2], -1))
        return of_z - ops.reshape(net(h, t), (len(z), self.latent)) * of_f

    def to_code(self, x: Any) -> Any:
        """What z_t is the noisy version of: pixels from -1 to 1, other numbers as they are.     (N, *image_shape) -> (N, D)"""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"Diffusion: x is {tuple(x.shape)}, the model's are {self.image_shape}; need (N, *{self.image_shape})")
        flat = x.reshape(len(x), self.latent)
        return flat * 2 - 1 if self.levels else flat

    @property
    def prior(self) -> "Chain":
        """p(z_0) by its samples: from noise down through all layers."""
        return Chain(self, self.steps, self.eta)

    def decode(self, z: Any) -> Any:
        """p(x | z_0).     z_0 (..., D) -> parameters (..., *image_shape)"""
        if z.shape[-1] != self.latent:
            raise ShapeError(f"Diffusion.decode: z is {tuple(z.shape)}, the model has {self.latent} numbers; need (..., {self.latent})")
        a, s = scales(self.gamma(0.0))
        mean = ops.reshape(ops.multiply(z, 1 / a), (*z.shape[:-1], *self.image_shape))
        if self.levels:
            return NoisyLevels(mean * 0.5 + 0.5, s / a / 2, self.levels, event_ndim=len(self.image_shape))
        return Gaussian(mean, 2 * math.log(s / a), len(self.image_shape))

    def move_average(self, decay: float) -> None:
        """average <- decay average + (1 - decay) weights, while training; see nn.Average."""
        if self.training:
            self.average.follow(self.net, decay)


def scales(gamma: float) -> tuple[float, float]:
    """(a, s), the scales of the signal and of the noise: a^2 = sigmoid(-g), s^2 = sigmoid(g)"""
    return math.exp(-0.5 * np.logaddexp(0, gamma)), math.exp(-0.5 * np.logaddexp(0, -gamma))


def shares(t: Any, low: float, high: float, detail: float, which: int) -> Any:
    """What z_t and F are multiplied with to make eps: r^2 / (s (r^2 + d^2)) = 1 / (s (1 + d^2 e^-g)), or (r^2 + d^2)^-1/2.
    (N,) -> (N, 1)"""
    module = xp(t)
    g = (low + (high - low) * t.astype(np.float64))[:, None]
    if which == 0:
        return (module.exp(0.5 * module.logaddexp(0, -g)) / (1 + detail**2 * module.exp(-g))).astype(t.dtype)
    return ((module.exp(g) + detail**2) ** -0.5).astype(t.dtype)


LEAST = 0.1  # of a Gaussian pixel's standard deviation: what c is at least, so that a network may overrule what is all but sure


def by_itself(z: Any, t: Any, low: float, high: float, log_frequency: Any) -> Any:
    """What z_t tells of each pixel without the others:  m = E[x | z_t];  u = c / (that of a Gaussian pixel of the same variance V), where
    c^2 = Var[x | z_t] + (LEAST r)^2 V / (V + r^2);  (z_t - a m) / s;  and a c / s.     (N, D), (N,) -> (4, N, D)"""
    module = xp(z)
    g = low + (high - low) * t.astype(np.float64)
    a, s = (module.exp(-0.5 * module.logaddexp(0, sign * g)).astype(z.dtype)[:, None] for sign in (1, -1))
    mean, variance = level_moments(z, a[:, 0], s[:, 0], log_frequency)
    values = module.linspace(-1, 1, len(log_frequency))
    p = module.exp(log_frequency.astype(np.float64))
    whole = (p * module.square(values - (p * values).sum())).sum()
    gauss = (module.sqrt(whole / (whole + module.exp(g))))[:, None].astype(z.dtype)  # times r: its standard deviation
    c = module.sqrt(module.square(variance**0.5 * (a / s)) + module.square(z.dtype.type(LEAST) * gauss))  # times a / s
    return module.stack([mean, c / gauss, (z - a * mean) / s, c]).astype(z.dtype)


def part(z: Any, alone: Any, which: int) -> Any:
    """What of `by_itself` the network sees, z beside it, what it starts from, and what its word is multiplied with."""
    if which:
        return alone[1 + which].copy()
    module = xp(z)
    return module.stack([z, alone[0], alone[1]], axis=-1).reshape(len(z), -1)


def level_frequencies(images: Any, levels: int = 256) -> list[float]:
    """The share of pixels at each level, one more counted of each, so that none is impossible.     bytes or [0, 1] -> (levels,)"""
    k = np.asarray(images)
    k = k if k.dtype == np.uint8 else np.rint(k * (levels - 1)).astype(int)
    counts = np.bincount(k.reshape(-1), minlength=levels) + 1.0
    return [float(n) for n in counts / counts.sum()]


def with_waves(z: Any, powers: Sequence[int]) -> Any:
    """z, and sin and cos of 2^n pi z, each pixel's beside it: see FOURIER.     (N, D) -> (N, D (1 + 2 powers))

    D. P. Kingma et al. 2021, appendix C."""
    module = xp(z)
    waves = [f(z * z.dtype.type(math.pi * 2**n)) for n in powers for f in (module.sin, module.cos)]
    return module.stack([z, *waves], axis=-1).reshape(len(z), -1)


class Chain(Distribution):
    """p(z_0) of a diffusion: its samples are N(0, I), carried through `steps` layers.  Of its density there is but a bound.

    z_s = a_s x + sqrt(s_s^2 - v) eps + sqrt(v) noise,  v = eta^2 s_s^2 / s_t^2 (1 - a_t^2 / a_s^2),  x the guess from z_t, in the range
    of pixels if there are levels.  eta = 1 is p(z_s | z_t), and eta = 0 has no noise but that of z_1.        J. Song et al. 2021, eq. 12
    """

    event_ndim = 1

    def __init__(self, model: Diffusion, steps: int, eta: float):
        self.model, self.steps, self.eta = model, steps, eta

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.model.latent,)

    def sample(self, rng: Stream, n: int | tuple[int, ...] = (), like: Any = None) -> Tensor:
        """-> (*n, D), a constant"""
        lead = (n,) if isinstance(n, int) else tuple(n)
        z = rng.normal((math.prod(lead), self.model.latent), like=like)
        with no_grad():
            for i in range(self.steps, 0, -1):
                z = self.step(z, i / self.steps, (i - 1) / self.steps, rng)
        return constant_of(reshaped, z, (*lead, self.model.latent))

    def step(self, z: Any, t: float, s: float, rng: Stream) -> Any:
        """z_t -> z_s.     (N, D) -> (N, D)"""
        (a_t, s_t), (a_s, s_s) = scales(self.model.gamma(t)), scales(self.model.gamma(s))
        eps = self.model.noise(z, xp(z).full(len(z), t, z.dtype)).data
        x = (z - s_t * eps) / a_t
        if self.model.levels:
            x = x.clip(-1, 1)
            eps = (z - a_t * x) / s_t
        v = self.eta**2 * (s_s / s_t) ** 2 * -math.expm1(2 * math.log(a_t / a_s))
        z = a_s * x + math.sqrt(max(s_s**2 - v, 0.0)) * eps
        return (z if v == 0 else z + math.sqrt(v) * rng.normal(z.shape, like=z)).astype(eps.dtype)


def reshaped(z: Any, shape: tuple[int, ...]) -> Any:
    return z.reshape(shape).copy()
