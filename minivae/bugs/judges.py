"""Checks that several mistakes share, each by something that knows nothing of the implementation: an integral, a sum over all images."""

import functools
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from ..distributions import Gaussian, StandardGaussian
from ..engine import no_grad
from ..models import VAE
from ..quadrature import kl_by_integration, log_marginal, posterior_kl
from ..random import Stream
from .mistake import Finding, relative

ROUNDING = 1e-9  # of a quantity near 1 that was integrated in float64; a mistake is 1e-3 and more
X = np.array(list(product([0.0, 1.0], repeat=4)))[[1, 6, 11]].reshape(3, 2, 2, 1)  # three images of four pixels
MEAN, LOGVAR = np.array([[0.5, -1.2], [0.0, 2.0]]), np.array([[-1.0, 0.7], [-3.0, 0.0]])  # of two posteriors, both of two latents


@functools.cache
def tiny() -> VAE:
    """A VAE of images of four pixels with one latent, in float64: log p(x) and p(z | x) of it are integrals on a line."""
    model = VAE((2, 2, 1), Stream(3).split("weights"), latent=1, hidden=(4,), activation="tanh")
    model.to(dtype=np.float64)
    for p in model.parameters():
        p.data *= 2.5  # fresh weights are small, and z would mean little
    return model


class GivenNoise(Stream):
    """A stream that draws one and the same number for ever."""

    def __init__(self, number: float):
        super().__init__(0)
        self.number = number

    def normal(self, shape: Any, like: Any = None) -> np.ndarray:
        return np.full(shape, self.number)


def over_the_noise(f: Callable[[float], Any]) -> Any:
    """E[f(eps)], eps ~ N(0, 1), by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return sum(w * f(float(t)) for t, w in zip(nodes, weights / weights.sum(), strict=True))


@functools.cache
def exact_elbo() -> float:
    """The negative ELBO of the tiny model by the identity log p(x) - ELBO = KL(q || p(z | x)), both on a grid."""
    return float((posterior_kl(tiny(), X)[0] - log_marginal(tiny(), X).log_p).mean())


def is_the_elbo(loss: Callable[..., Any]) -> Finding:
    """Whether loss(model, x, rng), averaged over its noise, is what log p(x) = ELBO + KL(q || p(z | x)) says."""
    with no_grad():
        found = over_the_noise(lambda t: loss(tiny(), X, GivenNoise(t)).item())
    right = exact_elbo()
    return Finding(relative(found, right), ROUNDING, f"the loss, over all noise, is {found:.6f}; KL(q || p(z|x)) - log p(x) is {right:.6f}")


def is_the_kl(f: Callable[..., Any]) -> Finding:
    """Whether f(mean, logvar) is the integral of q (log q - log p)."""
    with no_grad():
        found = np.broadcast_to(np.asarray(f(MEAN, LOGVAR).data), (2,))
    right = kl_by_integration(Gaussian(MEAN, LOGVAR), Gaussian(0 * MEAN, 0 * LOGVAR))
    worst = int(np.argmax(abs(found - right)))
    what = f"it is {found[worst]:.6f} where the integral of q (log q - log p) is {right[worst]:.6f}"
    return Finding(max(relative(a, b) for a, b in zip(found, right, strict=True)), ROUNDING, what)


def log_weights_integrate(f: Callable[..., Any]) -> Finding:
    """Whether E_q[w] = p(x), for f(log p(x | z), log p(z), log q(z)), by the trapezoidal rule."""
    z = np.linspace(-12, 12, 6001)
    grid = np.broadcast_to(z[:, None, None], (len(z), len(X), 1))
    with no_grad():
        q = tiny().encode(X)
        log_q = q.log_prob(grid).data
        log_w = f(tiny().decode(grid).log_prob(X).data, StandardGaussian().log_prob(grid).data, log_q)
    found = np.log(np.exp(log_w + log_q).sum(axis=0) * (z[1] - z[0]))
    right = log_marginal(tiny(), X).log_p
    worst = int(np.argmax(abs(found - right)))
    what = f"log E_q[w] is {found[worst]:.6f}, log p(x) is {right[worst]:.6f}"
    return Finding(max(relative(a, b) for a, b in zip(found, right, strict=True)), ROUNDING, what)
