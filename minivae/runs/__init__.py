"""The run folder: checkpoints, the alarm for collapse, and all that a training run leaves behind."""

from .checkpoint import write_atomically
from .run import Run, labels_of
from .saved import load, save

__all__ = ["Run", "labels_of", "load", "save", "write_atomically"]
