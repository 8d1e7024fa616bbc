"""M1: what a VAE has learned without labels, with a head for the few there are.

D. P. Kingma et al., "Semi-supervised learning with deep generative models", 2014, section 2.1.
"""

from typing import Any

import numpy as np

from ..errors import UsageError
from ..nn import Dense, Module, Sequential
from ..random import Stream
from .classifier import Classifier
from .vae import VAE


class CodeMean(Module):
    """The first half of what an encoder predicts, the mean of its Gaussian.     (N, 2 K) -> (N, K)"""

    def __init__(self, latent: int):
        self.latent = latent

    def forward(self, x: Any) -> Any:
        return x[:, : self.latent]


class EncoderClassifier(Classifier):
    """p(label | x) = softmax(head(relu(W E[z | x] + b))): a head on a VAE's encoder, which the gradient reaches too.

    Made with fresh weights, it is the classifier that is trained from scratch; `EncoderClassifier.of(vae, rng)` starts from the weights of
    a trained VAE, copied: what is fine-tuned here does not change it.  For a frozen encoder train a Classifier of the codes alone,
    `Classifier((K,), rng, arch="dense")` of `inference.encode_mean(vae, x)`.

    encoder   the description of the VAE, {"image_shape": ..., "latent": ..., ...}, as its config() returns it
    classes   labels are 0 ... classes - 1
    width     features of an image, behind a relu
    """

    def __init__(self, encoder: dict[str, Any], rng: Stream, classes: int = 10, width: int = 64):
        made = VAE(**encoder, rng=rng.split("encoder"))
        self.description, self.classes, self.width = made.config(), classes, width
        self.image_shape = made.image_shape
        seam = rng.split("head")
        self.body = Sequential(*made.encoder.layers, CodeMean(made.latent), Dense(made.latent, width, seam, "relu"))
        self.head = Dense(width, classes, seam)

    @classmethod
    def of(cls, vae: Any, rng: Stream, classes: int = 10, width: int = 64) -> "EncoderClassifier":
        """With the encoder of a trained VAE, on its device.  Raises UsageError for other models: their encoders say other things."""
        if type(vae) is not VAE or vae.arch == "own":
            raise UsageError(f"EncoderClassifier: the model is {type(vae).__name__}; need a VAE with networks of the library's")
        made = cls(vae.config(), rng, classes, width)
        own = vae.parameters()[0].data
        made.to("cpu" if isinstance(own, np.ndarray) else "cuda", own.dtype)
        theirs = vae.encoder.parameters()
        for mine, other in zip(made.body.parameters(), theirs, strict=False):  # the head's follow
            mine.data[...] = other.data
        return made

    def config(self) -> dict[str, Any]:
        return {"encoder": self.description, "classes": self.classes, "width": self.width}
