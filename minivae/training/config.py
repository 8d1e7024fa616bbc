"""How to train, and what: the settings of a run, and the loss that they choose."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..backend import PRECISIONS
from ..errors import UsageError
from ..objectives import Terms, capacity, elbo, free_bits, importance_weighted, total_correlation
from .optimizers import SGD, Adam, AdamW, Optimizer
from .schedules import SCHEDULES

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
OBJECTIVES = ("elbo", "iwae", "tc", "factor")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.  Times are in epochs; kl_warmup and lr_warmup may be fractions of one."""

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    lr_schedule: str = "constant"
    lr_warmup: float = 0.0
    clip: float | None = None  # the largest allowed norm of the gradient
    beta: float = 1.0  # of the KL; of the total correlation, with tc; what factor adds of it, its gamma
    kl_warmup: float = 0.0  # beta rises over so many epochs; where there is a capacity, that does
    seed: int = 0
    objective: str = "elbo"
    samples: int = 1  # k of the IWAE
    capacity: float | None = None  # nats that the KL is drawn to, by beta |KL - capacity|
    free_bits: float = 0.0  # nats of each latent that cost nothing
    precision: str = "fp32"  # of products on a GPU; "tf32" for its tensor cores
    binarize: bool = False  # each epoch sees new zeros and ones, drawn with the pixels as probabilities
    critic: int = 1000  # units of each of the five layers of the critic of factor

    def __post_init__(self) -> None:
        lows = {"epochs": 0, "batch_size": 1, "lr_warmup": 0, "beta": 0, "kl_warmup": 0, "seed": 0, "samples": 1, "free_bits": 0}
        lows |= {"critic": 1} if self.capacity is None else {"critic": 1, "capacity": 0}
        for name, low in lows.items():
            if not getattr(self, name) >= low or not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name} is {getattr(self, name)}; need a number from {low} up")
        if not (self.lr > 0 and math.isfinite(self.lr)) or not (self.clip is None or self.clip > 0):
            raise UsageError(f"lr is {self.lr}, clip is {self.clip}; need positive numbers")
        for name, known in (("optimizer", OPTIMIZERS), ("lr_schedule", SCHEDULES), ("objective", OBJECTIVES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        penalties = self.beta != 1 or self.kl_warmup or self.capacity is not None or self.free_bits
        if self.objective == "iwae" and penalties:
            raise UsageError(
                "the iwae has no KL term for beta, kl_warmup, capacity or free_bits to weigh; leave them out, or take the elbo"
            )
        if self.objective != "iwae" and self.samples != 1:
            raise UsageError(f"samples is {self.samples}, and {self.objective} takes 1 of z an image; choose the objective iwae for more")
        if self.objective in ("tc", "factor") and (self.capacity is not None or self.free_bits):
            raise UsageError(
                f"{self.objective} weighs the total correlation, by beta alone; leave out capacity and free_bits, or take the elbo"
            )
        if self.objective == "tc" and self.beta == 1:
            raise UsageError("beta is 1, and there tc is the elbo; give more (the paper's is 6), or take the elbo")
        if self.capacity is not None and self.free_bits:
            raise UsageError(f"capacity is {self.capacity}, free_bits is {self.free_bits}; choose one of the two")

    def loss(self, warmed: float = 1.0, size: int = 0) -> Callable[..., Terms]:
        """The objective, (model, x, rng) -> Terms; `warmed` is how far the warm-up of the KL has come, from 0 to 1.

        `size` is the number of images in the data, which tc asks for."""
        if self.objective == "factor":
            raise UsageError("factor has two players, and a Trainer that knows both; make it by trainer_for(model, config)")
        if self.objective == "tc":
            return partial(total_correlation, size=size, beta=self.beta * warmed)
        if self.objective == "iwae":
            return partial(importance_weighted, samples=self.samples)
        if self.capacity is not None:
            return partial(capacity, beta=self.beta, capacity=self.capacity * warmed)
        if self.free_bits:
            return partial(free_bits, beta=self.beta * warmed, free=self.free_bits)
        return partial(elbo, beta=self.beta * warmed)
