"""FactorVAE's training: beside the model a critic learns to tell codes from codes with their latents shuffled, and the model to evade it.

H. Kim and A. Mnih, "Disentangling by factorising", 2018, algorithm 2.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data import batches, binarize
from ..engine import gradients
from ..errors import UsageError
from ..models import AE, critic
from ..objectives import Terms, factor_vae
from ..random import Stream
from .config import TrainingConfig
from .loop import Trainer, like
from .optimizers import Adam, clip_gradients


class FactorTrainer(Trainer):
    """A Trainer of two players, both moved once a step, from the gradients at the weights before it.

    The critic's rule is Adam with betas (0.5, 0.9), the paper's, at the model's learning rate.  Its weights and its optimizer's arrays are
    part of the state.  The codes to shuffle come from images of their own, in an order named after the epoch like all others.
    """

    players = 2

    def __init__(self, model: Any, config: TrainingConfig):
        super().__init__(model, config)
        own = model.parameters()[0].data
        self.critic = critic(model.latent, Stream(config.seed).split("weights of the critic"), (config.critic,) * 5)
        self.critic.to("cpu" if isinstance(own, np.ndarray) else "cuda", own.dtype)
        self.critic_optimizer = Adam(self.critic.parameters(), config.lr, betas=(0.5, 0.9))
        self.others: Iterator[Any] = iter(())
        self.critic_gradients: list[Any] = []

    def epoch(
        self, images: np.ndarray, progress: Callable[[int, float], None] | None = None, conditions: np.ndarray | None = None
    ) -> dict[str, float]:
        root, number = Stream(self.config.seed), self.epochs_done + 1
        order, bits = (root.split(f"{what} of the others of epoch {number}") for what in ("order", "bits"))
        drawn = batches(images, self.config.batch_size, order)
        self.others = (binarize(x, bits) for x in drawn) if self.config.binarize else drawn
        return super().epoch(images, progress, conditions)

    def step(self, x: np.ndarray, noise: Stream, where: str = "training", condition: Any = None, warmed: float = 1.0) -> tuple[float, ...]:
        """One update of both; see Trainer.step."""
        found = super().step(x, noise, where, condition, warmed)
        gs = self.critic_gradients
        self.critic_optimizer.lr = self.optimizer.lr
        self.critic_optimizer.step(gs if self.config.clip is None else clip_gradients(gs, self.config.clip))
        return found

    def loss(self, warmed: float) -> Callable[..., Terms]:
        """The model's objective at the critic as it is."""
        return lambda model, x, rng: factor_vae(model, self.critic, x, x, rng, self.config.beta * warmed)[0]

    def compiled(self, condition: Any, warmed: float) -> Callable[..., tuple[Terms, list[Any]]]:
        """The step, eager: a recording knows one loss, and here are two."""

        def both(x: Any) -> tuple[Terms, list[Any]]:
            others = like(self.model, next(self.others))
            terms, loss = factor_vae(self.model, self.critic, x, others, self.noise, self.config.beta * warmed)
            self.critic_gradients = gradients(loss, self.critic_optimizer.params)
            return terms, gradients(terms.loss, self.optimizer.params)

        return both

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, metadata = super().state()
        arrays |= {f"critic/{name}": a for name, a in self.critic.state().items()}
        return arrays | {f"critic_optimizer/{name}": a for name, a in self.critic_optimizer.state().items()}, metadata

    def load_state(self, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
        def part(prefix: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}

        self.critic.load_state(part("critic/"))
        self.critic_optimizer.load_state(part("critic_optimizer/"))
        super().load_state(arrays, metadata)


def trainer_for(model: Any, config: TrainingConfig) -> Trainer:
    """The Trainer that the config's objective asks for.  Raises UsageError where it asks for what the model has not."""
    if config.objective in ("tc", "factor"):
        if isinstance(model, AE) or model.top:
            raise UsageError(f"{config.objective} needs one Gaussian q(z | x), which the model {type(model).__name__} has not; train a vae")
        if config.objective == "factor" and model.condition_size:
            raise UsageError("factor compares codes of all images alike, and a cvae's depend on what it is told; train a vae, or take tc")
    return FactorTrainer(model, config) if config.objective == "factor" else Trainer(model, config)
