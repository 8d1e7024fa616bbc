"""Replay: a step recorded once and repeated without the Python between its kernels, to the same bits."""

from .hook import Captured, Replay, captured

__all__ = ["Captured", "Replay", "captured"]
