"""How M2 is trained: by images of which only a few have a label."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .. import ops
from ..backend import xp
from ..engine import constant_of
from ..errors import UsageError
from ..models.m2 import known_rows, unknown_rows
from .base import Objective, setting, weighted


@dataclass(frozen=True)
class SemiSupervised(Objective):
    """loss = (1/W) sum_n w_n J_n + alpha mean over labelled n of -log q(y_n | x_n), nats per image.

        L(x, y) = -log p(x | z, y) + beta (KL(q(z | x, y) || p(z)) + log K), one z ~ q(z | x, y)
        J_n     = L(x_n, y_n)                                             w_n = 1 / repeats       where the label is known
        J_n     = sum_y q(y | x_n) (L(x_n, y) + beta log q(y | x_n))      w_n = 1                 where it is -1

    and W the sum of w_n.  With beta = 1, L(x, y) >= -log p(x, y) and J_n >= -log p(x_n) on average.  The sum over y is taken over all K
    classes, not sampled.  Without labels all images are unlabelled.

    A larger beta (I. Higgins et al., "beta-VAE", 2017) leaves z less room: what the class can tell of an image is told by the class.

    The paper's eq. 9 over N: its alpha is this one times N, and its classification term alpha N / N_labelled sum_n is, an image, alpha
    times the mean over the labelled ones.  That mean is the batch's; so a batch without a labelled image would have no such term, and
    labels that leave more than one batch in 20 without are refused: data.partly_labelled repeats the labelled images, and `repeats`
    takes them back out of the bound.

    Reports: reconstruction and kl, whose sum is J_n with beta = 1; classification, the mean of -log q(y | x), 0 without labels.
    """

    name: ClassVar[str] = "m2"
    default_for: ClassVar[tuple[str, ...]] = ("m2",)
    needs: ClassVar[tuple[str, ...]] = ("each_class", "logits")

    alpha: float = setting(0.1, "weight of the classification of labelled images, an image of the data", 0)
    repeats: float = setting(1.0, "how often the data hold each labelled image", 1)
    beta: float = setting(1.0, "weight of what z and the class cost", 0)

    def check(self, model: Any, labels: Any, batch_size: int) -> None:
        if labels is None:
            return
        odd = (labels < -1) | (labels >= model.classes)
        if labels.dtype.kind not in "iu" or odd.any():
            raise UsageError(
                f"M2: labels are {labels.dtype} from {labels.min()} to {labels.max()}; "
                f"need integers 0 to {model.classes - 1}, -1: not known"
            )
        n, few = len(labels), int((labels >= 0).sum())
        empty = (1 - few / n) ** min(batch_size, n)
        if few and empty > 0.05:
            raise UsageError(
                f"M2: {few} of {n} images have a label, and {empty:.0%} of batches of {batch_size} would hold none of them; repeat those "
                f"images, data.partly_labelled(images, labels, known, repeats), or take batches of {int(3 * n / few) + 1}"
            )

    def losses(self, players, batch, rng, progress):
        model = players["model"]
        log_q = ops.log_softmax(model.logits(batch.x))  # (N, K)
        q = ops.exp(log_q)
        reconstruction, divergence = model.each_class(batch.x, rng)  # (N, K)
        if batch.label is None:
            paid = (q * reconstruction).sum(axis=1)
            apart = (q * (divergence + log_q)).sum(axis=1) + model.class_nats
            return {"model": (paid + weighted(self.beta, apart)).mean()}, {"reconstruction": paid, "kl": apart, "classification": 0.0}
        dtype = log_q.data.dtype.type
        known = constant_of(known_rows, batch.label, model.classes, dtype)
        hidden = constant_of(unknown_rows, batch.label, dtype)  # (N, 1)
        guess = hidden * q
        weight = known + guess  # (N, K), rows that sum to 1
        paid = (weight * reconstruction).sum(axis=1)
        apart = (weight * divergence + guess * log_q).sum(axis=1) + model.class_nats
        shares = constant_of(shares_of, batch.label, float(self.repeats), dtype)  # (2, N)
        classification = -((known * log_q).sum(axis=1) * shares[1]).sum()
        loss = ((paid + weighted(self.beta, apart)) * shares[0]).sum() + classification * self.alpha
        return {"model": loss}, {"reconstruction": paid, "kl": apart, "classification": classification}


def shares_of(label: Any, repeats: float, dtype: Any) -> Any:
    """Weights of the images in the two means: w / W, and one over the number of labelled images.     (N,) -> (2, N)"""
    module = xp(label)
    there = label >= 0
    w = module.where(there, 1 / repeats, 1.0)
    return module.stack([w / w.sum(), there / module.maximum(there.sum(), 1)]).astype(dtype)
