"""How a VQ-VAE is trained."""

from dataclasses import dataclass
from typing import ClassVar

from ..distributions import Delta, kl
from ..errors import UsageError
from ..models import conditioned
from .base import Objective, setting


@dataclass(frozen=True)
class VectorQuantization(Objective):
    """loss = mean_n -log p(x | z) + |sg(said) - z|^2 + commitment |said - sg(z)|^2,  z the entries nearest to what the encoder said.

    The decoder's gradient goes to the encoder straight through z, the second term moves the entries, the third keeps the encoder near them.
    The reports are the parts of the bound on -log P(x): -log p(x | z), and the constant KL, the nats that name the entries.
    A. van den Oord, O. Vinyals and K. Kavukcuoglu, "Neural discrete representation learning", 2017, eq. 3
    """

    name: ClassVar[str] = "vq"
    default_for: ClassVar[tuple[str, ...]] = ("vq",)

    commitment: float = setting(0.25, "weight of the encoder's distance to its entries", 0)

    def losses(self, players, batch, rng, progress):
        model = conditioned(players["model"], batch.label)
        if not hasattr(model, "quantize"):
            raise UsageError(f"the objective vq trains a model with a codebook, and {type(model).__name__} has none; take --model vq")
        found = model.quantize(batch.x)
        log_likelihood = model.decode(found.z).log_prob(batch.x)
        loss = (found.codebook + found.commitment * self.commitment - log_likelihood).mean()
        return {"model": loss}, {"reconstruction": -log_likelihood, "kl": kl(Delta(found.z), model.prior)}
