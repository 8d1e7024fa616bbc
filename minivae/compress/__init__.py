"""Compression: the entropy coder, bits-back coding with a VAE, and the file that it makes."""

from .bits_back import BitsBack, Block, total_bits
from .container import coder_for, compress, decompress, read_blocks, read_header
from .portable import Portable
from .rans import Stack

__all__ = [
    "BitsBack",
    "Block",
    "Portable",
    "Stack",
    "coder_for",
    "compress",
    "decompress",
    "read_blocks",
    "read_header",
    "total_bits",
]
