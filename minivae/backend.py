"""Whose array is this, where does it live, and which kernels serve it.

Three backends: `numpy` runs every op's reference; `numba` (the default on a CPU) runs an op's compiled kernel where it has one and
the arrays are float32; `cupy` does the same on a GPU.  Other dtypes (float64 and complex, for checking) always run the reference.
CuPy is never imported unless somebody asks for a GPU.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

from .errors import UsageError

Array = Any  # numpy.ndarray or cupy.ndarray: CuPy is optional, so the union cannot be written down
BACKENDS = ("numpy", "numba", "cupy")

_cpu_backend: ContextVar[str] = ContextVar("cpu_backend", default="numba")
cpu_backend = _cpu_backend.get  # "numba" or "numpy": what serves CPU arrays in this thread


def xp(x: Array) -> ModuleType:
    """The array module that owns x: numpy, or cupy when x lives on a GPU."""
    if isinstance(x, np.ndarray | np.generic | float | int | complex) or "cupy" not in sys.modules:
        return np
    cupy = sys.modules["cupy"]
    return cupy if isinstance(x, cupy.ndarray) else np


def backend_of(x: Array) -> str:
    """`"cupy"` for an array on a GPU, else the backend chosen for the CPU."""
    return _cpu_backend.get() if type(x) is np.ndarray or xp(x) is np else "cupy"


def set_backend(name: str) -> None:
    """Choose the backend of CPU arrays for this thread: `"numba"` (compiled kernels) or `"numpy"` (references)."""
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if name == "cupy":
        gpu()
    else:
        _cpu_backend.set(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """`with use_backend("numpy"):` runs the references inside the block."""
    before = _cpu_backend.get()
    set_backend(name)
    try:
        yield
    finally:
        _cpu_backend.set(before)


def gpu() -> ModuleType:
    """The cupy module, or one sentence that says why there is no GPU."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise UsageError(
            "no GPU backend: CuPy is not installed; install minivae[gpu-cuda12] or minivae[gpu-cuda13], or use --device cpu"
        ) from error
    if not cupy.cuda.is_available():
        raise UsageError("no GPU found: CuPy is installed but no CUDA device or driver answers; use --device cpu")
    return cupy


def to_device(x: Array, device: str) -> Array:
    """x on `"cpu"` or `"cuda"`; no copy when it is there already."""
    if device == "cpu":
        return x if xp(x) is np else x.get()
    if device == "cuda":
        return gpu().asarray(x)
    raise UsageError(f"device {device!r} is unknown; choose cpu or cuda")
