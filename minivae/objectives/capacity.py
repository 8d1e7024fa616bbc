"""A code of so many nats."""

from dataclasses import dataclass
from typing import ClassVar

from .. import ops
from ..distributions import sample_and_kl
from ..models import conditioned
from .base import Objective, kl_scale, setting


@dataclass(frozen=True)
class Capacity(Objective):
    """loss = mean_n -E_q[log p(x | z)] + beta |mean_n KL - C|: the code is asked for C nats, neither more nor fewer.

    C rises from 0 to `capacity` during the first kl_warmup epochs; beta is the paper's gamma.
    C. P. Burgess et al., "Understanding disentangling in beta-VAE", 2018, eq. 8.
    """

    name: ClassVar[str] = "capacity"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    beta: float = setting(1000.0, "weight of the KL's distance from the capacity", 0)
    capacity: float = setting(25.0, "nats that the KL is drawn to", 0, "NATS")
    kl_warmup: float = setting(0.0, "the capacity rises from 0 over so many epochs", 0, "EPOCHS")

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        q = model.encode(batch.x)
        z, divergence = sample_and_kl(q, model.prior, rng)
        log_likelihood = model.decode(z).log_prob(batch.x)  # (N,)
        excess = ops.absolute(divergence.mean() - self.capacity * kl_scale(progress, self.kl_warmup))
        loss = excess * self.beta - log_likelihood.mean()
        return {"model": loss}, {"reconstruction": -log_likelihood, "kl": divergence}

    def summary(self, measures):
        return f"= {measures['reconstruction']:.2f} + {self.beta:g} x |{measures['kl']:.2f} - {self.capacity:g}|"
