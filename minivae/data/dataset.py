"""A data set in memory, as bytes, and the float32 batches that a model eats."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, xp
from ..errors import DataError, ShapeError, UsageError
from ..random import Stream


@dataclass(frozen=True)
class Dataset:
    """Examples of one shape: images as bytes, as they lie on disk, which the model takes as pixels / 255; or float32 numbers as they are.

    `label_names[k]` says what label k means, if anybody knows; `note` is a line for the user (why this data set and not another, what was
    repaired, what was done to the images), empty when there is nothing to say.  A mask is True where a number is known.
    """

    name: str
    train_images: np.ndarray  # (N, H, W, C) uint8, or (N, ...) float32
    train_labels: np.ndarray | None  # (N,) int64
    test_images: np.ndarray  # (M, ...)
    test_labels: np.ndarray | None  # (M,) int64
    label_names: tuple[str, ...] = ()
    note: str = ""
    train_mask: np.ndarray | None = None  # shaped like the images, bool
    test_mask: np.ndarray | None = None
    preparation: dict[str, Any] = field(default_factory=dict)  # what was done to the data, as JSON has it
    test_factors: Mapping[str, np.ndarray] = field(default_factory=dict)  # {name: (M,)}, what made each test image: all that varies
    test_attributes: Mapping[str, np.ndarray] = field(default_factory=dict)  # {name: (M,)}, what somebody has noted of each test image

    def __post_init__(self) -> None:
        for part, images, labels, mask in (
            ("train", self.train_images, self.train_labels, self.train_mask),
            ("test", self.test_images, self.test_labels, self.test_mask),
        ):
            if images.dtype not in (np.uint8, np.float32) or images.ndim < 2 or images.size == 0:
                raise ShapeError(
                    f"{self.name}: {part} images are {images.dtype} {images.shape}; need uint8 (N, H, W, C) or float32 (N, ...), no size 0"
                )
            if labels is not None and (labels.dtype != np.int64 or labels.shape != images.shape[:1]):
                raise ShapeError(f"{self.name}: {part} labels are {labels.dtype} {labels.shape}; need int64 ({len(images)},)")
            if mask is not None and (mask.dtype != bool or mask.shape != images.shape):
                raise ShapeError(f"{self.name}: the {part} mask is {mask.dtype} {mask.shape}; need bool {images.shape}")
        for name, values in (*self.test_factors.items(), *self.test_attributes.items()):
            if values.shape != self.test_images.shape[:1]:
                raise ShapeError(f"{self.name}: {name!r} is {values.shape}; need ({len(self.test_images)},), one a test image")
        if self.train_images.shape[1:] != self.test_images.shape[1:] or self.train_images.dtype != self.test_images.dtype:
            raise ShapeError(
                f"{self.name}: train images are {self.train_images.dtype} {self.train_images.shape[1:]}, test images "
                f"{self.test_images.dtype} {self.test_images.shape[1:]}; need equal shapes"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (H, W, C), or (D,)."""
        return self.train_images.shape[1:]

    image_shape = shape


class Batch(NamedTuple):
    """What an objective is given of the data; what is missing is None."""

    x: Any  # (B, ...)
    label: Any = None  # (B,) integers, or (B, ...) numbers: what a conditional model is conditioned on; a class that is not known is -1
    mask: Any = None  # shaped like x, True where x is known
    index: Any = None  # (B,) integers, which of the data these are
    other: Any = None  # a second Batch, in an order of its own, for an objective that wants one


Split = tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None]


def train_test_split(images: np.ndarray, labels: np.ndarray | None, stream: Stream) -> Split:
    """Shuffle, and keep a tenth of every class for the test (at least one image in all).

    -> train_images, train_labels, test_images, test_labels, the arguments of Dataset.  Without labels all images are one class.
    """
    n = len(images)
    if n < 2:
        raise DataError(f"need at least 2 images, one to train and one to test; there are {n}")
    order = stream.permutation(n)
    shuffled = np.zeros(n, np.int64) if labels is None else labels[order]
    in_test = np.zeros(n, bool)
    for label in np.unique(shuffled):
        members = np.flatnonzero(shuffled == label)
        in_test[members[: round(len(members) / 10)]] = True
    if not in_test.any():  # every class is tiny
        in_test[0] = True
    train, test = order[~in_test], order[in_test]
    if labels is None:
        return images[train], None, images[test], None
    return images[train], labels[train], images[test], labels[test]


def to_float(images: Array) -> Array:
    """Bytes as pixels / 255, rounded once; other numbers as they are, as float32.   any shape -> the same, float32"""
    module = xp(images)
    if images.dtype != np.uint8:
        return images.astype(np.float32, copy=False)
    return module.divide(images, np.float32(255), dtype=np.float32)


def batches(images: Array, batch_size: int, rng: Stream | None = None, drop_last: bool = False) -> Iterator[Array]:
    """One pass over the images, as contiguous float32 batches in [0, 1].   (N, H, W, C) uint8 -> (B, H, W, C) each

    In the order of `rng.permutation(N)`, drawn when this is called, or as they lie without an rng.  The last batch is the rest,
    smaller than B when B does not divide N, unless `drop_last`.  Images on a GPU are gathered there.
    """
    at = batch_indices(len(images), batch_size, rng, drop_last)
    return (to_float(images[i if isinstance(i, slice) else xp(images).asarray(i)]) for i in at)


def batch_indices(n: int, batch_size: int, rng: Stream | None = None, drop_last: bool = False) -> Iterator[slice | np.ndarray]:
    """What `batches` takes of n images, batch by batch: to take the same of their labels."""
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; need at least 1")
    if drop_last and batch_size > n:
        raise UsageError(f"batch_size {batch_size} exceeds the {n} images, and drop_last leaves no batch; need batch_size <= {n}")
    order = None if rng is None else rng.permutation(n)
    ends = range(batch_size, n + 1, batch_size) if drop_last else range(batch_size, n + batch_size, batch_size)
    return (slice(end - batch_size, end) if order is None else order[end - batch_size : end] for end in ends)


def binarize(x: Array, rng: Stream) -> Array:
    """A fresh Bernoulli draw with mean x: 1 where u < x, u uniform on [0, 1).   any shape -> same shape, float32 of 0 and 1

    R. Salakhutdinov and I. Murray, "On the quantitative analysis of deep belief networks", ICML 2008, section 6.
    """
    return (rng.uniform(x.shape, like=x) < x).astype(np.float32)
