"""Compression: the entropy coder, bits-back coding with a VAE, a lossy codec of photos, and the files that they make."""

from .bit_swap import BitSwap, coder_of
from .bits_back import BitsBack, Block, total_bits
from .container import coder_for, compress, decompress, read_blocks, read_header
from .lossy import LossyCoder
from .portable import Portable
from .progressive import ProgressiveCoder
from .rans import Stack
from .rounding import in_integers

__all__ = [
    "BitSwap",
    "BitsBack",
    "Block",
    "LossyCoder",
    "Portable",
    "ProgressiveCoder",
    "Stack",
    "coder_for",
    "coder_of",
    "compress",
    "decompress",
    "in_integers",
    "read_blocks",
    "read_header",
    "total_bits",
]
