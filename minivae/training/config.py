"""How to train: the settings that every objective shares."""

import math
from dataclasses import dataclass

from ..backend import PRECISIONS
from ..errors import UsageError
from ..random import Stream
from .optimizers import SGD, Adam, AdamW, Optimizer
from .schedules import SCHEDULES

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.  Times are in epochs; lr_warmup may be a fraction of one."""

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    lr_schedule: str = "constant"
    lr_warmup: float = 0.0
    clip: float | None = None  # the largest allowed norm of a player's gradient
    seed: int = 0
    precision: str = "fp32"  # of products on a GPU; "tf32" for its tensor cores
    binarize: bool = False  # each epoch sees new zeros and ones, drawn with the pixels as probabilities

    def __post_init__(self) -> None:
        for name, low in {"epochs": 0, "batch_size": 1, "lr_warmup": 0, "seed": 0}.items():
            if not getattr(self, name) >= low or not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name} is {getattr(self, name)}; need a number from {low} up")
        if not (self.lr > 0 and math.isfinite(self.lr)) or not (self.clip is None or self.clip > 0):
            raise UsageError(f"lr is {self.lr}, clip is {self.clip}; need positive numbers")
        for name, known in (("optimizer", OPTIMIZERS), ("lr_schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")

    def stream(self, what: str, epoch: int) -> Stream:
        """Where an epoch draws its order, its bits or its noise from."""
        return Stream(self.seed).split(f"{what} of epoch {epoch}")
