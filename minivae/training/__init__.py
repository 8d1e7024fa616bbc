"""Training: optimizers, the loop, checkpoints, and the run folder."""

from .config import OBJECTIVES, OPTIMIZERS, TrainingConfig
from .factor import FactorTrainer, trainer_for
from .loop import Trainer, losses
from .optimizers import SGD, Adam, AdamW, clip_gradients, gradient_norm
from .run import Run, load_model

__all__ = [
    "OBJECTIVES",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "FactorTrainer",
    "Run",
    "Trainer",
    "TrainingConfig",
    "clip_gradients",
    "gradient_norm",
    "load_model",
    "losses",
    "trainer_for",
]
