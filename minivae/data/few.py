"""Few labels: which images are labelled, and data of which most are not."""

from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..random import Stream

UNKNOWN = -1  # a label that is not known


def balanced(labels: Any, count: int, rng: Stream) -> np.ndarray:
    """Places of `count` examples, as many of each class, drawn without replacement.     (N,) integers -> (count,) int64, ascending

    Raises UsageError where count is no multiple of the classes, DataError where a class has too few."""
    labels = np.asarray(labels)
    classes = np.unique(labels[labels != UNKNOWN])
    each, rest = divmod(count, max(len(classes), 1))
    if not len(classes) or rest or each < 1:
        raise UsageError(f"balanced: {count} labels of {len(classes)} classes; need a positive multiple of {len(classes)}")
    found = []
    for k in classes:
        members = np.flatnonzero(labels == k)
        if len(members) < each:
            raise DataError(f"balanced: {each} examples of class {k} are wanted, and there are {len(members)}; ask for fewer labels")
        found.append(members[rng.permutation(len(members))[:each]])
    return np.sort(np.concatenate(found))


def partly_labelled(images: Any, labels: Any, known: Any, repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The data with the labels of `known` alone, -1 elsewhere, and those examples `repeats` times.

    images (N, ...), labels (N,), known (M,) places -> (N + (repeats - 1) M, ...), as many int64

    Repeats put labelled examples into every batch; objectives.SemiSupervised(repeats=...) takes them back out of its bound."""
    images, labels, known = np.asarray(images), np.asarray(labels), np.asarray(known)
    if len(images) != len(labels) or repeats < 1 or len(np.unique(known)) != len(known) or known.dtype.kind not in "iu":
        raise UsageError(
            f"partly_labelled: {len(images)} images, {len(labels)} labels, {known.dtype} places, repeats {repeats}; "
            "need as many labels as images, different integers, 1 or more repeats"
        )
    told = np.full(len(labels), UNKNOWN, np.int64)
    told[known] = labels[known]
    at = np.concatenate([np.arange(len(images)), *[known] * (repeats - 1)])
    return images[at], told[at]
