"""The IDX file format of MNIST: two zero bytes, a type code, the rank, the sizes as big-endian uint32, then the big-endian elements.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits": the section "File formats".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError, ShapeError

TYPE_CODES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def unpacked(path: Path) -> bytes:
    """The content of a file, gzip undone if it is there: its first two bytes tell, not its name."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} ({len(raw)} bytes) is a damaged gzip file: {error}") from error


def from_bytes(content: bytes, name: str = "IDX data") -> np.ndarray:
    """The array that IDX bytes spell, in the machine's byte order; read-only where no byte needed a swap.

    Raises DataError for a bad magic number, an unknown type code, and too few or too many bytes; `name` begins the sentence.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{name} is no IDX file: it begins with 0x{content[:4].hex()}; need two zero bytes, a type code and a rank")
    code, rank = content[2], content[3]
    if code not in TYPE_CODES:
        known = ", ".join(f"0x{c:02x}" for c in TYPE_CODES)
        raise DataError(f"{name}: IDX type code 0x{code:02x} is unknown; need one of {known}")
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{name} is truncated: an IDX header of rank {rank} takes {start} bytes, the file has {len(content)}")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    dtype = np.dtype(">" + TYPE_CODES[code])
    size = start + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        wrong = "is truncated" if len(content) < size else "has trailing bytes"
        raise DataError(f"{name} {wrong}: {dtype.name} of shape {shape} takes {size} bytes, the file has {len(content)}")
    try:
        array = np.frombuffer(content, dtype, math.prod(shape), offset=start) if len(content) > start else np.empty(0, dtype)
        return array.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    except ValueError as error:  # a rank above NumPy's 64 or sizes beyond its index type
        raise DataError(f"{name}: NumPy cannot hold shape {shape}: {error}") from error


def read(path: Path) -> np.ndarray:
    """The array in an IDX file, gzipped or not."""
    return from_bytes(unpacked(path), str(path))


def to_bytes(array: np.ndarray) -> bytes:
    """The IDX file of an array of uint8, int8, int16, int32, float32 or float64: the inverse of `from_bytes`."""
    codes = {np.dtype(text): code for code, text in TYPE_CODES.items()}
    native = array.dtype.newbyteorder("=")
    if native not in codes:
        raise ShapeError(f"IDX cannot hold {array.dtype}; convert to one of {', '.join(d.name for d in codes)}")
    if array.ndim > 255 or max(array.shape, default=0) >= 2**32:
        raise ShapeError(f"IDX cannot hold shape {array.shape}; need sizes below 2^32")
    header = bytes([0, 0, codes[native], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(native.newbyteorder(">"), copy=False).tobytes()
