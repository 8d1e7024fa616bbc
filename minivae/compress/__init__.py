"""Compression: the entropy coder."""

from .rans import Stack

__all__ = ["Stack"]
