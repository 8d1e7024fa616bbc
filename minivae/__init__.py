"""minivae: variational autoencoders from scratch, to understand them."""

from . import nn, ops
from .backend import set_backend, use_backend
from .engine import Op, Tensor, constant, gradients, no_graph
from .errors import CheckpointError, DataError, MinivaeError, NonFiniteError, ShapeError, UsageError
from .random import Stream

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DataError",
    "MinivaeError",
    "NonFiniteError",
    "Op",
    "ShapeError",
    "Stream",
    "Tensor",
    "UsageError",
    "__version__",
    "constant",
    "gradients",
    "nn",
    "no_graph",
    "ops",
    "set_backend",
    "use_backend",
]
