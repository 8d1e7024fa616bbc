"""Does an image belong to what the model was trained on?  Scores, higher for strangers, in nats per image.

    elbo           -ELBO = -E_q[log p(x | z)] + KL(q(z | x) || p(z))
    iwae           -log 1/k sum_i p(x, z_i) / q(z_i | x), closer to -log p(x)
    reconstruction -E_q[log p(x | z)], the reconstruction probability (J. An and S. Cho, 2015, algorithm 4)
    kl             KL(q(z | x) || p(z))
    regret         what the ELBO gains if q is fitted to this one image (Z. Xiao, Q. Yan and Y. Amit, "Likelihood regret", 2020, eq. 6)
    typicality     |-ELBO less its mean over training images| (E. Nalisnick et al., "Detecting out-of-distribution inputs ... using
                   typicality", 2019, eq. 5, for one image)
    less_floor     -ELBO less the floor, the least that a Bernoulli can pay for these pixels: gray ones cost, whatever the model
    less_png       -ELBO less the nats of the image's PNG file (J. Serra et al., "Input complexity and out-of-distribution detection", 2020,
                   eq. 1): what is strange, and not what is complicated
    residual       -ELBO less what training images as bright, as gray and as complicated cost: a quadratic regression, see `Typical`

The likelihood of a strange image is often higher than a normal one's: see the page on anomalies.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data import binarize, to_float
from ..data.images import pillow
from ..distributions import Bernoulli, Gaussian, kl_at, sample_and_kl
from ..distributions.base import data_of
from ..engine import Tensor, no_grad
from ..errors import ShapeError, UsageError
from ..inference import looking_at, need, parts
from ..models import conditioned
from ..nn import evaluating
from ..random import Stream
from ..training.measures import like
from .posterior import fit_posterior


class Bounds(NamedTuple):
    """Of each image, (N,) float64 in nats."""

    reconstruction: np.ndarray  # -E_q[log p(x | z)]
    kl: np.ndarray  # KL(q(z | x) || p(z))
    iwae: np.ndarray  # -log of the mean weight

    @property
    def elbo(self) -> np.ndarray:
        """-ELBO"""
        return self.reconstruction + self.kl


def anomaly_scores(
    model: Any,
    images: np.ndarray,
    rng: Stream,
    names: Sequence[str] = ("elbo",),
    samples: int = 10,
    training: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    training_labels: np.ndarray | None = None,
    binarized: Stream | None = None,
    progress: Callable[[Any], Any] = iter,
) -> dict[str, np.ndarray]:
    """{name: score of each image, (N,) float64} for the names asked for, from the same draws of z.     images (N, ...), bytes or floats

    samples      draws of z an image, for the expectations and for the importance-weighted bound
    training     images that the model was trained on, or some of them, for typicality and residual
    labels       of a conditional model, and training_labels those of `training`
    binarized    the stream of bits that pixels are drawn with, where the model was trained on zeros and ones

    Raises UsageError for an unknown name, and for a score that this model or these images do not have.
    """
    need(model, "encode", "scores of images")
    unknown = [name for name in names if name not in SCORES]
    if unknown or not names or samples < 1:
        raise UsageError(
            f"scores are {', '.join(names) or 'none'}, samples {samples}; choose of {', '.join(SCORES)}, and at least 1 sample"
        )
    if "less_png" in names and binarized is not None:
        raise UsageError("less_png compares the bound with the file of the same pixels, and here the model sees bits drawn from them")
    images, typical = np.asarray(images), None
    if compared := [name for name in names if name in COMPARED]:
        if training is None or not len(training):
            raise UsageError(f"{compared[0]} compares images with those of training: pass some of them as training=")
        training = np.asarray(training)
        bits = None if binarized is None else binarized.split("bits of training images")
        own = anomaly_scores(
            model, training, rng.split("training images"), ["elbo"], samples, labels=training_labels, binarized=bits, progress=progress
        )
        typical = typical_of(training, own["elbo"], "residual" in names)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for at in progress(parts(len(images))):
        x = to_float(images[at])
        x = x if binarized is None else binarize(x, binarized)
        here = conditioned(model, None if labels is None else labels[at])
        case = Case(here, images[at], x, bounds_of(here, x, rng, samples), rng.split(f"regret of {at.start}"), typical)
        for name in names:
            found[name].append(SCORES[name](case))
    return {name: np.concatenate(values) if values else np.zeros(0) for name, values in found.items()}


def bounds_of(model: Any, x: np.ndarray, rng: Stream, samples: int = 10) -> Bounds:
    """The parts of the bounds, from `samples` draws of z; the KL in closed form where there is one.     x (N, ...) floats"""
    with looking_at(model):
        x = like(model, x)
        q, prior = model.encode(x), model.prior
        reconstruction, divergence = np.zeros(len(x)), np.zeros(len(x))
        largest, total = np.full(len(x), -np.inf), np.zeros(len(x))
        for _ in range(samples):
            z = q.sample(rng)
            log_likelihood = numbers(model.decode(z).log_prob(x))
            weight = log_likelihood + numbers(prior.log_prob(z) - q.log_prob(z))
            reconstruction -= log_likelihood / samples
            divergence += numbers(kl_at(q, prior, z)) / samples
            before, largest = largest, np.maximum(largest, weight)  # a running log-sum-exp
            total = total * np.exp(before - largest) + np.exp(weight - largest)
    return Bounds(reconstruction, divergence, math.log(samples) - largest - np.log(total))


def likelihood_regret(model: Any, x: Any, rng: Stream, steps: int = 100, lr: float = 0.1, samples: int = 20) -> np.ndarray:
    """max over Gaussians q of the ELBO, less the encoder's ELBO, nats: the encoder's amortization gap.     x (N, ...) floats -> (N,)

    The paper trains a copy of the encoder for each image; here the mean and the logvar of q themselves are fitted, from the encoder's on,
    for all images of x at once, by `fit_posterior`.

    samples    draws for the two ELBOs, the same noise for both; what is left of it, and of the search, may make a regret slightly negative
    """
    if steps < 1 or samples < 1:
        raise UsageError(f"likelihood_regret: steps is {steps}, samples {samples}; need at least 1 of each")
    with evaluating(model):
        x = like(model, np.asarray(x))
        with no_grad():
            first = model.encode(x)
        if type(first) is not Gaussian:
            raise UsageError(f"likelihood regret fits a Gaussian q(z | x), and here it is {type(first).__name__}; take another score")
        mean, logvar = (data_of(parameter) for parameter in (first.mean, first.logvar))
        best = fit_posterior(lambda z: model.decode(z).log_prob(x), model.prior, mean, logvar, rng, steps, lr)
        state = rng.state()

        def elbo(q: Gaussian) -> np.ndarray:
            rng.set_state(state)
            total = np.zeros(len(x))
            with no_grad():
                for _ in range(samples):
                    z, divergence = sample_and_kl(q, model.prior, rng)
                    total += numbers(model.decode(z).log_prob(x) - divergence) / samples
            return total

        return elbo(best) - elbo(first)


def bernoulli_floor(x: np.ndarray) -> np.ndarray:
    """min over p of -log Bernoulli(x; p) = -sum x log x + (1 - x) log(1 - x), nats: 0 for black and white, log 2 for a pixel of 1/2.

    x (N, ...) floats in [0, 1] -> (N,)"""
    x = np.asarray(x, np.float64)
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ShapeError(f"bernoulli_floor: x lies in [{x.min():g}, {x.max():g}]; need pixels in [0, 1]")
    nats = sum(p * np.log(np.where(p > 0, p, 1)) for p in (x, 1 - x))  # 0 log 0 = 0
    return 0 - np.asarray(nats).reshape(len(x), -1).sum(axis=1)


def floor_of(model: Any, x: np.ndarray) -> np.ndarray:
    """The floor, of a model that has one."""
    need(model, "encode", "scores of images")
    with looking_at(model):
        kind = type(model.decode(model.encode(like(model, x)).mean))
    if kind is not Bernoulli:
        raise UsageError(f"less_floor takes off what gray pixels cost a Bernoulli, and p(x | z) is {kind.__name__}; take another score")
    return bernoulli_floor(x)


def png_bits(images: np.ndarray) -> np.ndarray:
    """The bits of each image's PNG file, as Pillow's optimizer makes it.     (N, H, W, 1 or 3) bytes, or floats in [0, 1] -> (N,)"""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ShapeError(f"png_bits: images are {images.shape}; a PNG holds (H, W, 1) or (H, W, 3)")
    if images.dtype != np.uint8:
        if images.dtype.kind != "f" or (images.size and not (images.min() >= 0 and images.max() <= 1)):
            raise ShapeError(f"png_bits: images are {images.dtype}; need bytes, or floats in [0, 1]")
        images = np.rint(np.multiply(images, 255, dtype=np.float64)).astype(np.uint8)
    Image = pillow("the size of a PNG file").Image
    sizes = np.zeros(len(images))
    for i, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG", optimize=True)
        sizes[i] = 8 * file.tell()
    return sizes


def numbers(value: Any) -> np.ndarray:
    """-> float64 on the CPU"""
    return np.asarray(value.numpy() if isinstance(value, Tensor) else value, np.float64)


class Typical(NamedTuple):
    """What -ELBO costs training images: its mean, and its least squares fit by a quadratic polynomial of `appearance`, standardized."""

    elbo: float
    centre: Any = None  # (3,)
    scale: Any = None
    coefficients: Any = None  # (10,)

    def expected(self, images: np.ndarray) -> np.ndarray:
        return quadratic((appearance(images) - self.centre) / self.scale) @ self.coefficients


def typical_of(images: np.ndarray, elbo: np.ndarray, fit: bool) -> Typical:
    if not fit:
        return Typical(float(elbo.mean()))
    if len(images) < 100:
        raise UsageError(f"residual fits 10 numbers to training images, and there are {len(images)}; give 100 or more as training=")
    seen = appearance(images)
    centre, scale = seen.mean(axis=0), seen.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    return Typical(float(elbo.mean()), centre, scale, np.linalg.lstsq(quadratic((seen - centre) / scale), elbo, rcond=None)[0])


def appearance(images: np.ndarray) -> np.ndarray:
    """The Bernoulli floor, the sum of the pixels, the bits of the PNG: what makes an image dear to any model.     (N, ...) -> (N, 3)"""
    x = to_float(images)
    return np.stack([bernoulli_floor(x), x.reshape(len(x), -1).sum(axis=1, dtype=np.float64), png_bits(images)], axis=1)


def quadratic(x: np.ndarray) -> np.ndarray:
    """1, x_i and x_i x_j.     (N, D) -> (N, (D + 1) (D + 2) / 2)"""
    N, D = x.shape
    return np.stack([np.ones(N), *x.T, *(x[:, i] * x[:, j] for i in range(D) for j in range(i, D))], axis=1)


class Case(NamedTuple):
    """What a score is made of."""

    model: Any
    images: np.ndarray  # (N, ...), as they came
    x: np.ndarray  # (N, ...), as the model takes them
    bounds: Bounds
    rng: Stream
    typical: "Typical | None"


COMPARED = ("typicality", "residual")  # those that want training images
SCORES: dict[str, Callable[[Any], np.ndarray]] = {
    "elbo": lambda case: case.bounds.elbo,
    "iwae": lambda case: case.bounds.iwae,
    "reconstruction": lambda case: case.bounds.reconstruction,
    "kl": lambda case: case.bounds.kl,
    "regret": lambda case: likelihood_regret(case.model, case.x, case.rng),
    "typicality": lambda case: abs(case.bounds.elbo - case.typical.elbo),
    "residual": lambda case: case.bounds.elbo - case.typical.expected(case.images),
    "less_floor": lambda case: case.bounds.elbo - floor_of(case.model, case.x),
    "less_png": lambda case: case.bounds.elbo - png_bits(case.images) * math.log(2),
}
