"""Training: optimizers, schedules and the loop."""

from .config import OBJECTIVES, OPTIMIZERS, TrainingConfig
from .factor import FactorTrainer, trainer_for
from .loop import Trainer, losses
from .optimizers import SGD, Adam, AdamW, clip_gradients, gradient_norm

__all__ = [
    "OBJECTIVES",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "FactorTrainer",
    "Trainer",
    "TrainingConfig",
    "clip_gradients",
    "gradient_norm",
    "losses",
    "trainer_for",
]
