"""minivae: variational autoencoders from scratch, to understand them."""

from . import data, evaluate, gradcheck, nn, ops, quadrature
from .backend import set_backend, set_precision, use_backend, use_precision
from .capture import captured
from .distributions import kl
from .engine import Op, Tensor, constant, gradients, no_graph
from .errors import CheckpointError, DataError, MinivaeError, NonFiniteError, ShapeError, UsageError
from .models import VAE
from .objectives import elbo
from .random import Stream
from .training import SGD, Adam, AdamW, Run, Trainer, TrainingConfig, load_model, losses
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
    "constant",
    "data",
    "elbo",
    "evaluate",
    "gradcheck",
    "gradients",
    "kl",
    "load_model",
    "losses",
    "nn",
    "no_graph",
    "ops",
    "quadrature",
    "set_backend",
    "set_precision",
    "use_backend",
    "use_precision",
]
