"""The evidence lower bound."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..distributions import bound, sample_and_kl
from ..models import conditioned
from ..random import Stream
from .base import WARMUP, Objective, Terms, kl_scale, setting, weighted


@dataclass(frozen=True)
class Elbo(Objective):
    """loss = mean_n -E_q[log p(x | z)] + beta KL(q(z | x) || p(z)), the expectation by one reparameterized sample.

    At beta = 1 it is the negative evidence lower bound, -ELBO >= -log p(x); at beta = 0 the reconstruction alone.

    D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014, eq. 7; beta: I. Higgins et al., "beta-VAE", 2017, eq. 4.
    """

    name: ClassVar[str] = "elbo"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    beta: float = setting(1.0, "weight of the KL", 0)
    kl_warmup: float = setting(0.0, WARMUP, 0, "EPOCHS")

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        q = model.encode(batch.x)
        z, divergence = sample_and_kl(q, model.prior, rng)
        penalty = weighted(self.beta * kl_scale(progress, self.kl_warmup), divergence)  # (N,)
        loss, reconstruction, _ = bound(model.decode(z), batch.x, penalty)
        return {"model": loss}, {"reconstruction": reconstruction, "kl": divergence}

    def summary(self, measures):
        weight = "" if self.beta == 1 else f"{self.beta:g} x "
        return f"= {measures['reconstruction']:.2f} + {weight}{measures['kl']:.2f}"


def elbo(model: Any, x: Any, rng: Stream, beta: float = 1.0, label: Any = None) -> Terms:
    """Elbo(beta) of one batch, for a loop of your own: `gradients(elbo(model, x, rng).loss, params)`.     x (N, ...) -> Terms"""
    return Elbo(beta)(model, x, rng, label)


def regularizer(model: Any, x: Any, rng: Stream) -> Terms:
    """loss = mean_n KL(q(z | x) || p(z)) alone: no gradient reaches the decoder, and every q becomes the prior."""
    terms = elbo(model, x, rng)
    return terms._replace(loss=terms.kl.mean())
