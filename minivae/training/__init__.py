"""Training: optimizers, the loop, checkpoints, and the run folder."""

from .loop import OPTIMIZERS, Trainer, TrainingConfig, losses
from .optimizers import SGD, Adam, AdamW, clip_gradients, gradient_norm
from .run import Run, load_model

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Run",
    "Trainer",
    "TrainingConfig",
    "clip_gradients",
    "gradient_norm",
    "load_model",
    "losses",
]
