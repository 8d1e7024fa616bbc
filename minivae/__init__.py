"""minivae: variational autoencoders from scratch, to understand them."""

from . import data, nn, ops
from . import evaluate as _room  # noqa: F401 (a room that is loaded later would take the name of the function below)
from .backend import set_backend, use_backend
from .distributions import kl
from .engine import Op, Tensor, constant, gradients, no_graph
from .errors import CheckpointError, DataError, MinivaeError, NonFiniteError, ShapeError, UsageError
from .models import VAE
from .objectives import elbo
from .random import Stream
from .training import SGD, Adam, AdamW, Run, Trainer, TrainingConfig, evaluate, load_model
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
    "constant",
    "data",
    "elbo",
    "evaluate",
    "gradients",
    "kl",
    "load_model",
    "nn",
    "no_graph",
    "ops",
    "set_backend",
    "use_backend",
]
