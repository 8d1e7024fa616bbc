"""What networks in integers do on the GPU, as kernels/cpu/bits_back.py does it on a CPU, to the same bits.  Kernels: exact.cu.

Integers are in float64, where cuBLAS would have them exact as well, unless it is told to make such products of smaller numbers.
"""

from ...backend import Array
from .launcher import Kernel

PRODUCT = Kernel(
    "exact_product",
    "exact.cu",
    "float64[rows * inner] a, float64[inner * columns] w, float64[rows * columns] y, int64 rows, int64 inner, int64 columns",
    grid="spread(divide_up(rows, 4) * columns)",
)
ROUND = Kernel("exact_round", "exact.cu", "float64[n] y, float64 scale, float64 low, float64 high, int64 n", grid="spread(n)")


def product(a: Array, w: Array, y: Array) -> None:
    """y += a w.     (N, I), (I, O), (N, O)"""
    PRODUCT(a, w, y, len(a), *w.shape)


def round_off(y: Array, scale: float, low: float, high: float) -> Array:
    """scale y to the nearest integer, halves up, within low and high; in y's place."""
    ROUND(y, scale, low, high, y.size)
    return y
