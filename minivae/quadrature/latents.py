"""What a VAE only bounds, computed: log p(x) and the posterior p(z | x) of a decoder with one or two latents, on a grid.

The integrand p(x | z) p(z) is smooth and dies away on all sides, which is where the trapezoidal rule is at its best: its error falls
geometrically with the number of points (L. N. Trefethen and J. A. C. Weideman, SIAM Review 56, 2014).  A relu in the decoder has kinks, and
then the error falls with h^2 only; the estimate says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..engine import no_grad
from ..errors import UsageError
from .integrals import array

DROP = 50.0  # a density e^-50 of the largest is outside of the box: what is lost is below rounding
REACH = 10.0  # of the first box, in standard deviations of the prior
COARSE = {1: 801, 2: 161}  # points an axis to find the posterior with
LARGEST = {1: 2**16 + 1, 2: 2**9 + 1}  # points an axis to integrate with
CHUNK = 4096  # points decoded at once

Box = np.ndarray  # (K, 2): low and high of each latent


@dataclass
class Marginal:
    """log p(x) and p(z | x) for each of N images."""

    log_p: np.ndarray  # (N,), nats
    error: np.ndarray  # (N,), how far log p(x) may be off
    axes: list[tuple[np.ndarray, ...]]  # for each image K arrays (n,), the grid's coordinates
    log_density: list[np.ndarray]  # for each image log p(z | x) on the grid, (n,) or (n, n): index i belongs to z_1, j to z_2

    @property
    def density(self) -> list[np.ndarray]:
        """p(z | x) on the grid, which is 0 in corners of it that the logarithm still tells apart."""
        return [np.exp(values) for values in self.log_density]


def log_marginal(model: Any, x: Any, tolerance: float = 1e-10) -> Marginal:
    """log p(x) = log integral of p(x | z) p(z) dz and the exact posterior, for a model with one or two latents.     x (N, ...)

    The model has `latent`, decode(z).log_prob(x) and prior.log_prob(z).  For each image a box is found that holds all but e^-50 of the
    posterior, starting from 10 standard deviations of the prior.  In it the trapezoidal rule is refined until two halvings of the spacing
    say that log p(x) is known to `tolerance` nats, or to 65,537 points (513 squared in two dimensions); `error` tells which.

    A posterior with several modes all narrower than the first grid (0.025 in one dimension, 0.125 in two) can lose one.
    Raises UsageError for more than two latents.
    """
    results = [_marginal(log_joint, box, tolerance) for log_joint, box in _posteriors(model, x, "log_marginal")]
    log_p, error, axes, log_density = zip(*results, strict=True) if results else ((), (), (), ())
    return Marginal(np.array(log_p), np.array(error), list(axes), list(log_density))


def posterior_kl(
    model: Any, x: Any, tolerance: float = 1e-10, q: Any = None, posterior: Marginal | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """KL(q(z | x) || p(z | x)), which is log p(x) - ELBO, and its error, by the trapezoidal rule on a grid.     x (N, ...) -> (N,), (N,)

    q            model.encode(x), or another Gaussian of shape (N, K)
    posterior    what log_marginal has found for x, if it is known: where to look, and no more

    The box is that of log_marginal, widened to 10 sigma of q.  The ELBO takes no part in it.
    """
    with no_grad():
        q = model.encode(x) if q is None else q
        means, sigmas = array(q.mean), array(q.sigma)
        logvar = array(q.logvar)  # in float64, so that log q is integrated and not its rounding
        found = []
        for i, (log_joint, box) in enumerate(_posteriors(model, x, "posterior_kl", posterior)):
            wide = np.stack([np.minimum(box[:, 0], means[i] - 10 * sigmas[i]), np.maximum(box[:, 1], means[i] + 10 * sigmas[i])], axis=1)
            found.append(_kl(log_joint, _log_density(type(q)(means[i], logvar[i])), wide, tolerance))
    return np.array([kl for kl, _ in found]), np.array([error for _, error in found])


LogDensity = Callable[[np.ndarray], np.ndarray]  # z (P, K) -> (P,)


def _posteriors(model: Any, x: Any, name: str, known: Marginal | None = None) -> list[tuple[LogDensity, Box]]:
    """log p(x, z) as a function of z, and the box that holds it, for each image."""
    if model.latent not in COARSE:
        raise UsageError(
            f"{name}: the model has {model.latent} latents; a grid does for 1 or 2; evaluate.log_likelihood is a bound for more"
        )
    functions = [log_joint_of(model, x[i : i + 1]) for i in range(len(x))]
    if known is not None:
        return [
            (log_joint, np.array([(axis[0], axis[-1]) for axis in axes])) for log_joint, axes in zip(functions, known.axes, strict=True)
        ]
    return [(log_joint, _find_box(log_joint, model.latent)) for log_joint in functions]


def log_joint_of(model: Any, x: Any) -> LogDensity:
    """log p(x, z) of one image as a function of z.     x (1, ...)"""

    def log_joint(z: np.ndarray) -> np.ndarray:
        with no_grad():
            parts = [z[i : i + CHUNK] for i in range(0, len(z), CHUNK)]
            return np.concatenate([array(model.decode(part).log_prob(x)) + array(model.prior.log_prob(part)) for part in parts])

    return log_joint


def _log_density(q: Any) -> LogDensity:
    return lambda z: array(q.log_prob(z))


def _grid(box: Box, n: int) -> tuple[tuple[np.ndarray, ...], np.ndarray, float]:
    """Axes (n,), points (n^K, K), and the volume of a cell."""
    axes = tuple(np.linspace(low, high, n) for low, high in box)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(box))
    return axes, points, math.prod((high - low) / (n - 1) for low, high in box)


def _find_box(log_joint: LogDensity, latent: int) -> Box:
    """A box outside of which log p(x, z) is DROP below its largest value: grown while it is too small, shrunk while it is too large."""
    box = np.array([[-REACH, REACH]] * latent)
    n = COARSE[latent]
    for _ in range(40):
        axes, points, _ = _grid(box, n)
        values = log_joint(points).reshape((n,) * latent)
        kept = values > values.max() - DROP
        new = box.copy()
        for k in range(latent):
            inside = np.flatnonzero(kept.any(axis=tuple(j for j in range(latent) if j != k)))
            spacing = axes[k][1] - axes[k][0]
            reach = (box[k, 1] - box[k, 0]) / 2
            new[k, 0] = box[k, 0] - reach if inside[0] == 0 else axes[k][inside[0]] - 2 * spacing
            new[k, 1] = box[k, 1] + reach if inside[-1] == n - 1 else axes[k][inside[-1]] + 2 * spacing
        grown = (new[:, 0] < box[:, 0] - 3 * spacing).any() or (new[:, 1] > box[:, 1] + 3 * spacing).any()
        settled = not grown and ((new[:, 1] - new[:, 0]) > 0.7 * (box[:, 1] - box[:, 0])).all()
        box = new
        if settled:
            return box
        n = min(n, 201 if latent == 1 else 61)  # the posterior is found: later grids only trim the box
    raise UsageError(f"the posterior does not fall off on all sides within z = {box.tolist()}; is the prior a density?")


def _refinements(functions: list[LogDensity], box: Box) -> Any:
    """(axes, values of each function on the grid, volume of a cell) for ever finer grids; points that are known are not computed again."""
    latent, n = len(box), 33
    axes, points, cell = _grid(box, n)
    values = [f(points).reshape((n,) * latent) for f in functions]
    yield axes, values, cell
    while 2 * n - 1 <= LARGEST[latent]:
        n = 2 * n - 1
        axes, points, cell = _grid(box, n)
        new = np.ones((n,) * latent, bool)
        new[(slice(None, None, 2),) * latent] = False
        finer = []
        for f, coarse in zip(functions, values, strict=True):
            fine = np.empty((n,) * latent)
            fine[(slice(None, None, 2),) * latent] = coarse
            fine[new] = f(points[new.reshape(-1)])
            finer.append(fine)
        values = finer
        yield axes, values, cell


def _log_sum(values: np.ndarray, cell: float) -> float:
    largest = float(values.max())
    return largest + math.log(float(np.exp(values - largest).sum()) * cell)


def _settled(value: float, history: list[float], own_error: float, tolerance: float) -> tuple[float, bool]:
    """The error of the newest of a sequence of trapezoidal sums, and whether it will do.

    Halving h changed the value by d; where the error falls with h^2, as at a kink, the last change says that the next would be d / 4.
    A change that is small by chance is not verified: the one before it counts too.
    """
    history.append(value)
    changes = [abs(after - before) for before, after in pairwise(history)]
    error = own_error + (max(changes[-1], changes[-2] / 4) if len(changes) > 1 else math.inf)
    return error, error <= tolerance


def _marginal(log_joint: LogDensity, box: Box, tolerance: float) -> tuple[float, float, tuple[np.ndarray, ...], np.ndarray]:
    history: list[float] = []
    for axes, (values,), cell in _refinements([log_joint], box):
        log_p = _log_sum(values, cell)
        error, done = _settled(log_p, history, 0.0, tolerance)
        result = log_p, error, axes, values
        if done:
            break
    log_p, error, axes, values = result
    return log_p, error, axes, values - log_p


def _kl(log_joint: LogDensity, log_q: LogDensity, box: Box, tolerance: float) -> tuple[float, float]:
    history: list[float] = []
    for _, (joint, q), cell in _refinements([log_joint, log_q], box):
        kl = float((np.exp(q) * (q - joint + _log_sum(joint, cell))).sum()) * cell
        missing = abs(float(np.exp(q).sum()) * cell - 1)  # q must integrate to one on a grid that is fine enough for it
        error, done = _settled(kl, history, missing, tolerance)
        result = kl, error
        if done:
            break
    return result
