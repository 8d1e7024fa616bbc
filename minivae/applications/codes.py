"""Codes of images as data for another model: M1's, for M2 or a classifier."""

from typing import Any

import numpy as np

from ..data import to_float
from ..errors import UsageError
from ..inference import PART, array, encode_mean, looking_at, parts
from ..random import Stream
from ..training.measures import like


def telling(model: Any, x: np.ndarray, least: float = 0.1) -> np.ndarray:
    """Which latents tell images apart: the mean of q(z_k | x) has a standard deviation of `least` or more.     (N, ...) -> (K,) bool

    The others hold the noise of the prior, whatever the image.  Raises UsageError where there is none."""
    spread = encode_mean(model, x).std(axis=0)
    if not (spread >= least).any():
        raise UsageError(f"no latent tells these images apart: the largest spread of the means is {spread.max():.3g}; need {least:g}")
    return spread >= least


def draw_codes(model: Any, x: np.ndarray, rng: Stream, keep: np.ndarray | None = None) -> np.ndarray:
    """One code z ~ q(z | x) of each image.     x (N, ...), keep (K,) bool, the latents that are wanted -> (N, K or fewer) float32

    Fresh draws for every epoch are what the encoder is sure of, and no more: a model of the means alone would fit digits behind the
    encoder's own noise."""
    with looking_at(model):
        found = [array(model.encode(like(model, to_float(np.asarray(x[at])))).sample(rng)) for at in parts(len(x), PART)]
    codes = np.concatenate(found).astype(np.float32)
    return codes if keep is None else codes[:, keep]
