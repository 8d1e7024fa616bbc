"""The importance-weighted bound."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..distributions import bound, samples_and_kl
from ..engine import Tensor
from ..models import conditioned
from ..random import Stream
from .base import Objective, setting


@dataclass(frozen=True)
class Iwae(Objective):
    """loss = mean_n -log 1/k sum_i p(x, z_i) / q(z_i | x), z_i ~ q(z | x), k = samples: a tighter bound than the ELBO for k > 1.

    The reports are means over the samples of -log p(x | z) and of log q(z | x) / p(z), which at k = 1 are its parts.

    Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """

    name: ClassVar[str] = "iwae"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    samples: int = setting(50, "importance samples of the bound", 1, "K")

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        z, kl = samples_and_kl(model.encode(batch.x), model.prior, rng, self.samples)  # (k, N, K), (k, N)
        loss, reconstruction, kl = bound(model.decode(z), batch.x, kl)
        return {"model": loss}, {"reconstruction": reconstruction, "kl": kl}

    def evaluation_batch(self, batch_size):
        return max(500 // self.samples, 1)

    def summary(self, measures):
        return f"(one sample: {measures['reconstruction']:.2f} + {measures['kl']:.2f})"


def iwae(model: Any, x: Any, rng: Stream, samples: int = 50, label: Any = None) -> Tensor:
    """The loss of Iwae(samples) of one batch, for a loop of your own.     x (N, ...) -> ()"""
    return Iwae(samples)(model, x, rng, label).loss
