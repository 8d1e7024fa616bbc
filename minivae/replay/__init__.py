"""Replay: a step recorded once and repeated without the Python between its kernels, to the same bits."""

from .program import Captured, captured

__all__ = ["Captured", "captured"]
