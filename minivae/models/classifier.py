"""A classifier of images, whose features others are judged by: what is near in them looks alike to somebody who reads digits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..engine import constant_of
from ..errors import ShapeError
from ..nn import Module
from ..random import Stream
from .cvae import condition_rows
from .networks import networks


class Classifier(Module):
    """p(label | x) = softmax(head(features(x))); trained by objectives.CrossEntropy.

    image_shape   (H, W, C), or (D,) with arch "dense"
    classes       labels are 0 ... classes - 1
    channels      of 4x4 convolutions of stride 2
    width         features of an image: those of the last layer before the classes, behind a relu
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        classes: int = 10,
        width: int = 64,
        arch: str = "conv",
        channels: Sequence[int] | None = (16, 32),
    ):
        self.image_shape, self.classes, self.width, self.arch = tuple(int(n) for n in image_shape), classes, width, arch
        self.channels = tuple(channels or ()) if arch == "conv" else ()
        body = networks(self.image_shape, rng, arch, (width,), self.channels or None, "relu", classes, 1).encoder
        self.body, self.head = body, body.layers.pop()

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again."""
        return {
            "image_shape": list(self.image_shape),
            "classes": self.classes,
            "width": self.width,
            "arch": self.arch,
            "channels": list(self.channels),
        }

    def features(self, x: Any) -> Any:
        """(N, *image_shape) -> (N, width), 0 or more"""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"Classifier: x is {tuple(x.shape)}, the model's images are {self.image_shape}; need (N, *{self.image_shape})")
        return self.body(x)

    def logits(self, x: Any) -> Any:
        """(N, *image_shape) -> (N, classes)"""
        return self.head(self.features(x))

    def log_prob(self, x: Any, label: Any) -> Any:
        """log p(label | x) in nats.     x (N, ...), label (N,) integers -> (N,)"""
        rows = constant_of(condition_rows, label, self.classes, np.float32)
        return (ops.log_softmax(self.logits(x)) * rows).sum(axis=1)
