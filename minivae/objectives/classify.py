"""The cross-entropy of a classifier."""

from dataclasses import dataclass
from typing import ClassVar

from ..engine import constant_of
from ..errors import UsageError
from .base import Objective


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """loss = mean_n -log p(label_n | x_n), nats per image; reports the share of images whose likeliest class is another."""

    name: ClassVar[str] = "cross_entropy"
    needs: ClassVar[tuple[str, ...]] = ("features", "log_prob")

    def losses(self, players, batch, rng, progress):
        model = players["model"]
        if batch.label is None:
            raise UsageError("the cross-entropy needs a label of each image, and there are none; pass (images, labels)")
        told = model.log_prob(batch.x, batch.label)
        wrong = constant_of(wrongs, model.logits(batch.x).data, batch.label)
        return {"model": -told.mean()}, {"error": wrong}


def wrongs(logits, label):
    """1 where the largest logit is not the label's.     (N, K), (N,) -> (N,)"""
    return (logits.argmax(axis=1) != label).astype(logits.dtype)
