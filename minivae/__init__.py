"""minivae: variational autoencoders from scratch, to understand them."""

from . import data, evaluate, gradcheck, nn, ops, quadrature
from .backend import set_backend, set_precision, use_backend, use_precision
from .distributions import kl
from .engine import Op, Tensor, gradients, no_grad, stop_gradient
from .errors import CheckpointError, DataError, MinivaeError, NonFiniteError, ShapeError, UsageError
from .models import VAE
from .objectives import elbo
from .random import Stream
from .replay import captured
from .runs import Run, load_model
from .training import SGD, Adam, AdamW, Trainer, TrainingConfig, losses
from .version import VERSION as __version__

__all__ = [
    "SGD",
    "VAE",
    "Adam",
    "AdamW",
    "CheckpointError",
    "DataError",
    "MinivaeError",
    "NonFiniteError",
    "Op",
    "Run",
    "ShapeError",
    "Stream",
    "Tensor",
    "Trainer",
    "TrainingConfig",
    "UsageError",
    "__version__",
    "captured",
    "data",
    "elbo",
    "evaluate",
    "gradcheck",
    "gradients",
    "kl",
    "load_model",
    "losses",
    "nn",
    "no_grad",
    "ops",
    "quadrature",
    "set_backend",
    "set_precision",
    "stop_gradient",
    "use_backend",
    "use_precision",
]
