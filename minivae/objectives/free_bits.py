"""The first nats of each latent for nothing."""

from dataclasses import dataclass
from typing import ClassVar

from .. import ops
from ..distributions import kl_terms_at
from ..models import conditioned
from .base import WARMUP, Objective, kl_scale, setting, weighted


@dataclass(frozen=True)
class FreeBits(Objective):
    """loss = mean_n -E_q[log p(x | z)] + beta sum_k max(free, mean_n KL_k): the first `free` nats of each latent cost nothing.

    D. P. Kingma et al., "Improving variational inference with inverse autoregressive flow", 2016, eq. 15, each latent a group.
    """

    name: ClassVar[str] = "free_bits"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    beta: float = setting(1.0, "weight of the KL", 0)
    free_bits: float = setting(0.1, "nats of each latent that cost nothing", 0, "NATS")
    kl_warmup: float = setting(0.0, WARMUP, 0, "EPOCHS")

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        q, prior = model.encode(batch.x), model.prior
        z = q.sample(rng)
        log_likelihood = model.decode(z).log_prob(batch.x)
        by_latent = kl_terms_at(q, prior, z)  # (N, K)
        cost = ops.maximum(by_latent.mean(axis=0), self.free_bits).sum()
        loss = weighted(self.beta * kl_scale(progress, self.kl_warmup), cost) - log_likelihood.mean()
        return {"model": loss}, {"reconstruction": -log_likelihood, "kl": by_latent.sum(axis=-1)}

    def summary(self, measures):
        weight = "" if self.beta == 1 else f"{self.beta:g} x "
        return f"= {measures['reconstruction']:.2f} + {weight}{measures['kl']:.2f}, free bits apart"
