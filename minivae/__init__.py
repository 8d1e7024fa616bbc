"""minivae: variational autoencoders from scratch, to understand them."""

import importlib
from typing import Any

from . import data, distributions, evaluate, gradcheck, inference, models, nn, objectives, ops, quadrature
from .backend import set_backend, set_precision, use_backend, use_precision
from .distributions import kl
from .engine import Op, Tensor, gradients, no_grad, stop_gradient
from .errors import CheckpointError, DataError, MinivaeError, NonFiniteError, ShapeError, UsageError
from .models import VAE
from .nn import Module
from .objectives import Objective, elbo
from .penalties import gradient_penalty, r1_penalty
from .profiling import profile
from .random import Stream
from .replay import captured
from .runs import Run, load, save
from .training import SGD, Adam, AdamW, Trainer, TrainingConfig, fit, losses
from .version import VERSION as __version__

__all__ = [
    "SGD",
    "VAE",
    "Adam",
    "AdamW",
    "CheckpointError",
    "DataError",
    "MinivaeError",
    "Module",
    "NonFiniteError",
    "Objective",
    "Op",
    "Run",
    "ShapeError",
    "Stream",
    "Tensor",
    "Trainer",
    "TrainingConfig",
    "UsageError",
    "__version__",
    "applications",
    "captured",
    "compress",
    "data",
    "distributions",
    "elbo",
    "evaluate",
    "fit",
    "gradcheck",
    "gradient_penalty",
    "gradients",
    "inference",
    "kl",
    "load",
    "losses",
    "models",
    "nn",
    "no_grad",
    "objectives",
    "ops",
    "plots",
    "profile",
    "quadrature",
    "r1_penalty",
    "save",
    "set_backend",
    "set_precision",
    "stop_gradient",
    "use_backend",
    "use_precision",
]


LATER = ("applications", "compress", "plots")  # rooms that training needs none of; mv.plots loads Matplotlib


def __getattr__(name: str) -> Any:
    """mv.plots is there when somebody asks for it."""
    if name in LATER:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
