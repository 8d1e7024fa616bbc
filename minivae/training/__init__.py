"""Training: optimizers, schedules and the loop."""

from .config import OPTIMIZERS, TrainingConfig
from .fit import fit
from .loop import Trainer
from .losses import losses
from .optimizers import SGD, Adam, AdamW, clip_gradients, gradient_norm

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Trainer",
    "TrainingConfig",
    "clip_gradients",
    "fit",
    "gradient_norm",
    "losses",
]
