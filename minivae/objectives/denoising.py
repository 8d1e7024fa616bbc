"""The denoising VAE: see the image through noise, and be judged by the clean one."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backend import xp
from ..distributions import sample_and_kl
from ..models import conditioned
from ..ops import add, multiply
from .base import WARMUP, Objective, kl_scale, setting, weighted


@dataclass(frozen=True)
class Denoising(Objective):
    """loss = mean_n -E_{y ~ N(x, sigma^2)} E_{q(z | y)}[log p(x | z)] + beta KL(q(z | y) || p(z)), sigma = noise, fresh noise at each step.

    Afterwards the mean of p(x | z), z ~ q(z | y), is a guess of the clean image, for noise of about this strength.
    D. I. J. Im et al., "Denoising criterion for variational auto-encoding framework", 2017, eq. 3
    """

    name: ClassVar[str] = "denoising"

    noise: float = setting(0.5, "standard deviation of the noise that the encoder sees through", 0)
    beta: float = setting(1.0, "weight of the KL", 0)
    kl_warmup: float = setting(0.0, WARMUP, 0, "EPOCHS")

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        noise: Any = rng.normal(batch.x.shape, like=batch.x)
        q = model.encode(add(batch.x, multiply(noise, xp(batch.x).asarray(self.noise, batch.x.dtype))))
        z, divergence = sample_and_kl(q, model.prior, rng)
        log_likelihood = model.decode(z).log_prob(batch.x)  # (N,)
        loss = (weighted(self.beta * kl_scale(progress, self.kl_warmup), divergence) - log_likelihood).mean()
        return {"model": loss}, {"reconstruction": -log_likelihood, "kl": divergence}
