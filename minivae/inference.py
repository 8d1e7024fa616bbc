"""What one does with a trained model: encode, decode, reconstruct, sample, interpolate; in parts that fit into memory, on any device.

Every function takes any model of the contract (encode, decode, prior), looks at it in evaluation mode and leaves it in the mode that it
had.  Data come as bytes, taken as pixels / 255, or as floats; results are NumPy arrays.  labels are the condition of a conditional model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .backend import to_device, xp
from .data import binarize, to_float
from .engine import Tensor, no_grad
from .errors import UsageError
from .evaluate import log_likelihood
from .models import conditioned, lerp
from .nn import evaluating
from .random import Stream
from .training.measures import like

PART = 500  # examples at a time


def encode_mean(model: Any, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """E[z | x], the means of q(z | x).     x (N, ...), labels (N,) or (N, condition) -> (N, K)"""
    need(model, "encode", "codes of data")
    return by_parts(model, lambda model, x: model.encode(like(model, to_float(x))).mean, np.asarray(x), labels)


def decode_mean(model: Any, z: Any, labels: np.ndarray | None = None) -> np.ndarray:
    """E[x | z], the means of p(x | z).     z (..., K), labels of as many -> (..., *shape of x)"""
    z = np.asarray(z) if xp(z) is np else z
    rows = z.reshape(-1, z.shape[-1]).astype(np.float32)
    if labels is not None:
        labels = np.asarray(labels).reshape(len(rows), -1) if np.ndim(labels) >= z.ndim else np.asarray(labels).reshape(-1)
    x = by_parts(model, lambda model, z: model.decode(like(model, z)).mean, rows, labels)
    return x.reshape(*z.shape[:-1], *x.shape[1:])


def reconstruct(model: Any, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """E[x | z] at the mean z of q(z | x).     (N, ...) -> (N, ...)"""
    return decode_mean(model, encode_mean(model, x, labels), labels)


def sample_prior(model: Any, rng: Stream, n: int, labels: np.ndarray | None = None) -> np.ndarray:
    """n codes from the prior, or from that of each label.     -> (n, K)"""
    return array(prior_codes(model, rng, n, labels))


def prior_codes(model: Any, rng: Stream, n: int, labels: np.ndarray | None) -> Any:
    """The same, where the model is."""
    with looking_at(model):
        known = conditioned(model, labels)
        own = getattr(known, "sample_prior", None)
        return own(rng, n) if own is not None else known.prior.sample(rng, n, like=model.parameters()[0].data)


def sample(model: Any, rng: Stream, n: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Means of p(x | z) for n codes from the prior: what the model draws.     -> (n, *shape of x)"""
    codes = prior_codes(model, rng, n, labels)
    return decode_mean(model, codes.data if isinstance(codes, Tensor) else codes, labels)


def features(classifier: Any, x: np.ndarray) -> np.ndarray:
    """What a classifier sees in images, to judge others by.     (N, ...) -> (N, width)"""
    need(classifier, "features", "features of images")
    return by_parts(classifier, lambda model, x: model.features(like(model, to_float(x))), np.asarray(x), None)


def classify(classifier: Any, x: np.ndarray) -> np.ndarray:
    """The likeliest class of each image.     (N, ...) -> (N,) integers"""
    need(classifier, "logits", "classes of images")
    return by_parts(classifier, lambda model, x: model.logits(like(model, to_float(x))), np.asarray(x), None).argmax(axis=1)


def interpolate(
    model: Any, first: np.ndarray, last: np.ndarray, steps: int = 11, labels: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """What the straight lines between codes of pairs decode to; a condition goes from the one's to the other's as the code does.

    first, last    (N, ...) examples;  labels    rows of conditions (N, condition), of the first and of the last -> (N, steps, ...)
    """
    t = np.linspace(0, 1, steps)
    a, b = (encode_mean(model, x, None if labels is None else labels[i]) for i, x in enumerate((first, last)))
    return decode_mean(model, lerp(a, b, t), None if labels is None else lerp(*labels, t))


def bound(
    model: Any,
    x: np.ndarray,
    rng: Stream,
    samples: int = 100,
    labels: np.ndarray | None = None,
    binarized: Stream | None = None,
    progress: Callable[[Any], Any] = iter,
) -> np.ndarray:
    """An importance-weighted bound on log p(x) of each example, in nats; see evaluate.log_likelihood.     (N, ...) -> (N,)

    binarized    the stream of bits that pixels are drawn with, where the model was trained on zeros and ones
    """
    found = []
    with looking_at(model):
        for at in progress(parts(len(x), 100)):
            batch = to_float(x[at])
            batch = like(model, batch if binarized is None else binarize(batch, binarized))
            found.append(log_likelihood(conditioned(model, None if labels is None else labels[at]), batch, rng, samples))
    return np.concatenate(found)


def by_parts(model: Any, function: Callable[[Any, Any], Any], x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """function(model, part of x), part by part, as one array."""
    if labels is not None and len(labels) not in (1, len(x)):
        raise UsageError(f"there are {len(labels)} labels for {len(x)} examples; need as many, or 1 for all")
    with looking_at(model):
        found = [
            array(function(conditioned(model, labels if labels is None or len(labels) == 1 else labels[at]), x[at]))
            for at in parts(len(x)) or [slice(0, 0)]
        ]
    return np.concatenate(found)


def parts(n: int, size: int = PART) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


@contextmanager
def looking_at(model: Any) -> Iterator[None]:
    """Evaluation mode and no graph, inside the block."""
    with no_grad(), evaluating(model):
        yield


def array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(to_device(value, "cpu"))


def need(model: Any, method: str, what: str) -> None:
    if not hasattr(model, method):
        raise UsageError(f"{type(model).__name__} has no {method}, so there are no {what}; use a model that has")
