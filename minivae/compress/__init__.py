"""Compression: the entropy coder.  Bits-back and the file format build on it."""

from .rans import Stack

__all__ = ["Stack"]
