"""Distributions of a pixel in integers, of a decoder's sums: which slots of 2^r each value has."""

from typing import Any

import numpy as np

from ..backend import cpu_backend
from ..errors import DataError
from ..kernels.cpu import bits_back as kernels
from ..models.likelihoods import NARROWEST
from .integers import STANDARD, Precision
from .tables import POSITION, STEP, bernoulli_table, exp_table, logistic_table

LOGIT = 16  # beyond +-16 a pixel has one slot of 2^16 less than all
LOG_SHAPE = 10  # of a beta-binomial's log alpha and log beta, likewise
LOG_SCALE = (round(NARROWEST * 2**STEP), 4 << STEP)  # of a logistic, in steps of the table
LOGISTIC_MEAN = 8 << POSITION


def steps(y: np.ndarray, bits: int, low: int, high: int) -> np.ndarray:
    """Sums of 2^-bits as places in a table, cut at its ends."""
    return np.clip(np.floor(y * 2.0 ** (STEP - bits) + 0.5), low, high).astype(np.int64)


class Bernoulli:
    """Pixels 0 and 255, by their logits."""

    def __init__(self, bits: int, at: Precision = STANDARD):
        self.bits, self.at = bits, at
        self.ones = bernoulli_table(LOGIT, bits)
        self.tables = [self.ones]

    def of_images(self, images: np.ndarray) -> np.ndarray:
        """0 and 1.     (N, D) of 0 and 255"""
        between = (images != 0) & (images != 255)
        if between.any():
            raise DataError(
                f"the model codes black and white, and a pixel is {images[between][0]}: give images of 0 and 255 alone, have them drawn so "
                "with --binarize, or train with --likelihood beta_binomial"
            )
        return (images != 0).astype(np.uint8)

    def to_images(self, pixels: np.ndarray) -> np.ndarray:
        return pixels * np.uint8(255)

    def inputs(self, pixels: np.ndarray) -> np.ndarray:
        """What the encoder takes, integers of 2^-activation."""
        return pixels * 2.0**self.at.activation

    def parameters(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        logits, end = y.reshape(len(y), -1), LOGIT << STEP
        if cpu_backend() != "numba":
            return (self.ones[steps(logits, self.at.sum, -end, end) + end],)
        found = np.empty(logits.shape, np.int64)
        kernels.places(logits.reshape(-1), 2.0 ** (STEP - self.at.sum), -end, end, self.ones, found.reshape(-1))
        return (found,)

    def push(self, coder: Any, state: tuple, parameters: tuple, pixels: np.ndarray) -> None:
        coder.push_binary(*state, *parameters, self.bits, pixels)

    def pop(self, coder: Any, state: tuple, parameters: tuple, pixels: np.ndarray) -> None:
        coder.pop_binary(*state, *parameters, self.bits, pixels)


class Levels:
    """Bytes.  A subclass says the parameters."""

    kind = 0
    table = np.zeros(2, np.int64)

    def __init__(self, bits: int, at: Precision = STANDARD):
        self.bits, self.at = bits, at
        self.tables: list[np.ndarray] = []

    def of_images(self, images: np.ndarray) -> np.ndarray:
        return images

    def to_images(self, pixels: np.ndarray) -> np.ndarray:
        return pixels

    def inputs(self, pixels: np.ndarray) -> np.ndarray:
        """k / 255 to the nearest 2^-activation."""
        return np.floor(pixels * (2.0 ** (self.at.activation + 1) / 510) + 0.5)

    def halves(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two numbers of each pixel.     (N, ..., 2 C) -> (N, D), (N, D)"""
        c = y.shape[-1] // 2
        return y[..., :c].reshape(len(y), -1), y[..., c:].reshape(len(y), -1)

    def push(self, coder: Any, state: tuple, parameters: tuple, pixels: np.ndarray) -> None:
        coder.push_levels(*state, *parameters, self.kind, self.table, self.bits, pixels)

    def pop(self, coder: Any, state: tuple, parameters: tuple, pixels: np.ndarray) -> None:
        coder.pop_levels(*state, *parameters, self.kind, self.table, self.bits, pixels)


class BetaBinomial(Levels):
    def __init__(self, bits: int, at: Precision = STANDARD):
        super().__init__(bits, at)
        self.shapes = exp_table(-LOG_SHAPE, LOG_SHAPE)
        self.tables = [self.shapes]

    def parameters(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        end = LOG_SHAPE << STEP
        first, second = self.halves(y)
        return self.shapes[steps(first, self.at.sum, -end, end) + end], self.shapes[steps(second, self.at.sum, -end, end) + end]


class DiscretizedLogistic(Levels):
    kind = 1

    def __init__(self, bits: int, at: Precision = STANDARD):
        super().__init__(bits, at)
        self.table = logistic_table()
        self.inverses = exp_table(-(LOG_SCALE[1] >> STEP), 9, POSITION)
        self.tables = [self.table, self.inverses]

    def parameters(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        mean, log_scale = self.halves(y)
        mean = np.clip(np.floor(mean * 2.0 ** (POSITION - self.at.sum) + 0.5), -LOGISTIC_MEAN, LOGISTIC_MEAN).astype(np.int64)
        return mean, self.inverses[LOG_SCALE[1] - steps(log_scale, self.at.sum, *LOG_SCALE)]


PIXELS: dict[str, Any] = {"bernoulli": Bernoulli, "beta_binomial": BetaBinomial, "discretized_logistic": DiscretizedLogistic}
