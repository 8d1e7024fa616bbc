"""What is under the scratch?  Missing pixels x_m given the others, x_o, by a model of whole images.

    inpaint           importance sampling from Gaussians fitted to x_o: E[x_m | x_o], log p(x_o), and completions
    gibbs             a Markov chain of (z, x_m).  Metropolis-within-Gibbs has p(z, x_m | x_o) for its limit; pseudo-Gibbs takes the
                      encoder for the posterior, and has the limit that this error allows

Pseudo-Gibbs: D. J. Rezende, S. Mohamed and D. Wierstra, "Stochastic backpropagation and approximate inference in deep generative models",
2014, appendix F; with Metropolis: P.-A. Mattei and J. Frellsen, "Leveraging the exact likelihood of deep latent variable models", 2018,
algorithm 1.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..data import to_float
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..inference import looking_at, need
from ..random import Stream
from ..training.measures import like
from .denoise import array, encoded
from .posterior import Restored, on_cpu, part_of, restore


class Missing:
    """x where `known`, of N images, for a model.     x, known (N, *shape)

    gray    an image is the mean of p(x | z) where it is missing; else a draw of it, of a Bernoulli's bits
    """

    def __init__(self, model: Any, x: np.ndarray, known: np.ndarray, gray: bool = True):
        self.model, self.known, self.gray = model, known, gray
        self.x = np.where(known, x, np.asarray(0.5, x.dtype))

    def log_likelihood(self, z: Any) -> Tensor:
        """sum over the known pixels of log p(x_d | z)"""
        terms = self.model.decode(z).terms().log_prob(self.x) * self.known.astype(self.x.dtype)
        return terms.sum(axis=tuple(range(-(self.x.ndim - 1), 0)))

    def mean(self, z: Any) -> np.ndarray:
        return np.where(self.known, self.x, array(self.model.decode(z).mean))

    def draw(self, z: Any, rng: Stream) -> np.ndarray:
        p = self.model.decode(z)
        return np.where(self.known, self.x, array(p.mean if self.gray else p.sample(rng)))


def inpaint(
    model: Any,
    x: np.ndarray,
    known: np.ndarray,
    rng: Stream,
    samples: int = 120,
    draws: int = 0,
    steps: int = 150,
    starts: int = 3,
    gray: bool = True,
) -> Restored:
    """E[x | x_o] and completions: known pixels as they are.     x (N, *shape), bytes or floats; known, bool (N, *shape) or (*shape)

    What x holds where it is not known has no influence.  samples, draws, steps, starts: see `restore`;  gray: see `Missing`.
    Raises ShapeError, UsageError.
    """
    need(model, "encode", "places to start from")
    on_cpu(model)
    x, known = checked(model, x, known)

    def start(at: slice) -> tuple[np.ndarray, np.ndarray]:
        return encoded(part_of(model, at), filled(x[at], known[at]), steps > 0)

    def observe(at: slice) -> Missing:
        return Missing(part_of(model, at), x[at], known[at], gray)

    return restore(model, observe, start, len(x), math.prod(x.shape[1:]), rng, samples, draws, steps, starts)


class Chain(NamedTuple):
    """A Markov chain for each image."""

    mean: np.ndarray  # (N, *shape), the mean of E[x | z, x_o] over the sweeps that count
    last: np.ndarray  # (N, *shape), x of the last sweep: one completion
    accepted: float  # the share of proposals


def gibbs(model: Any, x: np.ndarray, known: np.ndarray, rng: Stream, sweeps: int = 200, warmup: int = 50, metropolis: bool = True) -> Chain:
    """The chain z ~ q(z | x), x_m ~ p(x_m | z), from x_m = 1/2 on.     x, known as in `inpaint`

    metropolis    the z that q proposes takes the place of the old one with probability min(1, w(z') / w(z)), w(z) = p(x, z) / q(z | x), x
                  the image as it is completed now; else always: pseudo-Gibbs.  The warm-up is pseudo-Gibbs, as the paper advises
    warmup        sweeps that do not count for the mean
    """
    need(model, "encode", "proposals")
    on_cpu(model)
    if not 0 <= warmup < sweeps:
        raise UsageError(f"gibbs: sweeps is {sweeps}, warmup {warmup}; need 0 <= warmup < sweeps")
    x, known = checked(model, x, known)
    x = filled(x, known)
    total, accepted = np.zeros(x.shape), 0.0
    with looking_at(model):
        prior = model.prior
        z: Any = None
        for sweep in range(sweeps):
            q = model.encode(x)
            proposal = array(q.sample(rng))
            if z is None or not metropolis or sweep < warmup:
                z = proposal
                accept = np.ones(len(x), bool)
            else:
                new, old = (
                    array(model.decode(c).log_prob(x) + prior.log_prob(c) - q.log_prob(c)).astype(np.float64) for c in (proposal, z)
                )
                accept = np.log(1 - rng.uniform(len(x), like=np.zeros(0))) < new - old
                z = np.where(accept[:, None], proposal, z)
            p = model.decode(z)
            x = np.where(known, x, array(p.sample(rng)).astype(x.dtype))
            if sweep >= warmup:
                total += np.where(known, x, array(p.mean))
                accepted += accept.mean()
    return Chain(total / (sweeps - warmup), x, accepted / (sweeps - warmup))


def filled(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(known, x, np.asarray(0.5, x.dtype))


def checked(model: Any, x: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, known = like(model, to_float(np.asarray(x))), np.asarray(known)
    if known.dtype != bool or known.shape not in (x.shape, x.shape[1:]):
        raise ShapeError(f"known is {known.dtype} {known.shape} for x {x.shape}; need bool of this shape, or of one image {x.shape[1:]}")
    known = np.broadcast_to(known, x.shape)
    if not np.isfinite(x[known]).all():
        raise UsageError(f"{int((~np.isfinite(x[known])).sum())} known pixels are not finite; say that they are missing")
    return x, known
