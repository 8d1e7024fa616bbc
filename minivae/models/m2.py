"""M2, the VAE of a few labels: y uniform, z ~ N(0, I), x ~ p(x | z, y), and encoders q(y | x) and q(z | x, y).

D. P. Kingma, D. J. Rezende, S. Mohamed and M. Welling, "Semi-supervised learning with deep generative models", 2014, section 2.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..distributions import sample_and_kl
from ..engine import Tensor, constant_of
from ..errors import ShapeError, UsageError
from ..nn.layers import activated
from ..random import Stream
from .cvae import CVAE
from .networks import networks


def classes_in_turn(x: Any, classes: int) -> Any:
    """Every class for all of x: 0 for the N images, then 1 ...     (N, ...) -> (K N,) integers"""
    return xp(x).repeat(xp(x).arange(classes), len(x))


class M2(CVAE):
    """A CVAE whose condition is a class that is seen of a few images only, with a classifier q(y | x) for the others.

    `model.condition(labels)` is the CVAE of images whose class is known: it encodes, decodes, samples.  `model.logits(x)` is the
    classifier, so that `inference.classify` takes it.  It is trained by objectives.SemiSupervised.

    classes       K; a label is 0 ... K - 1, and -1 where it is not known
    options       the VAE's; the classifier has the layers of its encoder
    """

    def __init__(self, image_shape: Sequence[int], rng: Stream, classes: int = 10, **options: Any):
        if classes < 2 or "prior_kind" in options or "condition" in options:
            raise UsageError(f"M2: classes is {classes}; need 2 or more, and neither condition nor prior_kind: p(z) knows no class")
        super().__init__(image_shape, rng, condition=classes, **options)
        self.classes = classes
        hidden, channels = self.hidden, self.channels if self.arch == "conv" else None
        built = networks(self.image_shape, rng.split("classifier"), self.arch, hidden, channels, self.activation, classes, 1)
        self.classifier = built.encoder

    def config(self) -> dict[str, Any]:
        own = super().config()
        del own["condition"], own["prior_kind"]
        return own | {"classes": self.classes}

    def logits(self, x: Any) -> Tensor:
        """q(y | x) = softmax(logits).     (N, *image_shape) -> (N, K)"""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"M2.logits: x is {tuple(x.shape)}, the model's images are {self.image_shape}; need (N, *{self.image_shape})")
        return self.classifier(x)

    def each_class(self, x: Any, rng: Stream) -> tuple[Tensor, Tensor]:
        """-log p(x | z, y) at one z ~ q(z | x, y), and KL(q(z | x, y) || p(z)), for every y.     (N, *image_shape) -> (N, K) both

        Their sum and log K are a bound on -log p(x, y).  All K classes go through the networks, as K N images would, but for the part of
        the encoder that sees x alone."""
        n, every = len(x), self.classes
        data = x.data if isinstance(x, Tensor) else x
        known = self.condition(constant_of(classes_in_turn, data, every).data)
        z, divergence = sample_and_kl(self.encode_each(x), known.prior, rng)
        many = ops.reshape(ops.broadcast_to(x, (every, *x.shape)), (every * n, *self.image_shape))
        reconstruction = -known.decode(z).log_prob(many)
        return tuple(ops.transpose(ops.reshape(part, (every, n)), (1, 0)) for part in (reconstruction, divergence))

    def encode_each(self, x: Any) -> Any:
        """q(z | x, y) for every y, in the order of `classes_in_turn`.     (N, *image_shape) -> batch (K N,)

        The class joins a dense layer, (x, y) w + b = x w_x + y w_y + b: the product with x is the same for all classes, and y w_y is a
        row of w_y."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ShapeError(f"M2.encode_each: x is {tuple(x.shape)}; need (N, *{self.image_shape})")
        layers, every = self.encoder.layers, self.classes
        for layer in layers[: self.join]:
            x = layer(x)
        joining = layers[self.join]
        from_x, from_y = ops.matmul(x, joining.w[:-every]), joining.w[-every:] + joining.b  # (N, U), (K, U)
        h = ops.reshape(from_x + ops.reshape(from_y, (every, 1, from_y.shape[1])), (every * len(x), from_y.shape[1]))
        h = activated(h, joining.activation)
        for layer in layers[self.join + 1 :]:
            h = layer(h)
        return self.posterior(h)

    @property
    def class_nats(self) -> float:
        """log K, what naming a class costs: -log p(y)."""
        return math.log(self.classes)


def known_rows(label: Any, classes: int, dtype: Any) -> Any:
    """One-hot rows of labels; zeros for -1, not known; NaN for any other number.     integers (N,) -> (N, K)"""
    module = xp(label)
    rows = (label[:, None] == module.arange(classes)).astype(dtype)
    return module.where(((label >= -1) & (label < classes))[:, None], rows, dtype(np.nan))


def unknown_rows(label: Any, dtype: Any) -> Any:
    """1 where the label is -1.     integers (N,) -> (N, 1)"""
    return (label == -1).astype(dtype)[:, None]
