"""How far the ELBO is below log p(x), and whose fault it is: that of the family of q, or that of the encoder.

    log p(x) - ELBO  =  KL(q(z | x) || p(z | x))  =  KL(q* || p(z | x))  +  [KL(q(z | x) || p(z | x)) - KL(q* || p(z | x))]
                                                     approximation gap       amortization gap

q* is the best Gaussian with independent latents for this one image; the encoder is a network that must find one for every image.

C. Cremer, X. Li and D. Duvenaud, "Inference suboptimality in variational autoencoders", 2018, section 3.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Gaussian
from ..engine import Tensor, gradients, no_grad
from ..quadrature import Marginal, log_marginal, posterior_kl
from ..quadrature.integrals import array
from ..quadrature.latents import log_joint_of
from .minimum import Vector, minimum

HIGH = 5.0  # nats: a mode that is lower than the highest by more than that is not tried
WIDENINGS = 5


@dataclass
class Gaps:
    """For each of N images, in nats."""

    posterior: Marginal  # p(z | x) on its grid, and log p(x)
    q: Gaussian  # the encoder's, (N, K)
    best: Gaussian  # q*, (N, K)
    total: np.ndarray  # (N,), KL(q || p(z | x)) = log p(x) - ELBO
    approximation: np.ndarray  # (N,), KL(q* || p(z | x))
    error: np.ndarray  # (N,), how far either of the two may be off

    @property
    def amortization(self) -> np.ndarray:
        """What a better encoder could gain.     -> (N,)"""
        return self.total - self.approximation


def inference_gaps(model: Any, x: Any, tolerance: float = 1e-8) -> Gaps:
    """The gap of the ELBO in its two parts, for a model with one or two latents.     x (N, ...)

    q* is found on the grid of the exact posterior; both divergences are then integrated on grids of their own, to `tolerance` nats where
    that can be had (`error` tells).  The decoder is asked at some 100,000 points an image: seconds.  Raises UsageError for more than two
    latents.
    """
    with no_grad():
        q = model.encode(x)
    posterior = log_marginal(model, x, tolerance)
    best = best_gaussian(model, x, posterior, q)
    total, error = posterior_kl(model, x, tolerance, q, posterior)
    approximation, best_error = posterior_kl(model, x, tolerance, best, posterior)
    return Gaps(posterior, q, best, total, approximation, np.maximum(error, best_error))


def best_gaussian(model: Any, x: Any, posterior: Marginal, *starts: Gaussian) -> Gaussian:
    """q* = argmin KL(q || p(z | x)) over Gaussians with independent latents, for each image.     x (N, ...) -> mean, logvar (N, K) float64

    The divergence has several minima where the posterior has several modes; so the search begins at each of these with the curvature
    there, at the posterior's mean and variance, and at `starts` (N, K), and the best of what is found counts.

    posterior    what log_marginal has found for x.  Its grid ends where the posterior does; where q* is wider, the grid is made so
    """
    found = []
    for i, (axes, values) in enumerate(zip(posterior.axes, posterior.log_density, strict=True)):
        each = [*modes(axes, values), moments(axes, values)]
        each += [(array(start.mean)[i], array(start.logvar)[i]) for start in starts]
        for _ in range(WIDENINGS):
            mean, logvar = best_on_grid(axes, values, each)
            wide = tuple(widened(axis, m, np.exp(v / 2)) for axis, m, v in zip(axes, mean, logvar, strict=True))
            if all(len(after) == len(before) for after, before in zip(wide, axes, strict=True)):
                break
            axes = wide
            points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
            values = log_joint_of(model, x[i : i + 1])(points.reshape(-1, len(axes))).reshape(points.shape[:-1])
        found.append((mean, logvar))
    return Gaussian(np.array([mean for mean, _ in found]), np.array([logvar for _, logvar in found]))


def widened(axis: Vector, mean: float, sigma: float) -> Vector:
    """The axis itself if it holds 7 sigma on both sides, else one with the same steps, or 1,000 larger ones, that holds 8."""
    if axis[0] <= mean - 7 * sigma and mean + 7 * sigma <= axis[-1]:
        return axis
    low, high = min(axis[0], mean - 8 * sigma), max(axis[-1], mean + 8 * sigma)
    return np.linspace(low, high, min(int((high - low) / (axis[1] - axis[0])) + 2, max(1001, len(axis) + 1)))


def modes(axes: tuple[Vector, ...], log_density: np.ndarray) -> list[tuple[Vector, Vector]]:
    """Mean and logvar of a Gaussian at each high local maximum of the grid, as wide along each axis as the curvature there says."""
    inside = (slice(1, -1),) * log_density.ndim
    centre = log_density[inside]
    highest = centre > log_density.max() - HIGH
    for offset in product((-1, 0, 1), repeat=log_density.ndim):
        neighbour = log_density[tuple(slice(1 + o, n - 1 + o) for o, n in zip(offset, log_density.shape, strict=True))]
        highest &= centre > neighbour if offset > (0,) * log_density.ndim else centre >= neighbour  # of two equal ones, one counts
    found = []
    for at in np.argwhere(highest) + 1:
        mean, logvar = [], []
        for k, axis in enumerate(axes):
            low, middle, high = (log_density[tuple(at + d * (np.arange(len(at)) == k))] for d in (-1, 0, 1))
            mean.append(axis[at[k]])
            logvar.append(2 * np.log(axis[1] - axis[0]) - np.log(max(2 * middle - low - high, 1e-3)))
        found.append((np.array(mean), np.array(logvar)))
    return found


def moments(axes: tuple[Vector, ...], log_density: np.ndarray) -> tuple[Vector, Vector]:
    """Mean and logvar of the posterior itself, the Gaussian that is best by the other divergence, KL(p(z | x) || q)."""
    density = np.exp(log_density - log_density.max())
    mean, logvar = [], []
    for k, axis in enumerate(axes):
        weight = density.sum(axis=tuple(j for j in range(len(axes)) if j != k))
        weight = weight / weight.sum()
        mean.append(weight @ axis)
        logvar.append(np.log(weight @ (axis - mean[-1]) ** 2))
    return np.array(mean), np.array(logvar)


def best_on_grid(axes: tuple[Vector, ...], log_p: np.ndarray, starts: list[tuple[Vector, Vector]]) -> tuple[Vector, Vector]:
    """Mean and logvar of the Gaussian that is nearest to a density, known up to a factor on a grid; the search goes on from each start.

    On the grid, q is a product of weights w_k = softmax(log q_k), and

        KL = sum_k sum w_k log w_k - w_1' L w_2,   L = log p, less the logarithm of its sum

    which no q can make negative.  The coordinates are the mean in sigmas of the start, and the logvar less that of the start over sqrt 2:
    there the divergence from a density like the start has the curvature 1, the Fisher information, whatever the width.
    """
    k = len(axes)
    log_p = log_p - log_p.max()
    log_p = log_p - np.log(np.exp(log_p).sum())
    best = (np.inf, *starts[0])
    for mean, logvar in starts:
        sigma = np.exp(logvar / 2)

        def divergence(theta: Vector, mean: Vector = mean, sigma: Vector = sigma, logvar: Vector = logvar) -> tuple[float, Vector]:
            variables = Tensor(theta)
            place, spread = variables[:k] * sigma + mean, variables[k:] * math.sqrt(2) + logvar
            expected: Any = log_p
            negentropy: Any = 0.0
            for j, axis in enumerate(axes):
                deviation = (axis - place[j]) * ops.exp(spread[j] * -0.5)
                log_w = ops.log_softmax(deviation * deviation * -0.5)
                w = ops.exp(log_w)
                negentropy = negentropy + (w * log_w).sum()
                expected = w.reshape(1, -1) @ expected.reshape(len(axis), -1)
            kl = negentropy - expected.sum()
            return kl.item(), gradients(kl, [variables])[0]

        value, theta = minimum(divergence, np.zeros(2 * k))
        best = min(best, (value, mean + sigma * theta[:k], logvar + math.sqrt(2) * theta[k:]), key=lambda found: found[0])
    return best[1:]
